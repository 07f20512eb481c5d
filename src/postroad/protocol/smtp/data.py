"""DATA framing: wire octets to message octets, and back.

Only CRLF.CRLF ends a message, whatever stands around it: a bare CR or LF never counts as a line's
end, so two servers cannot disagree on where a message stops. What SMTP may not carry (bare CR or
LF, NUL, over-long lines) is a `DataFault`: the decoder goes on to the true end, gives out no more
octets, and the session stays usable.

Knows no session and no file. Input: hostile octets, cut anywhere; work and memory are linear in
them, in big slices, never by line.
Source: RFC 5321 §4.5.2 (dots), §2.3.8 (bare CR and LF are refused), §4.5.3.1.6 (line length).
"""

from __future__ import annotations

from enum import Enum

from postroad.mail.errors import LocalProtocolError
from postroad.mail.limits import SMTP_TEXT_LINE_OCTETS_MAX

_END = b"\r\n.\r\n"
_HELD = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
"""Beginnings of the end, longest first: octets that wait for what follows them."""


class DataFault(Enum):
    """Why SMTP may not carry a message; the value is said to the peer."""

    BARE_CR = "a CR without LF"
    BARE_LF = "a LF without CR"
    NUL = "a NUL octet"
    LONG_LINE = f"a line of more than {SMTP_TEXT_LINE_OCTETS_MAX} octets"


class Unsendable(LocalProtocolError):
    """The message cannot go over SMTP as it is: nothing that entered by SMTP raises this."""

    def __init__(self, fault: DataFault) -> None:
        super().__init__(f"the message holds {fault.value}")
        self.fault = fault


def _line_end_fault(octets: bytes) -> DataFault | None:
    """octets: never cut between CR and LF."""
    pairs = octets.count(b"\r\n")
    if octets.count(b"\n") != pairs:
        return DataFault.BARE_LF
    if octets.count(b"\r") != pairs:
        return DataFault.BARE_CR
    return DataFault.NUL if b"\0" in octets else None


class DotDecoder:
    """Takes wire octets until the end of data; gives back the message's octets as they come.

    ended: the terminator was seen; `leftover` holds what the peer sent behind it.
    fault: the first thing SMTP may not carry; from then on `feed` gives back nothing.
    """

    __slots__ = ("_held", "_line", "_start", "ended", "fault", "leftover")

    def __init__(self) -> None:
        self._held = b"\r\n"  # DATA's own line end: a dot may stand first (RFC 5321 §4.1.1.4)
        self._start = True  # that line end is not part of the message
        self._line = 0  # octets of the line given out so far
        self.ended = False
        self.fault: DataFault | None = None
        self.leftover = b""

    def feed(self, octets: bytes) -> bytes:
        """The message octets that are certain now."""
        if self.ended:
            raise LocalProtocolError("data after its end")
        wire = self._held + octets
        dot = wire.find(b"\r\n.")  # mail has few of them: mostly this is the end, or there is none
        end = wire.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            self._held = b""
            self.leftover = wire[end + 5 :]
            wire = wire[: end + 2]
        else:
            self._held = next((mark for mark in _HELD if wire.endswith(mark)), b"")
            if self._held:
                wire = wire[: -len(self._held)]
        if self.fault is not None or not wire:
            return b""
        self.fault = _line_end_fault(wire)
        if self.fault is not None:
            return b""
        text = wire if dot in (-1, end) else wire.replace(b"\r\n.", b"\r\n")
        if self._has_long_line(text):
            self.fault = DataFault.LONG_LINE
            return b""
        if self._start:
            self._start = False
            return text[2:]
        return text

    def _has_long_line(self, text: bytes) -> bool:
        """Steps from line end to the farthest line end that is near enough: few steps."""
        size = len(text)
        begin = -self._line  # where the line under way begins, in this text's coordinates
        while size - begin > SMTP_TEXT_LINE_OCTETS_MAX:
            # A line of the greatest length has its LF at begin + 999.
            stop = begin + SMTP_TEXT_LINE_OCTETS_MAX + 2
            at = text.rfind(b"\n", max(begin, 0), min(stop, size)) if stop > 0 else -1
            if at < 0:
                return True
            begin = at + 1
        self._line = size - (text.rfind(b"\n", max(begin, 0)) + 1 or begin)
        return False


class DotEncoder:
    """Takes message octets in chunks; gives back wire octets, `finish` the terminator.

    Raises: Unsendable (from either) when the message holds a bare CR, bare LF or NUL: a peer that
    takes those for line ends would see a message end where ours does not.
    """

    __slots__ = ("_held", "_start")

    def __init__(self) -> None:
        self._held = b"\r\n"
        self._start = True

    def feed(self, octets: bytes | memoryview) -> bytes:
        text = b"".join((self._held, octets))
        if text.endswith(b"\r\n"):
            self._held = b"\r\n"
        elif text.endswith(b"\r"):
            self._held = b"\r"
        else:
            self._held = b""
        if self._held:
            text = text[: -len(self._held)]
        if not text:
            return b""
        fault = _line_end_fault(text)
        if fault is not None:
            raise Unsendable(fault)
        wire = text.replace(b"\r\n.", b"\r\n..")
        if self._start:
            self._start = False
            return wire[2:]
        return wire

    def finish(self) -> bytes:
        """The end of data; a last line without CRLF gets one (RFC 5321 §4.1.1.4)."""
        if self._held == b"\r":
            raise Unsendable(DataFault.BARE_CR)
        return b".\r\n" if self._start else b"\r\n.\r\n"
