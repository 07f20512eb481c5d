"""The errors that cross package borders. Outcomes of mail are values, not errors."""

from __future__ import annotations

from enum import Enum

from postroad.mail.reply import Reply


class ProtocolError(Exception):
    """The peer broke the grammar or the order. Answer with `reply`, count it, go on."""

    def __init__(self, message: str, reply: Reply | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class LocalProtocolError(Exception):
    """We broke the grammar or the order ourselves: a bug."""


class Refusal(Exception):
    """Understood, and no. Carries the exact reply for the peer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Unavailable(Exception):
    """Disk, DNS or a peer failed us. Always temporary: 4yz, never 5yz.

    what: short and for the trace, e.g. "dns mx two.example: timed out".
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Disconnected(Exception):
    """The peer closed or reset the connection, or it broke."""


class TimedOut(Exception):
    """The peer kept us waiting past the deadline."""


class TLSFailed(Exception):
    """The handshake failed; the connection is unusable. The text says why, for the trace."""


class Fault(Enum):
    """Why the state refused an operation; values are the words of RFC 5530 §3 where it has one."""

    NONEXISTENT = "NONEXISTENT"
    ALREADYEXISTS = "ALREADYEXISTS"
    CANNOT = "CANNOT"
    OVERQUOTA = "OVERQUOTA"
    LIMIT = "LIMIT"
    INUSE = "INUSE"
    NOPERM = "NOPERM"
    HASCHILDREN = "HASCHILDREN"
    CONFLICT = "CONFLICT"


class StateError(Exception):
    """The directory, store or queue understood an operation and will not do it; nothing changed.

    `text` may be shown to the user: it says what is wrong and what to do.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(f"{fault.value}: {text}")
        self.fault = fault
        self.text = text
