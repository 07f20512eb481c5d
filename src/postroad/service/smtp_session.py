"""One SMTP session: the core meets a stream. What port 25 and submission have in common.

Reads, answers, starts TLS, runs SASL exchanges, lets message octets flow into a draft, and sees to
it that whatever goes wrong is answered 4yz and traced, that no wait is without end, and that a
draft never outlives its transaction. What a sender or recipient may do is the subclass's.
Source: RFC 5321 §4.2.5, §4.5.3.2 (timeouts), RFC 2920 §3.2, RFC 3207, RFC 4954.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import TypeVar

from postroad.mail import limits
from postroad.mail.envelope import Recipient
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.reply import Reply
from postroad.message.header import Header, header_end
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import (
    Auth,
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
)
from postroad.protocol.smtp.data import DataFault
from postroad.protocol.smtp.server import (
    NEED_DATA,
    Chunk,
    EndOfData,
    Event,
    Malformed,
    Response,
    ServerConnection,
    State,
    ehlo_reply,
)
from postroad.service.site import Site
from postroad.service.smtp_events import (
    MessageRefused,
    RecipientRefused,
    SenderRefused,
    SessionEnded,
    SessionFailed,
    SessionStarted,
    TLSStarted,
)
from postroad.service.smtp_login import Login
from postroad.service.smtp_transaction import Transaction
from postroad.store.contract import Draft
from postroad.trace.event import Event as TraceEvent

R = TypeVar("R")

REPLIES_OCTETS_MAX = 16384
"""Answers to pipelined commands that wait for one write."""
WRITE_TIMEOUT_S = 300.0
ON_LOOP_OCTETS_MAX = 256 << 10
"""A larger message is scanned, hashed and compressed on a thread."""
HEADER_WEIGHT = 8
"""An octet of a header costs so many of a body: hostile grammar, half a second a megabyte."""
FLOOD_FACTOR = 2
FLOOD_OCTETS = 1 << 20
"""A message past the limit is read over to its end, to be answered in its place; up to here."""
BUGS_MAX = 3
"""Failures of ours in one session before it ends."""


_DATA_FAULTS = {
    DataFault.BARE_CR: Reply.of(550, "5.6.11", "Refused: the message holds a CR without LF"),
    DataFault.BARE_LF: Reply.of(550, "5.6.11", "Refused: the message holds a LF without CR"),
    DataFault.NUL: Reply.of(550, "5.6.0", "Refused: the message holds a NUL octet"),
    DataFault.LONG_LINE: Reply.of(
        550, "5.6.0", f"Refused: the message holds {DataFault.LONG_LINE.value}"
    ),
}


def weight(octets: memoryview, header: Header) -> int:
    """What looking through a message costs, as octets of body."""
    return len(octets) + HEADER_WEIGHT * len(header.raw)


class Flooded(Exception):
    """The peer sends on far past the limit it was told."""


class SMTPSession:
    """Serves one stream from greeting to end. A subclass says what is allowed.

    login: None where nobody logs in.
    """

    service = "smtp"
    greeting = "ESMTP Postroad"

    def __init__(self, site: Site, stream: Stream) -> None:
        self.site = site
        self.stream = stream
        self.id = f"{site.clock.random_bits(48):012x}"
        self.connection = ServerConnection(site.hostname, tls=stream.tls is not None)
        self.helo: Helo | None = None
        self.login: Login | None = None
        self.transaction: Transaction | None = None
        self.accepted = 0
        self._bugs = 0
        self._refused = 0
        self._since = 0.0
        self._task: asyncio.Task[None] | None = None
        self._reading = False
        self._drained = False

    # -- what a subclass says ----------------------------------------------------------------

    async def on_mail(self, mail: Mail) -> Reply:
        """Answers a MAIL that keeps to the limits."""
        raise AssertionError("a session says whom it takes mail from")

    async def on_rcpt(self, recipient: Recipient, transaction: Transaction) -> Reply:
        """Answers a RCPT within the limits; a positive answer adds the recipient."""
        raise AssertionError("a session says whom it takes mail for")

    async def on_message(self, draft: Draft, transaction: Transaction) -> Reply:
        """Takes a message in. The draft is discarded by the caller on every path."""
        raise AssertionError("a session says what becomes of a message")

    def on_transaction_end(self, transaction: Transaction) -> None:
        """Whatever a transaction left running is to be stopped."""

    # -- the conversation --------------------------------------------------------------------

    async def run(self) -> None:
        """Never raises but CancelledError (unless drained)."""
        peer, port = self.stream.peer
        self._task = asyncio.current_task()
        self.trace(SessionStarted(session=self.id, service=self.service, peer=peer, port=port))
        reason = "closed"
        try:
            reason = await self._converse()
        except TimedOut:
            reason = "timed out"
            await self._part(replies.TIMED_OUT)
        except Disconnected as error:
            reason = f"disconnected: {error}"
        except TLSFailed as error:
            reason = f"tls: {error}"
        except asyncio.CancelledError:
            if not self._drained:
                raise
            reason = "drained"
            if self._task is not None:
                self._task.uncancel()
            await self._part(replies.DRAINING)
        except Flooded:
            reason = "flooded"
            await self._part(replies.FLOOD)
        except Exception:
            self._failed("conversing")
            reason = "a bug of ours"
            await self._part(replies.OUR_FAULT_CLOSING)
        finally:
            self._end_transaction()
            self.trace(SessionEnded(session=self.id, reason=reason, accepted=self.accepted))

    def drain(self) -> None:
        """Ends the session with 421: now when it waits between transactions, else after its
        command."""
        self._drained = True
        if self._reading and self.connection.is_idle and self._task is not None:
            self._task.cancel()

    async def _converse(self) -> str:
        conn = self.connection
        out = [conn.greet(Reply.of(220, None, f"{self.site.hostname} {self.greeting}"))]
        waiting = 0
        self._since = self.site.clock.monotonic()
        while True:
            event = conn.next_event()
            if event is NEED_DATA:
                if out:
                    await self.stream.write(out, WRITE_TIMEOUT_S)
                    out, waiting = [], 0
                if conn.state is State.CLOSED:
                    return "closed"
                if conn.state is State.TLS:
                    await self._start_tls()
                    continue
                if self._drained and conn.is_idle:
                    await self._part(replies.DRAINING)
                    return "drained"
                octets = await self._read()
                if not octets:
                    return "closed by the peer"
                conn.receive_data(octets)
            elif type(event) is Chunk:
                self._take(event.octets)
            else:
                reply = await self._answer(event)
                octets = conn.send(reply)
                out.append(octets)
                waiting += len(octets)
                self._since = self.site.clock.monotonic()
                if waiting > REPLIES_OCTETS_MAX:
                    await self.stream.write(out, WRITE_TIMEOUT_S)
                    out, waiting = [], 0
                    await asyncio.sleep(0)  # other peers have their turn between so many

    async def _read(self) -> bytes:
        """Raises: TimedOut also when a command or message takes too long in all."""
        total = self.connection.patience()
        timeout = total
        if self.connection.state is State.DATA:
            total = limits.SMTP_DATA_TIMEOUT_S
        left = self._since + total - self.site.clock.monotonic()
        if left <= 0:
            raise TimedOut("the whole took too long")
        self._reading = True
        try:
            return await self.stream.read(min(timeout, left))
        finally:
            self._reading = False

    async def _part(self, reply: Reply) -> None:
        """Says 421 to whoever may still listen."""
        try:
            await self.stream.write(reply.render(), 5.0)
        except (TimedOut, Disconnected):
            pass

    @property
    def tls_context(self) -> SSLContext | None:
        """What STARTTLS begins with."""
        return self.site.tls.server

    async def _start_tls(self) -> None:
        context = self.tls_context
        assert context is not None, "STARTTLS was answered without a context"
        await self.stream.start_tls_server(context, limits.TLS_HANDSHAKE_TIMEOUT_S)
        self.connection.tls_started()
        self.helo = None
        if self.login is not None:
            self.login.forget()
        self._since = self.site.clock.monotonic()
        info = self.stream.tls
        assert info is not None, "the handshake succeeded"
        self.trace(TLSStarted(session=self.id, version=info.version, cipher=info.cipher))

    # -- answers -----------------------------------------------------------------------------

    async def _answer(self, event: Event) -> Reply:
        """Every event has its answer; a bug of ours is one, too."""
        try:
            return await self._dispatch(event)
        except Unavailable as error:
            self.trace(SessionFailed(session=self.id, doing=type(event).__name__, error=error.what))
            return replies.UNAVAILABLE
        except Exception:
            self._failed(type(event).__name__)
            self._bugs += 1
            return replies.OUR_FAULT_CLOSING if self._bugs > BUGS_MAX else replies.OUR_FAULT

    async def _dispatch(self, event: Event) -> Reply:
        match event:
            case Rcpt():
                return await self._rcpt(event)
            case Mail():
                return await self._mail(event)
            case EndOfData():
                return await self._end_of_data(event)
            case Data():
                return self._data()
            case Helo():
                return self._helo(event)
            case Rset():
                self._end_transaction()
                return replies.OK
            case Malformed():
                if self.login is not None:
                    self.login.abandon()
                return event.reply
            case Noop():
                return replies.OK
            case Quit():
                return replies.CLOSING
            case StartTLS():
                return replies.TLS_UNAVAILABLE if self.tls_context is None else replies.TLS_READY
            case Auth():
                return await self.login.begin(event) if self.login else replies.AUTH_NOT_HERE
            case Response():
                assert self.login is not None, "an exchange began"
                return await self.login.go_on(event)
            case Vrfy():
                return replies.CANNOT_VRFY
            case Expn():
                return replies.CANNOT_EXPN
            case Help():
                return replies.HELP
            case Chunk():
                raise AssertionError("octets are not answered")

    def _helo(self, helo: Helo) -> Reply:
        self._end_transaction()
        self.helo = helo
        peer = self.stream.peer[0]
        if not helo.extended:
            return Reply(250, None, (f"{self.site.hostname} greets {peer}",))
        return ehlo_reply(self.site.hostname, peer, self._extensions())

    def _extensions(self) -> tuple[str, ...]:
        found = [
            "PIPELINING",
            f"SIZE {self.site.message_octets_max}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
        ]
        if self.stream.tls is None and self.tls_context is not None:
            found.append("STARTTLS")
        offered = self.login.offered() if self.login is not None else ()
        if offered:
            found.append(f"AUTH {' '.join(offered)}")
        return (*found, "HELP")

    async def _mail(self, mail: Mail) -> Reply:
        if self._refused >= limits.SMTP_REFUSED_PATHS_MAX:
            reply = replies.TOO_MANY_REFUSED
        elif mail.size is not None and mail.size > self.site.message_octets_max:
            reply = replies.TOO_BIG  # RFC 1870 §6.1
        else:
            reply = await self.on_mail(mail)
        if reply.is_positive:
            self.transaction = Transaction(mail)
        else:
            self._refused += reply.is_permanent
            path = str(mail.reverse_path or "<>")
            self.trace(SenderRefused(session=self.id, reverse_path=path, reply=str(reply)))
        return reply

    async def _rcpt(self, command: Rcpt) -> Reply:
        transaction = self.transaction
        assert transaction is not None, "the core lets no RCPT come before MAIL"
        recipient = command.recipient
        transaction.tried += 1
        if (
            self._refused >= limits.SMTP_REFUSED_PATHS_MAX
            or transaction.tried > limits.SMTP_RECIPIENTS_TRIED_FACTOR * self.site.recipients_max
        ):
            reply = replies.TOO_MANY_REFUSED
        elif len(transaction.recipients) >= self.site.recipients_max:
            reply = replies.TOO_MANY_RECIPIENTS
        else:
            reply = await self.on_rcpt(recipient, transaction)
        if reply.is_positive:
            transaction.recipients.append(recipient)
        else:
            self._refused += reply.is_permanent
            self.trace(
                RecipientRefused(
                    session=self.id,
                    reverse_path=str(transaction.mail.reverse_path or "<>"),
                    forward_path=str(recipient.path),
                    reply=str(reply),
                )
            )
        return reply

    # -- the message -------------------------------------------------------------------------

    def _data(self) -> Reply:
        transaction = self.transaction
        assert transaction is not None and transaction.recipients, "the core minds the order"
        try:
            transaction.draft = self.site.store.blobs.draft()
        except Unavailable as error:
            self.trace(SessionFailed(session=self.id, doing="draft", error=error.what))
            return replies.NO_SPACE
        return replies.START_INPUT

    def _take(self, octets: bytes) -> None:
        """Message octets on their way; past the limits they are counted and dropped."""
        transaction = self.transaction
        assert transaction is not None and transaction.draft is not None
        transaction.size += len(octets)
        if transaction.refusal is not None:
            if transaction.size > FLOOD_FACTOR * self.site.message_octets_max + FLOOD_OCTETS:
                raise Flooded
            return
        if transaction.size > self.site.message_octets_max:
            transaction.refusal = replies.TOO_BIG
        else:
            try:
                transaction.draft.write(octets)
                return
            except Unavailable as error:
                self.trace(SessionFailed(session=self.id, doing="draft", error=error.what))
                transaction.refusal = replies.NO_SPACE
        transaction.draft.discard()

    async def _end_of_data(self, event: EndOfData) -> Reply:
        transaction = self.transaction
        assert transaction is not None and transaction.draft is not None
        try:
            if event.fault is not None:
                reply = _DATA_FAULTS[event.fault]
            elif transaction.refusal is not None:
                reply = transaction.refusal
            else:
                reply = await self._accept(transaction.draft, transaction)
        finally:
            self._end_transaction()
        if reply.is_positive:
            self.accepted += 1
        else:
            self.trace(
                MessageRefused(
                    session=self.id,
                    peer=self.stream.peer[0],
                    helo=self.helo.name if self.helo else "",
                    reverse_path=str(transaction.mail.reverse_path or "<>"),
                    recipients=tuple(str(item.path) for item in transaction.recipients),
                    size=transaction.size,
                    reply=str(reply),
                )
            )
        return reply

    async def _accept(self, draft: Draft, transaction: Transaction) -> Reply:
        try:
            return await self.on_message(draft, transaction)
        except StateError as error:
            self.trace(SessionFailed(session=self.id, doing="submit", error=str(error)))
            if error.fault is Fault.OVERQUOTA:
                return replies.MAILBOX_FULL
            # A mailbox or account went while the octets came: the next try is told at RCPT.
            return replies.GONE_MEANWHILE
        except Unavailable as error:
            self.trace(SessionFailed(session=self.id, doing="submit", error=error.what))
            return replies.UNAVAILABLE

    def _end_transaction(self) -> None:
        transaction, self.transaction = self.transaction, None
        if transaction is None:
            return
        self.on_transaction_end(transaction)
        if transaction.draft is not None:
            transaction.draft.discard()

    async def apart(self, size: int, work: Callable[[], R]) -> R:
        """Runs `work` on a thread when it is about many octets (`weight` tells)."""
        if size > ON_LOOP_OCTETS_MAX:
            return await asyncio.to_thread(work)
        return work()

    async def read_header(self, octets: memoryview) -> Header | Reply:
        """The header of a message, or why it is not taken.

        What was not read could hide anything (forged results, a Bcc), and a first line that
        begins with white space would become a part of the trace field that is put above it.
        """
        if octets[:1].tobytes() in (b" ", b"\t"):
            return replies.HEADER_BEGINS_FOLDED
        end = header_end(octets[: limits.SMTP_HEADER_OCTETS_MAX + 1])
        if end > limits.SMTP_HEADER_OCTETS_MAX:
            return replies.HEADER_TOO_BIG
        header = await self.apart(end, lambda: Header(bytes(octets[:end])))
        return replies.TOO_MANY_FIELDS if header.is_truncated else header

    async def bounded(self, work: Awaitable[R], otherwise: R, timeout_s: float) -> R:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            return otherwise

    # -- traces ------------------------------------------------------------------------------

    def trace(self, event: TraceEvent) -> None:
        self.site.trace(event)

    def _failed(self, doing: str) -> None:
        self.trace(SessionFailed(session=self.id, doing=doing, error=traceback.format_exc()))
