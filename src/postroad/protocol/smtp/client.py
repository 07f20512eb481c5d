"""The client side of an SMTP session: commands out, replies in, in the right order.

The caller writes what `octets_to_send` gives, feeds what it reads to `receive_data`, and asks
`next_event` until it needs data. Greeting, EHLO with its fallback, pipelining, the end of a
transaction that nobody takes and RSET between transactions happen in here.

Knows no socket, no clock, no queue and no routing. Trusts nobody: replies are bounded and must be
well-formed, else `ProtocolError` (the connection is then of no use); octets behind the 220 of
STARTTLS are refused; a message with a bare CR, bare LF or NUL never leaves (`Unsendable`).
Source: RFC 5321 §3, §4.2, §4.5.4; RFC 2920 §3.1; RFC 3207 §4.2; RFC 3461 §5.2.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from postroad.mail import limits
from postroad.mail.address import domain_key
from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.mail.reply import Reply
from postroad.protocol.smtp.client_words import (
    NEED_DATA,
    PATIENCE_S,
    Answer,
    ClientEvent,
    ContentWanted,
    Done,
    Extensions,
    Greeted,
    Hailed,
    Lost,
    NeedData,
    Refused,
    Stage,
    TLSReady,
    Transaction,
    render_mail,
    render_rcpt,
)
from postroad.protocol.smtp.data import DotEncoder

__all__ = [
    "NEED_DATA",
    "PATIENCE_S",
    "Answer",
    "ClientConnection",
    "ClientEvent",
    "ContentWanted",
    "Done",
    "Extensions",
    "Greeted",
    "Hailed",
    "Lost",
    "NeedData",
    "Refused",
    "Stage",
    "TLSReady",
    "Transaction",
]

_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)

_KNOWN_LINE_OCTETS_MAX = 60
"""Replies up to here are parsed once: peers say the same few words for every message."""

PIPELINE_OCTETS_MAX = 16_384
"""Commands sent and not yet answered: their replies must fit the peer's send buffer, or both
sides would wait for the other to read (RFC 2920 §3.1)."""


@lru_cache(maxsize=512)
def _single(line: bytes) -> Reply | None:
    """The reply when this line is all of it and well-formed."""
    match = _REPLY_LINE.match(line)
    if match is None or match[2] == b"-":
        return None
    return Reply.parse(int(match[1]), ((match[3] or b"").decode("utf-8", "replace"),))


class State(Enum):
    GREETING = auto()
    HELLO = auto()
    READY = auto()
    STARTTLS = auto()
    HANDSHAKE = auto()
    """220 to STARTTLS came: not one plaintext octet more is taken."""
    TRANSACTION = auto()
    CONTENT = auto()
    """354 came: the message goes out."""
    QUIT = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class _Command:
    stage: Stage
    octets: bytes
    recipient: int = -1


class ClientConnection:
    """One session with one peer, seen from the client. hostname: our own, for EHLO."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname if hostname.isascii() else domain_key(hostname)
        self._state = State.GREETING
        self._unsent: deque[_Command] = deque()
        self._unanswered: deque[_Command] = deque((_Command(Stage.GREETING, b""),))
        self._flight_octets = 0
        self._buffer = bytearray()
        self._scanned = 0
        self._code = b""
        self._texts: list[str] = []
        self._reply_octets = 0
        self._events: deque[ClientEvent] = deque()
        self._ended = False
        self._used = False
        self._encoder: DotEncoder | None = None
        self._answers: list[Answer | None] = []
        self._accepted: list[int] = []
        self._refused_mail = False
        self.content_sent = False
        """The end of data of the running or last transaction went out: the peer may have it."""
        self.replies = 0
        """How many were taken: whoever waits for the next one knows when it began to."""
        self.extensions = Extensions()

    # -- What the caller reads ----------------------------------------------------------------
    @property
    def is_ready(self) -> bool:
        """Whether a transaction may begin."""
        return self._state is State.READY and not self._buffer and not self._ended

    @property
    def is_closed(self) -> bool:
        return self._state is State.CLOSED

    @property
    def answers(self) -> tuple[Answer | None, ...]:
        """Of the running or last transaction's recipients, in order; None: undecided."""
        return tuple(self._answers)

    @property
    def stage(self) -> Stage:
        """What the next reply will answer."""
        if self._unanswered:
            return self._unanswered[0].stage
        if self._state is State.CONTENT:
            return Stage.BLOCK
        return self._unsent[0].stage if self._unsent else Stage.RSET

    def patience(self) -> float:
        """How many seconds the next reply may take. Source: RFC 5321 §4.5.3.2."""
        return PATIENCE_S[self.stage]

    # -- What the caller does -----------------------------------------------------------------
    def receive_data(self, octets: bytes) -> None:
        """Takes what the peer sent; b"" is its end.

        Raises: ProtocolError for plaintext behind the 220 of STARTTLS.
        """
        if not octets:
            self._ended = True
        elif self._state is State.HANDSHAKE:
            raise ProtocolError("plaintext behind the reply to STARTTLS")
        elif self._state is not State.CLOSED:
            self._buffer += octets

    def octets_to_send(self) -> bytes:
        """What may go out now: all of a pipeline's commands, or the one next command."""
        out = []
        pipelined = "PIPELINING" in self.extensions
        while self._unsent:
            command = self._unsent[0]
            if self._unanswered:
                if not pipelined:
                    break
                if self._flight_octets + len(command.octets) > PIPELINE_OCTETS_MAX:
                    break
            out.append(command.octets)
            self._flight_octets += len(command.octets)
            self._unanswered.append(self._unsent.popleft())
        return b"".join(out)

    def next_event(self) -> ClientEvent | NeedData:
        """What happened next. Raises: ProtocolError for a malformed or misplaced reply."""
        while not self._events:
            if self._state is State.CLOSED:
                return NEED_DATA
            try:
                reply = self._next_reply()
                if reply is None:
                    if not self._ended:
                        return NEED_DATA
                    self._lose(None)
                else:
                    self.replies += 1
                    self._take(reply)
            except ProtocolError:
                self._state = State.CLOSED
                raise
        return self._events.popleft()

    def start_tls(self) -> None:
        self._expect(State.READY)
        if "STARTTLS" not in self.extensions:
            raise LocalProtocolError("STARTTLS was not offered")
        self._state = State.STARTTLS
        self._unsent.append(_Command(Stage.STARTTLS, b"STARTTLS\r\n"))

    def tls_started(self) -> None:
        """Forgets what was said in plaintext and says EHLO again. Source: RFC 3207 §4.2."""
        self._expect(State.HANDSHAKE)
        self.extensions = Extensions()
        self._used = False
        self._hello(Stage.EHLO)

    def begin(self, transaction: Transaction) -> None:
        """Puts the commands of a transaction in line; the former one is reset first."""
        self._expect(State.READY)
        commands = [_Command(Stage.MAIL, render_mail(transaction, self.extensions))]
        for number, recipient in enumerate(transaction.recipients):
            line = render_rcpt(recipient, self.extensions, transaction.smtputf8)
            commands.append(_Command(Stage.RCPT, line, number))
        commands.append(_Command(Stage.DATA, b"DATA\r\n"))
        if self._used:
            self._unsent.append(_Command(Stage.RSET, b"RSET\r\n"))
        self._unsent.extend(commands)
        self._state = State.TRANSACTION
        self._used = True
        self._answers = [None] * len(transaction.recipients)
        self._accepted = []
        self._refused_mail = False
        self.content_sent = False

    def send_content(self, octets: bytes | memoryview) -> bytes:
        """The wire octets of a chunk of the message.

        Raises: Unsendable; the connection must then be dropped, so that no dot ever follows.
        """
        self._expect(State.CONTENT)
        assert self._encoder is not None
        try:
            return self._encoder.feed(octets)
        except LocalProtocolError:
            self._state = State.CLOSED
            raise

    def end_content(self) -> bytes:
        """The wire octets of the message's end. From here on the peer may have taken it.

        Raises: Unsendable, as `send_content`.
        """
        self._expect(State.CONTENT)
        assert self._encoder is not None
        try:
            octets = self._encoder.finish()
        except LocalProtocolError:
            self._state = State.CLOSED
            raise
        self._encoder = None
        self.content_sent = True
        self._unanswered.append(_Command(Stage.CONTENT, b""))
        self._state = State.TRANSACTION
        return octets

    def quit(self) -> None:
        self._expect(State.READY)
        self._state = State.QUIT
        self._unsent.append(_Command(Stage.QUIT, b"QUIT\r\n"))

    # -- Replies ------------------------------------------------------------------------------
    def _expect(self, state: State) -> None:
        if self._state is not state:
            raise LocalProtocolError(f"the session is in {self._state.name}, not {state.name}")

    def _next_reply(self) -> Reply | None:
        """The next whole reply. Lines may end with a bare LF: nothing hangs on it here.

        Source: RFC 5321 §4.2.1.
        """
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if end < 0:
                self._scanned = len(self._buffer)
                if self._reply_octets + self._scanned > limits.SMTP_REPLY_OCTETS_MAX:
                    raise ProtocolError("the reply is too long")
                return None
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            self._scanned = 0
            if not self._texts and len(line) <= _KNOWN_LINE_OCTETS_MAX:
                known = _single(line)
                if known is not None:
                    return known
            self._reply_octets += end + 1
            match = _REPLY_LINE.match(line)
            if match is None:
                raise ProtocolError(f"not a reply: {line[:80]!r}")
            if self._texts and match[1] != self._code:
                raise ProtocolError("the lines of a reply carry different codes")
            self._code = match[1]
            self._texts.append((match[3] or b"").decode("utf-8", "replace"))
            if len(self._texts) > limits.SMTP_REPLY_LINES_MAX:
                raise ProtocolError("the reply has too many lines")
            if self._reply_octets > limits.SMTP_REPLY_OCTETS_MAX:
                raise ProtocolError("the reply is too long")
            if match[2] != b"-":
                reply = Reply.parse(int(self._code), tuple(self._texts))
                self._texts = []
                self._reply_octets = 0
                return reply

    def _take(self, reply: Reply) -> None:
        if not self._unanswered:
            self._take_unasked(reply)
            return
        command = self._unanswered.popleft()
        self._flight_octets -= len(command.octets)
        if 300 <= reply.code < 400 and command.stage is not Stage.DATA:
            raise ProtocolError(f"{reply.code} to {command.stage.value}")
        match command.stage:
            case Stage.GREETING | Stage.EHLO | Stage.HELO:
                self._take_hello(command.stage, reply)
            case Stage.STARTTLS:
                self._take_starttls(reply)
            case Stage.QUIT:
                self._lose(reply, Stage.QUIT)
            case _ if reply.code == 421:
                self._lose_transaction(command.stage, reply)
            case Stage.RSET:
                if not reply.is_positive:
                    self._lose(reply, Stage.RSET)
            case _:
                self._take_transaction(command, reply)

    def _take_unasked(self, reply: Reply) -> None:
        """A reply before we said anything: the peer closes, or refuses a message half sent."""
        if reply.is_positive:
            raise ProtocolError(f"{reply.code} to nothing")
        if self._state is State.CONTENT:
            self._lose_transaction(Stage.BLOCK, reply)
        elif reply.code == 421:
            self._lose(reply)
        else:
            raise ProtocolError(f"{reply.code} to nothing")

    def _take_hello(self, stage: Stage, reply: Reply) -> None:
        if reply.is_positive:
            if stage is Stage.GREETING:
                self._events.append(Greeted(reply))
                self._hello(Stage.EHLO)
                return
            self.extensions = Extensions.parse(reply) if stage is Stage.EHLO else Extensions()
            self._state = State.READY
            self._events.append(Hailed(self.extensions))
        elif stage is Stage.EHLO and reply.is_permanent:
            self._hello(Stage.HELO)  # RFC 5321 §3.2
        else:
            self._state = State.CLOSED
            self._events.append(Refused(stage, reply))

    def _hello(self, stage: Stage) -> None:
        self._state = State.HELLO
        verb = "EHLO" if stage is Stage.EHLO else "HELO"
        self._unsent.append(_Command(stage, f"{verb} {self._hostname}\r\n".encode("ascii")))

    def _take_starttls(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._state = State.CLOSED if reply.code == 421 else State.READY
            self._events.append(Refused(Stage.STARTTLS, reply))
            return
        if self._buffer:
            raise ProtocolError("plaintext behind the reply to STARTTLS")
        self._state = State.HANDSHAKE
        self._events.append(TLSReady())

    # -- A transaction's replies --------------------------------------------------------------
    def _take_transaction(self, command: _Command, reply: Reply) -> None:
        match command.stage:
            case Stage.MAIL:
                if not reply.is_positive:
                    self._refused_mail = True
                    self._answer_all(Answer(Stage.MAIL, reply))
            case Stage.RCPT:
                if self._answers[command.recipient] is None:
                    if reply.is_positive and not self._refused_mail:
                        self._accepted.append(command.recipient)
                    else:
                        self._answers[command.recipient] = Answer(Stage.RCPT, reply)
            case Stage.DATA:
                if self._take_data(reply):
                    return
            case Stage.CONTENT:
                self._answer_all(Answer(Stage.CONTENT, reply))
            case _:
                assert command.stage is Stage.NOTHING
        if all(self._answers):
            self._unsent.clear()  # without a recipient there is no sense in DATA
            if not self._unanswered:
                self._finish()

    def _take_data(self, reply: Reply) -> bool:
        """Whether the transaction goes on."""
        if reply.is_permanent or reply.is_temporary:
            self._answer_all(Answer(Stage.DATA, reply))
            return False
        if reply.code != 354:
            raise ProtocolError(f"{reply.code} to DATA")
        if self._accepted:
            self._state = State.CONTENT
            self._encoder = DotEncoder()
            self._events.append(ContentWanted())
        else:  # RFC 2920 §3.1: the peer waits for data that nobody is to get
            self._unsent.append(_Command(Stage.NOTHING, b".\r\n"))
        return True

    def _answer_all(self, answer: Answer) -> None:
        self._answers = [known or answer for known in self._answers]

    def _finish(self) -> None:
        answers = tuple(answer for answer in self._answers if answer is not None)
        assert len(answers) == len(self._answers)
        if self._state is not State.CLOSED:
            self._state = State.READY
        self._events.append(Done(answers))

    def _lose_transaction(self, stage: Stage, reply: Reply) -> None:
        """The peer ends the session: whoever is undecided has this answer."""
        self._state = State.CLOSED
        if stage is Stage.RSET:
            self._events.append(Lost(stage, reply))  # nothing of this message was said
            return
        self._answer_all(Answer(stage, reply))
        self._finish()

    def _lose(self, reply: Reply | None, stage: Stage | None = None) -> None:
        stage = stage or self.stage
        self._state = State.CLOSED
        self._events.append(Lost(stage, reply))
