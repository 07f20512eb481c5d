"""One connection to one peer: the SMTP client core meets a stream.

Opens (dial, greeting, EHLO, TLS when offered), carries transactions, quits. TLS is opportunistic:
the certificate is not checked, and when the handshake fails the caller comes back in plaintext,
since an unauthenticated peer gains nothing from our refusal (RFC 7435 §3).

Knows no queue and no routing. Trusts nobody: every wait has the deadline of its command, and what
breaks ends as a reply in our own words, never as an exception, so that one peer harms one attempt.
A deadline is for the whole reply, and one more for all of them together: a peer that says an octet
a minute holds nothing for long.
Source: RFC 5321 §4.5.3.2 (timeouts), RFC 3207 §4, RFC 3463 §3.5 (4.4.x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroad.delivery.content import Content
from postroad.delivery.outcome import Peer
from postroad.mail.errors import Disconnected, ProtocolError, TimedOut, TLSFailed
from postroad.mail.reply import Reply
from postroad.protocol.smtp.client import (
    NEED_DATA,
    PATIENCE_S,
    Answer,
    ClientConnection,
    ClientEvent,
    ContentWanted,
    Done,
    Extensions,
    Hailed,
    Lost,
    Refused,
    Stage,
    TLSReady,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from postroad.net.contract import Dialer, Stream

DIAL_TIMEOUT_S = 30.0
TLS_TIMEOUT_S = 60.0
INTRODUCTION_S_MAX = 600.0
"""From the greeting to the last EHLO, whatever each of them may take."""
TRANSACTION_S_MAX = 1800.0
"""From MAIL to the last octet, beside the time that the message itself takes."""
OCTETS_PER_S_MIN = 1000
"""A peer that takes a message more slowly than this holds a connection that others need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One address to dial. host: its name, or the address itself for a literal."""

    host: str
    address: str
    port: int

    @property
    def is_literal(self) -> bool:
        return self.host == self.address


@dataclass(frozen=True, slots=True)
class Unreached:
    """No session. reply: the peer's (`by_peer`) or in our words; temporary or not by its code."""

    reply: Reply
    by_peer: bool = False


@dataclass(frozen=True, slots=True)
class TLSBroken:
    """The handshake failed: the connection is gone, plaintext is left."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a transaction ended. answers: one for each recipient, None while undecided.

    failure: why somebody is undecided; by_peer: in the peer's words. content_sent: the end of
    data went out, so the peer may have taken the message for those who are undecided.
    """

    answers: tuple[Answer | None, ...]
    failure: Reply | None = None
    content_sent: bool = False
    by_peer: bool = False


def _broken(stage: Stage, how: str) -> Reply:
    """RFC 3463 §3.5: X.4.2, bad connection."""
    return Reply.of(451, "4.4.2", f"The connection {how} (at {stage.value})")


