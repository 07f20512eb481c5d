"""The server's side of an SMTP session, without a socket.

`receive_data` takes what arrived, `next_event` gives one thing to answer after the other, `send`
renders the answer and moves the state along. Order is the table LEGAL. What may not be understood
or stands in the wrong place comes out as `Malformed` with its reply; the service sends it.

Knows no clock, no account and no message; trusts nobody. Holds at most one command line beside
what was received last; message octets leave as they come.
Source: RFC 5321 §4.1.4 (order), §4.5.3.1 (lengths), RFC 2920 §3.2 (pipelining), RFC 3207 §4.2
(everything is forgotten after the handshake), RFC 4954 §4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, TypeAlias

from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.mail.reply import Reply
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import (
    Auth,
    Command,
    Context,
    Data,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTLS,
    Vrfy,
    parse_command,
)
from postroad.protocol.smtp.data import DataFault, DotDecoder


class Need(Enum):
    """The core waits for more octets."""

    DATA = auto()


NEED_DATA: Literal[Need.DATA] = Need.DATA


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line the session does not take; `reply` is to be sent."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Response:
    """One line of a SASL exchange, still base64; None: the client cancelled with `*`."""

    line: bytes | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Message octets, dots undone. Not answered."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfData:
    """The true end of data. fault: why SMTP may not carry what came."""

    fault: DataFault | None


Event: TypeAlias = Command | Malformed | Response | Chunk | EndOfData


class State(Enum):
    START = auto()
    """Nobody said EHLO (or TLS has just begun)."""
    READY = auto()
    MAIL = auto()
    RCPT = auto()
    """At least one recipient was taken."""
    DATA = auto()
    AUTH = auto()
    TLS = auto()
    """The handshake is the next thing on the wire."""
    CLOSED = auto()


_IDLE = (State.START, State.READY)
_OPEN = (*_IDLE, State.MAIL, State.RCPT)

LEGAL: dict[tuple[State, type[Command]], State] = {
    **{(state, Helo): State.READY for state in _OPEN},
    (State.READY, Mail): State.MAIL,
    (State.MAIL, Rcpt): State.RCPT,
    (State.RCPT, Rcpt): State.RCPT,
    (State.RCPT, Data): State.DATA,
    (State.READY, StartTLS): State.TLS,
    (State.READY, Auth): State.READY,
    **{(state, Rset): state for state in _IDLE},
    (State.MAIL, Rset): State.READY,
    (State.RCPT, Rset): State.READY,
    **{(state, command): state for state in _OPEN for command in (Noop, Vrfy, Expn, Help)},
    **{(state, Quit): State.CLOSED for state in _OPEN},
}
"""Where each command may stand, and the state after a positive answer."""

_OUT_OF_ORDER: dict[tuple[State, type[Command]], Reply] = {
    (State.START, Mail): replies.HELO_FIRST,
    (State.START, Auth): replies.HELO_FIRST,
    (State.START, StartTLS): replies.HELO_FIRST,
    (State.READY, Rcpt): replies.MAIL_FIRST,
    (State.READY, Data): replies.MAIL_FIRST,
    (State.MAIL, Mail): replies.MAIL_TWICE,
    (State.RCPT, Mail): replies.MAIL_TWICE,
    (State.MAIL, Data): replies.NO_RECIPIENTS,  # RFC 2920 §3.1: all of them were refused
}

_CARRIES_NO_MAIL = (Helo, Rset, Noop, Vrfy, Expn, Help, StartTLS)


class ServerConnection:
    """One session.

    hostname: completes `<Postmaster>`. tls: TLS is there already.

    Between `next_event` and `send` one event awaits its answer; `Chunk` alone is not answered.
    """

    __slots__ = (
        "_at",
        "_awaiting",
        "_bad",
        "_buffer",
        "_context",
        "_decoder",
        "_exchanges",
        "_hostname",
        "_idle_commands",
        "_skipping",
        "authenticated",
        "state",
        "tls",
    )

    def __init__(self, hostname: str, *, tls: bool = False) -> None:
        self._hostname = hostname
        self._buffer = b""
        self._at = 0
        self._awaiting: Event | None = None
        self._bad = 0
        self._idle_commands = 0
        self._exchanges = 0
        self._skipping = False
        self._decoder: DotDecoder | None = None
        self._context = Context(hostname, extended=False, smtputf8=False)
        self.state = State.START
        self.authenticated = False
        self.tls = tls

    # -- octets in ---------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """What arrived. To be called when `next_event` said NEED_DATA."""
        if self._at:
            self._buffer = self._buffer[self._at :] + octets
            self._at = 0
        elif self._buffer:
            self._buffer += octets
        else:
            self._buffer = octets

    @property
    def has_unread(self) -> bool:
        """Whether octets wait that no event has spoken of."""
        return self._at < len(self._buffer)

    @property
    def is_idle(self) -> bool:
        """Whether the peer is between transactions: nothing is lost when we part now."""
        return self.state in _IDLE and self._awaiting is None

    def patience(self) -> float:
        """Seconds the peer may be silent (RFC 5321 §4.5.3.2.7)."""
        return float(limits.SMTP_IDLE_TIMEOUT_S)

    # -- events out --------------------------------------------------------------------------

    def next_event(self) -> Event | Literal[Need.DATA]:
        """The next thing to answer. Raises: LocalProtocolError while one awaits its answer."""
        if self._awaiting is not None:
            raise LocalProtocolError(f"{self._awaiting!r} was not answered")
        if self.state in (State.TLS, State.CLOSED):
            return NEED_DATA
        if self._decoder is not None:
            return self._next_of_data(self._decoder)
        line = self._next_line()
        if line is None:
            return NEED_DATA
        event = self._read(line)
        self._awaiting = event
        return event

    def _next_of_data(self, decoder: DotDecoder) -> Event | Literal[Need.DATA]:
        if not decoder.ended:
            if not self.has_unread:
                return NEED_DATA
            octets = decoder.feed(self._buffer[self._at :] if self._at else self._buffer)
            self._buffer = decoder.leftover
            self._at = 0
            if octets:
                return Chunk(octets)
            if not decoder.ended:
                return NEED_DATA
        self._decoder = None
        self._awaiting = EndOfData(decoder.fault)
        return self._awaiting

    def _next_line(self) -> bytes | Malformed | None:
        """The next line without CRLF; a line that is too long is read over to its end."""
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            if self._skipping or len(self._buffer) - self._at > self._line_octets_max() + 1:
                self._skipping = True
                self._buffer = b"\r" if self._buffer.endswith(b"\r") else b""
                self._at = 0
            return None
        start, self._at = self._at, end + 2
        if self._skipping or end - start > self._line_octets_max(start):
            self._skipping = False
            in_exchange = self.state is State.AUTH
            return Malformed(replies.AUTH_TOO_LONG if in_exchange else replies.LINE_TOO_LONG)
        return self._buffer[start:end]

    def _line_octets_max(self, start: int | None = None) -> int:
        """Without CRLF."""
        at = self._at if start is None else start
        if self.state is State.AUTH or self._buffer[at : at + 5].upper() == b"AUTH ":
            return limits.SMTP_AUTH_LINE_OCTETS_MAX - 2
        return limits.SMTP_COMMAND_OCTETS_MAX - 2

    def _read(self, line: bytes | Malformed) -> Event:
        if isinstance(line, Malformed):
            return self._counted(line.reply)
        if self.state is State.AUTH:
            return Response(None if line == b"*" else line)
        try:
            command = parse_command(line, self._context)
        except ProtocolError as error:
            assert error.reply is not None, "a command's fault has its reply"
            return self._counted(error.reply)
        if (self.state, type(command)) not in LEGAL:
            key = (self.state, type(command))
            return self._counted(_OUT_OF_ORDER.get(key, replies.BAD_SEQUENCE))
        if isinstance(command, StartTLS) and self.tls:
            return self._counted(replies.TLS_ALREADY)
        if isinstance(command, StartTLS) and self.has_unread:
            # Plaintext behind STARTTLS: somebody in the middle may have put it there, to be read
            # as if it had come through TLS. Nothing of it is looked at.
            self._forget_input()
            return Malformed(replies.TLS_PIPELINED)
        if isinstance(command, Auth):
            if self.authenticated:
                return self._counted(replies.AUTHENTICATED_ALREADY)
            self._exchanges += 1
            if self._exchanges > limits.SMTP_AUTH_EXCHANGES_MAX:
                return Malformed(replies.TOO_MANY_ERRORS)
        if isinstance(command, _CARRIES_NO_MAIL):
            self._idle_commands += 1
            if self._idle_commands > limits.SMTP_IDLE_COMMANDS_MAX:
                return Malformed(replies.TOO_MANY_COMMANDS)
        return command

    def _counted(self, reply: Reply) -> Malformed:
        self._bad += 1
        if self._bad > limits.SMTP_BAD_COMMANDS_MAX:
            return Malformed(replies.TOO_MANY_ERRORS)
        return Malformed(reply)

    def _forget_input(self) -> None:
        self._buffer = b""
        self._at = 0

    # -- answers -----------------------------------------------------------------------------

    def greet(self, reply: Reply) -> bytes:
        """The greeting, or a refusal to talk (RFC 5321 §3.1: 554)."""
        if not reply.is_positive:
            self.state = State.CLOSED
        return reply.render()

    def send(self, reply: Reply) -> bytes:
        """Answers the event that awaits it; 421 in place of any answer ends the session.

        Raises: LocalProtocolError when nothing awaits an answer and this is no 421.
        """
        event, self._awaiting = self._awaiting, None
        if event is None and reply.code != 421:
            raise LocalProtocolError(f"nothing awaits {reply}")
        octets = reply.render()
        if reply.code == 421 or reply is replies.TLS_PIPELINED:
            self._close()
            return octets
        match event:
            case EndOfData():
                self._idle_commands = 0
                self._end_transaction()
            case Response() | Auth():
                self._answer_auth(reply)
            case Malformed():
                if self.state is State.AUTH:
                    self.state = State.READY
            case None | Chunk():
                raise LocalProtocolError(f"{event!r} is not answered")
            case _:
                if reply.is_positive:
                    self._advance(event)
        return octets

    def _answer_auth(self, reply: Reply) -> None:
        if reply.code == 334:
            self.state = State.AUTH
            return
        self.state = State.READY
        self.authenticated = reply.code == 235

    def _advance(self, command: Command) -> None:
        self.state = LEGAL[self.state, type(command)]
        match command:
            case Helo():
                self._context = Context(self._hostname, command.extended, False)
            case Mail() if command.smtputf8:
                self._context = Context(self._hostname, self._context.extended, True)
            case Rset():
                self._forget_smtputf8()
            case Data():
                self._decoder = DotDecoder()
            case Quit():
                self._close()
            case _:
                pass

    def _end_transaction(self) -> None:
        self.state = State.READY
        self._forget_smtputf8()

    def _forget_smtputf8(self) -> None:
        if self._context.smtputf8:
            self._context = Context(self._hostname, self._context.extended, False)

    def _close(self) -> None:
        self.state = State.CLOSED
        self._decoder = None
        self._forget_input()

    def tls_started(self) -> None:
        """The handshake is done: all that was said before is forgotten (RFC 3207 §4.2)."""
        if self.state is not State.TLS or self.has_unread:
            raise LocalProtocolError("TLS begins behind STARTTLS, with nothing left unread")
        self.state = State.START
        self.tls = True
        self.authenticated = False
        self._context = Context(self._hostname, extended=False, smtputf8=False)


def ehlo_reply(hostname: str, peer: str, extensions: tuple[str, ...]) -> Reply:
    """The answer to EHLO; without enhanced codes (RFC 2034 §4)."""
    return Reply(250, None, (f"{hostname} greets {peer}", *extensions))
