"""The server's side of one POP3 session: what may come when, lines found in octets cut anywhere.

Owns no socket. The service feeds `receive_data`, takes `next_event`, tells `authenticated`,
`begin_exchange`, `end_exchange` and `tls_started`, and writes what `replies` renders.
Input: hostile octets; a line past its bound is dropped up to its end and answered once.
Source: RFC 1939 §3-§7, RFC 2449 §4 (pipelining, lengths), RFC 2595 §4 (STLS), RFC 5034 §4.
Departs: lines may end in a bare LF (RFC 1939 §3 asks for CRLF): no client data can hide in one.
PASS may be longer than RFC 2449 §4 has it (255 octets): passwords may.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.mail.limits import POP3_LINE_OCTETS_MAX, SASL_MESSAGE_OCTETS_MAX
from postroad.protocol.pop3 import commands as c
from postroad.protocol.sasl.mechanism import PASSWORD_OCTETS_MAX

AUTH_LINE_OCTETS_MAX = SASL_MESSAGE_OCTETS_MAX + 32
PASS_LINE_OCTETS_MAX = PASSWORD_OCTETS_MAX + 32


class State(Enum):
    AUTHORIZATION = "authorization"
    TRANSACTION = "transaction"
    CLOSED = "closed"


class NeedData(Enum):
    NEED_DATA = "need data"


NEED_DATA = NeedData.NEED_DATA


@dataclass(frozen=True, slots=True)
class Bad:
    """Answer `-ERR text` and count it."""

    text: str


Event: TypeAlias = c.Command | Bad | NeedData

LEGAL: dict[State, tuple[type, ...]] = {
    State.AUTHORIZATION: (c.User, c.Pass, c.Auth, c.Stls, c.Utf8, c.Capa, c.Quit),
    State.TRANSACTION: (
        c.Stat,
        c.List,
        c.Uidl,
        c.Retr,
        c.Dele,
        c.Top,
        c.Noop,
        c.Rset,
        c.Capa,
        c.Quit,
    ),
    State.CLOSED: (),
}


class ServerConnection:
    """user: what USER named; forgotten with the next command that is not PASS."""

    def __init__(self) -> None:
        self.state = State.AUTHORIZATION
        self.user: str | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False
        self._in_exchange = False

    def receive_data(self, octets: bytes) -> None:
        self._buffer += octets

    @property
    def has_unread(self) -> bool:
        """Whether octets wait that are no part of what was taken: fatal before a handshake."""
        return bool(self._buffer) or self._skipping

    def next_event(self) -> Event:
        """The next command, in order and legal now; Bad for one that is not."""
        if self.state is State.CLOSED:
            return NEED_DATA
        line = self._next_line()
        if isinstance(line, Bad):
            if self._in_exchange:
                return c.AuthResponse(b"*")  # no base64 message is that long: give up
            return line
        if line is None:
            return NEED_DATA
        if self._in_exchange:
            return c.AuthResponse(line)
        user, self.user = self.user, None
        try:
            command = c.parse_command(line)
        except ProtocolError as error:
            return Bad(str(error))
        if not isinstance(command, LEGAL[self.state]):
            name = type(command).__name__.upper()
            return Bad(f"{name} is not allowed in the {self.state.value} state")
        if isinstance(command, c.User):
            self.user = command.name
        elif isinstance(command, c.Pass):
            if user is None:
                return Bad("USER comes first")
            self.user = user
        return command

    def _next_line(self) -> bytes | Bad | None:
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        bound = self._bound()
        if end < 0:
            self._scanned = len(buffer)
            if self._skipping:
                buffer.clear()
                self._scanned = 0
            elif len(buffer) > bound:
                self._skipping = True
                buffer.clear()
                self._scanned = 0
            return None
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        self._scanned = 0
        if self._skipping or len(line) > bound:
            self._skipping = False
            return Bad("the line is too long")
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def _bound(self) -> int:
        verb = bytes(self._buffer[:5]).upper()
        if self._in_exchange or verb == b"AUTH ":
            return AUTH_LINE_OCTETS_MAX
        if verb == b"PASS ":
            return PASS_LINE_OCTETS_MAX
        return POP3_LINE_OCTETS_MAX

    # -- what the service tells ---------------------------------------------------------------

    def begin_exchange(self) -> None:
        """The following lines are the client's SASL responses."""
        if self.state is not State.AUTHORIZATION or self._in_exchange:
            raise LocalProtocolError("no SASL exchange can begin here")
        self._in_exchange = True

    def end_exchange(self) -> None:
        self._in_exchange = False

    def authenticated(self) -> None:
        """The maildrop is locked and open (RFC 1939 §4)."""
        if self.state is not State.AUTHORIZATION:
            raise LocalProtocolError("authenticated twice")
        self.state = State.TRANSACTION
        self.user = None
        self._in_exchange = False

    def tls_started(self) -> None:
        """Everything said before is forgotten (RFC 2595 §4)."""
        if self.has_unread or self.state is not State.AUTHORIZATION:
            raise LocalProtocolError("octets from before the handshake are left")
        self.user = None

    def close(self) -> None:
        self.state = State.CLOSED
        self._buffer.clear()