class Session:
    """A connection that is ready for transactions. One caller at a time."""

    def __init__(
        self, target: Target, stream: Stream, hostname: str, monotonic: Callable[[], float]
    ) -> None:
        self._monotonic = monotonic
        self._until = monotonic() + INTRODUCTION_S_MAX
        self._target = target
        self._stream = stream
        self._conn = ClientConnection(hostname)
        self._silent = False  # nothing more may be said: the connection or its order is broken
        self.transactions = 0

    @classmethod
    async def open(
        cls,
        dialer: Dialer,
        target: Target,
        hostname: str,
        tls: SSLContext | None,
        monotonic: Callable[[], float],
    ) -> Session | Unreached | TLSBroken:
        """Dials and says EHLO; tls: None keeps to plaintext. Cancelled, it leaves nothing open."""
        try:
            stream = await dialer.dial(target.address, target.port, timeout_s=DIAL_TIMEOUT_S)
        except TimedOut:
            return Unreached(Reply.of(451, "4.4.1", "Dialling took too long"))
        except Disconnected as error:
            return Unreached(Reply.of(451, "4.4.1", f"No connection ({_one_line(error)})"))
        session = cls(target, stream, hostname, monotonic)
        try:
            failure = await session._introduce(tls)
        except BaseException:
            stream.abort()
            raise
        if failure is None:
            return session
        await session.close()
        return failure

    @property
    def peer(self) -> Peer:
        tls = self._stream.tls
        return Peer(
            host=self._target.host,
            address=self._target.address,
            tls=tls.version if tls is not None else "",
            dsn="DSN" in self.extensions,
        )

    @property
    def extensions(self) -> Extensions:
        return self._conn.extensions

    @property
    def is_usable(self) -> bool:
        return self._conn.is_ready and not self._silent

    async def transact(self, transaction: Transaction, content: Content) -> Ending:
        """Sends one message. Never raises for what a peer can do."""
        self.transactions += 1
        self._until = self._monotonic() + TRANSACTION_S_MAX + content.size / OCTETS_PER_S_MIN
        self._conn.begin(transaction)
        try:
            event = await self._next()
            if isinstance(event, ContentWanted):
                await self._send(content)
                event = await self._next()
        except TimedOut:
            return self._undecided("timed out")
        except ProtocolError as error:
            self._silent = True
            text = f"The peer broke the protocol at {self._conn.stage.value}: {_one_line(error)}"
            return Ending(self._conn.answers, Reply.of(451, "4.5.0", text), self._conn.content_sent)
        except BaseException:
            self._stream.abort()
            raise
        match event:
            case Done(answers):
                return Ending(answers)
            case Lost(stage, reply):
                failure = reply if reply is not None and reply.is_temporary else None
                return self._undecided("was lost", failure, stage)
            case _:
                raise AssertionError(f"{event} ends no transaction")

    async def close(self) -> None:
        """QUIT when there is somebody to say it to, then closes. Idempotent."""
        try:
            if self.is_usable:
                self._until = self._monotonic() + PATIENCE_S[Stage.QUIT]
                self._conn.quit()
                await self._next()  # Lost, with or without the 221
        except (TimedOut, Disconnected, ProtocolError):
            pass  # we were leaving
        finally:
            await self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    # -- Talking ------------------------------------------------------------------------------
    async def _introduce(self, tls: SSLContext | None) -> Unreached | TLSBroken | None:
        try:
            event = await self._next()
            while not isinstance(event, Hailed):
                if isinstance(event, Refused):
                    return Unreached(event.reply, by_peer=True)
                if isinstance(event, Lost):
                    return Unreached(_broken(event.stage, "was lost"))
                event = await self._next()
            if tls is not None and "STARTTLS" in event.extensions:
                return await self._secure(tls)
        except TimedOut:
            return Unreached(_broken(self._conn.stage, "timed out"))
        except ProtocolError as error:
            text = f"The peer broke the protocol: {_one_line(error)}"
            return Unreached(Reply.of(451, "4.5.0", text))
        return None

    async def _secure(self, tls: SSLContext) -> Unreached | TLSBroken | None:
        """STARTTLS. A peer that takes it back (454) is served in plaintext (RFC 3207 §4)."""
        self._conn.start_tls()
        try:
            event = await self._next()
            if isinstance(event, Refused):
                return None if self._conn.is_ready else Unreached(event.reply, by_peer=True)
            if not isinstance(event, TLSReady):
                return TLSBroken("the connection was lost at STARTTLS")
            name = None if self._target.is_literal else self._target.host
            await self._stream.start_tls_client(tls, name, TLS_TIMEOUT_S)
        except ProtocolError as error:
            return TLSBroken(_one_line(error))
        except (TLSFailed, TimedOut, Disconnected) as error:
            self._silent = True
            return TLSBroken(_one_line(error) or type(error).__name__)
        self._conn.tls_started()
        event = await self._next()
        if isinstance(event, Refused):
            return Unreached(event.reply, by_peer=True)
        if isinstance(event, Lost):  # some peers hang up on what the handshake agreed on
            return TLSBroken("the connection was lost behind the handshake")
        return None

    async def _next(self) -> ClientEvent:
        """Writes what may go and reads until something happens. Raises: TimedOut, ProtocolError."""
        conn = self._conn
        heard, began = -1, 0.0
        try:
            while True:
                event = conn.next_event()
                octets = conn.octets_to_send()
                if octets:
                    await self._write(octets, conn.patience())
                if event is not NEED_DATA:
                    return event
                if heard != conn.replies:
                    heard, began = conn.replies, self._monotonic()
                conn.receive_data(await self._read(began + conn.patience()))
        except (TimedOut, ProtocolError):
            self._silent = True
            raise

    async def _read(self, deadline: float) -> bytes:
        """What came, b"" at the end of the connection however it came. Raises: TimedOut."""
        left = min(deadline, self._until) - self._monotonic()
        if left <= 0:
            raise TimedOut("the reply takes too long")
        try:
            return await self._stream.read(left)
        except Disconnected:
            return b""

    async def _write(self, octets: bytes | list[bytes], timeout_s: float) -> bool:
        """Whether it went out. A peer that hung up may have said why: reading tells."""
        left = min(timeout_s, self._until - self._monotonic())
        if left <= 0:
            raise TimedOut("the message takes too long")
        try:
            await self._stream.write(octets, left)
        except Disconnected:
            return False
        return True

    async def _send(self, content: Content) -> None:
        """The message and its end. Raises: TimedOut, ProtocolError."""
        conn = self._conn
        held: list[bytes] = []
        for piece in content.slices():
            if held and not await self._write(held, PATIENCE_S[Stage.BLOCK]):
                return  # before the dot: no harm done, the reply or the end is read next
            held = [conn.send_content(piece)]
        held.append(conn.end_content())
        await self._write(held, PATIENCE_S[Stage.BLOCK])
        self._until = self._monotonic() + PATIENCE_S[Stage.CONTENT]

    def _undecided(
        self, how: str, failure: Reply | None = None, stage: Stage | None = None
    ) -> Ending:
        self._silent = True
        stage = stage or self._conn.stage
        conn = self._conn
        said = failure or _broken(stage, how)
        return Ending(conn.answers, said, conn.content_sent, by_peer=failure is not None)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].replace("\0", " ")
