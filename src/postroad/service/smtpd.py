"""Port 25: mail from other servers, for addresses of ours and nobody else's.

A stranger is refused at RCPT. SPF begins at MAIL in the background; at the final dot the evidence
is gathered and judged, the trace fields are put on top, and the message is durable in every
mailbox (and in the queue, where an alias leads outside) before it is answered 250.
Source: RFC 5321 §3.3, §4.4, §6.1, §6.3; RFC 8601 §5 (forged results are removed); RFC 7208 §2.6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from postroad.delivery import intake
from postroad.delivery.intake import Arrival, Destinations
from postroad.delivery.success import SuccessReported
from postroad.directory.values import NotHere, Unknown
from postroad.mail import limits
from postroad.mail.address import Address
from postroad.mail.envelope import Envelope, Recipient
from postroad.mail.ids import MessageId, message_id
from postroad.mail.reply import Reply
from postroad.mailauth.result import Result
from postroad.mailauth.spf import SPFResult, check_spf
from postroad.message.authres import claims_to_be_from, render_authentication_results
from postroad.message.header import Field, Header
from postroad.message.summary import summarize
from postroad.message.trace_fields import count_received, protocol_name, render_received
from postroad.net.contract import Stream
from postroad.policy.inbound import (
    Action,
    Evidence,
    Judged,
    Verdict,
    auth_results,
    gather,
    judge,
    judged,
)
from postroad.policy.peer import confirmed_name
from postroad.policy.room import has_room
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import Mail
from postroad.service.rewriting import without_fields
from postroad.service.site import Site
from postroad.service.smtp_events import MailAccepted, remembered
from postroad.service.smtp_session import (
    ON_LOOP_OCTETS_MAX,
    SMTPSession,
    weight,
)
from postroad.service.smtp_transaction import Transaction
from postroad.service.success_report import success_report
from postroad.service.threaded_dkim import verify_on_thread
from postroad.store.contract import Draft

EVIDENCE_TIMEOUT_S = 20.0
"""For all evidence of a message; the peer waits 10 minutes (RFC 5321 §4.5.3.2.6)."""
NAME_TIMEOUT_S = 5.0
SPF_KEPT_S = 60.0
"""A session that sends on with the same sender is not checked again for so long."""


@dataclass(slots=True)
class _SenderCheck:
    """An SPF check under way, or done."""

    helo: str
    reverse_path: Address | None
    began: float
    task: asyncio.Task[SPFResult]


@dataclass(frozen=True, slots=True)
class _Judgement:
    """A message that is let in, and why."""

    message: MessageId
    now: datetime
    header: Header
    evidence: Evidence
    verdict: Verdict
    opinion: Judged


class InboundSession(SMTPSession):
    """One connection of a stranger."""

    def __init__(self, site: Site, stream: Stream) -> None:
        super().__init__(site, stream)
        self._sender: _SenderCheck | None = None
        self._name: asyncio.Task[str | None] | None = None

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            running = {self._name, self._sender.task if self._sender else None} - {None}
            left: list[asyncio.Task[Any]] = [task for task in running if task and not task.done()]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    # -- the envelope ------------------------------------------------------------------------

    async def on_mail(self, mail: Mail) -> Reply:
        self._check_sender(mail.reverse_path)
        if self._name is None:
            self._name = asyncio.create_task(self._peer_name())
        return replies.SENDER_OK

    def _check_sender(self, reverse_path: Address | None) -> None:
        helo = self.helo.name if self.helo else ""
        now = self.site.clock.monotonic()
        known = self._sender
        if known is not None:
            if (
                (known.helo, known.reverse_path) == (helo, reverse_path)
                and now - known.began < SPF_KEPT_S
                and not known.task.cancelled()
            ):
                return
            known.task.cancel()
        task = asyncio.create_task(self._spf(helo, reverse_path))
        self._sender = _SenderCheck(helo, reverse_path, now, task)

    async def _spf(self, helo: str, reverse_path: Address | None) -> SPFResult:
        """A bug of ours in it is traced, and says as little as a failing DNS."""
        try:
            return await check_spf(
                self.site.resolver,
                address=self.stream.peer[0],
                helo=helo,
                reverse_path=reverse_path,
                hostname=self.site.hostname,
                now=self.site.clock.now(),
            )
        except Exception:
            self._failed("spf")
            domain = reverse_path.domain if reverse_path else helo
            return SPFResult(
                result=Result.TEMPERROR, domain=domain, identity="mailfrom", reason="a fault here"
            )

    async def _peer_name(self) -> str | None:
        try:
            return await self.bounded(
                confirmed_name(self.site.resolver, self.stream.peer[0]), None, NAME_TIMEOUT_S
            )
        except Exception:
            self._failed("reverse DNS")
            return None

    async def on_rcpt(self, recipient: Recipient, transaction: Transaction) -> Reply:
        """Strangers reach our own addresses only: whatever is not ours would be relaying."""
        resolution = self.site.directory.resolve(recipient.path)
        match resolution:
            case NotHere():
                return replies.RELAY_DENIED
            case Unknown():
                return replies.NO_SUCH_USER
            case _:
                if not has_room(self.site.store, resolution):
                    return replies.MAILBOX_FULL
                transaction.resolved[recipient.path] = resolution
                return replies.RECIPIENT_OK

    # -- the message -------------------------------------------------------------------------

    async def on_message(self, draft: Draft, transaction: Transaction) -> Reply:
        octets = draft.view()
        header = await self.read_header(octets)
        if isinstance(header, Reply):
            return header
        if count_received(header) > limits.SMTP_RECEIVED_HOPS_MAX:
            return replies.TOO_MANY_HOPS
        now = self.site.clock.now()
        evidence = await self._evidence(octets, header, now)
        verdict = judge(evidence)
        message = message_id(now, self.site.clock.random_bits(35))
        opinion = judged(evidence, verdict, session=self.id, message=message)
        self.trace(opinion)
        if verdict.reply is not None:
            return verdict.reply
        judgement = _Judgement(message, now, header, evidence, verdict, opinion)
        await self._take_in(draft, octets, transaction, judgement)
        return Reply.of(250, "2.0.0", f"Accepted as {message}")

    async def _take_in(
        self, draft: Draft, octets: memoryview, transaction: Transaction, judgement: _Judgement
    ) -> None:
        """Returns when the message is durable."""
        envelope = transaction.envelope()
        going = intake.destinations(
            envelope, self.site.directory, relay=False, resolved=transaction.resolved
        )
        head = await self._head(transaction, judgement)
        with ExitStack() as stack:
            header = judgement.header
            clean = await self.apart(weight(octets, header), lambda: self._unforged(octets, header))
            if clean is not None:
                stack.callback(clean.discard)
                draft = clean
            kept = draft.view()
            top = intake.local_head(envelope, head)
            summary = await self.apart(weight(kept, header), lambda: summarize(kept, top))
            blob = await self.apart(len(kept), partial(draft.commit, going.keeper))
        accepted = self._accepted_event(judgement.message, transaction, going, len(kept))
        arrival = Arrival(
            message=judgement.message,
            envelope=envelope,
            head=head,
            blob=blob,
            size=len(kept),
            summary=summary,
            account=0,
            now=judgement.now,
            records=remembered(judgement.now.timestamp(), accepted, judgement.opinion),
            junk=judgement.verdict.action is Action.JUNK,
        )
        unit = intake.operations_for(arrival, going, lifetime_s=self.site.message_lifetime_s)
        report: SuccessReported | None = None
        if _is_believed(judgement.evidence, envelope):
            more, report = await success_report(
                self.site,
                envelope,
                going,
                head + judgement.header.raw,
                session=self.id,
                message=judgement.message,
                now=judgement.now,
            )
            unit += more
        await self.site.database.submit(*unit)
        self.trace(accepted)
        if report is not None:
            self.trace(report)

    async def _evidence(self, octets: memoryview, header: Header, now: datetime) -> Evidence:
        assert self._sender is not None, "the check began at MAIL"
        large = weight(octets, header) > ON_LOOP_OCTETS_MAX
        options = {"verify": verify_on_thread} if large else {}

        async def bounded(work: Coroutine[Any, Any, None]) -> None:
            await self.bounded(work, None, EVIDENCE_TIMEOUT_S)

        return await gather(
            self.site.resolver,
            octets,
            header,
            spf=asyncio.shield(self._sender.task),
            now=now,
            bounded=bounded,
            **options,
        )

    async def _head(self, transaction: Transaction, judgement: _Judgement) -> bytes:
        """Authentication-Results, then Received."""
        tls = self.stream.tls
        helo = self.helo.name if self.helo else ""
        only = transaction.recipients[0] if len(transaction.recipients) == 1 else None
        results = auth_results(
            judgement.evidence, helo=helo, reverse_path=transaction.mail.reverse_path
        )
        return render_authentication_results(self.site.hostname, results) + render_received(
            helo=helo,
            peer_address=self.stream.peer[0],
            peer_name=await self._name if self._name is not None else None,
            hostname=self.site.hostname,
            protocol=protocol_name(
                esmtp=self.helo is not None and self.helo.extended,
                tls=tls is not None,
                authenticated=False,
                smtputf8=transaction.mail.smtputf8,
            ),
            message=judgement.message,
            tls=f"{tls.version} {tls.cipher}" if tls else None,
            recipient=str(only.path) if only else None,
            now=judgement.now,
        )

    def _unforged(self, octets: memoryview, header: Header) -> Draft | None:
        """The message without Authentication-Results that say they are ours (RFC 8601 §5)."""
        hostname = self.site.hostname

        def is_forged(field: Field) -> bool:
            return field.key == b"authentication-results" and claims_to_be_from(
                field.value, hostname
            )

        if header.first(b"authentication-results") is None:
            return None
        return without_fields(self.site.store.blobs, octets, header, is_forged)

    def _accepted_event(
        self, message: MessageId, transaction: Transaction, going: Destinations, size: int
    ) -> MailAccepted:
        tls = self.stream.tls
        return MailAccepted(
            session=self.id,
            message=message,
            peer=self.stream.peer[0],
            helo=self.helo.name if self.helo else "",
            reverse_path=str(transaction.mail.reverse_path or "<>"),
            recipients=tuple(str(item.path) for item in transaction.recipients),
            size=size,
            tls=f"{tls.version} {tls.cipher}" if tls else "",
            delivered=tuple(target.account.address for target in going.local),
            queued=tuple(path.path for path in going.onward),
        )


def _is_believed(evidence: Evidence, envelope: Envelope) -> bool:
    """Whether the reverse-path is the sender's own.

    Departs: RFC 3461 §5.2.2 reports success to whoever asks. Asking costs a forger nothing, and
    the report would go to the one he names.
    """
    return (
        envelope.reverse_path is not None
        and evidence.spf.identity == "mailfrom"
        and evidence.spf.result is Result.PASS
    )


class SMTPService:
    """Serves port 25. `drain` ends idle sessions with 421 now, busy ones after their command."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._sessions: set[InboundSession] = set()
        self._draining = False

    async def handle(self, stream: Stream) -> None:
        """Serves one stream to its end and closes it."""
        session = InboundSession(self._site, stream)
        self._sessions.add(session)
        if self._draining:
            session.drain()
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            await stream.close()

    def drain(self) -> None:
        self._draining = True
        for session in tuple(self._sessions):
            session.drain()
