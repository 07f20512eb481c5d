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
from typing import Any

from postroad.delivery import intake
from postroad.delivery.intake import Arrival
from postroad.directory.values import NotHere, Unknown
from postroad.mail import limits
from postroad.mail.address import Address
from postroad.mail.envelope import Recipient
from postroad.mail.ids import message_id
from postroad.mail.reply import Reply
from postroad.mailauth.result import Result
from postroad.mailauth.spf import SPFResult, check_spf
from postroad.message.authres import claims_to_be_from, render_authentication_results
from postroad.message.header import Field, Header, parse_header
from postroad.message.summary import summarize
from postroad.message.trace_fields import count_received, protocol_name, render_received
from postroad.net.contract import Stream
from postroad.policy.inbound import Action, Evidence, auth_results, gather, judge, judged
from postroad.policy.peer import confirmed_name
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import Mail
from postroad.service.rewriting import without_fields
from postroad.service.site import Site
from postroad.service.smtp_events import MailAccepted, remembered
from postroad.service.smtp_session import (
    ON_LOOP_OCTETS_MAX,
    SMTPSession,
    Transaction,
)
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
                transaction.resolved[recipient.path] = resolution
                return replies.RECIPIENT_OK

    # -- the message -------------------------------------------------------------------------

    async def on_message(self, draft: Draft, transaction: Transaction) -> Reply:
        octets = draft.view()
        header, body = parse_header(octets)
        if body > limits.SMTP_HEADER_OCTETS_MAX:
            return replies.HEADER_TOO_BIG
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
        envelope = transaction.envelope()
        helo = self.helo.name if self.helo else ""
        results = auth_results(evidence, helo=helo, reverse_path=envelope.reverse_path)
        head = render_authentication_results(self.site.hostname, results)
        head += await self._received(message, transaction, now)
        with ExitStack() as stack:
            clean = await self.apart(len(octets), lambda: self._unforged(octets, header))
            if clean is not None:
                stack.callback(clean.discard)
                draft, octets = clean, clean.view()
            top = intake.local_head(envelope, head)
            summary = await self.apart(len(octets), lambda: summarize(octets, top))
            size = len(octets)
            blob = await self.apart(size, draft.commit)
        accepted = self._accepted_event(message, transaction, size)
        arrival = Arrival(
            message=message,
            envelope=envelope,
            head=head,
            blob=blob,
            size=size,
            summary=summary,
            account=0,
            now=now,
            records=remembered(now.timestamp(), accepted, opinion),
            junk=verdict.action is Action.JUNK,
        )
        unit = intake.operations(
            arrival,
            self.site.directory,
            relay=False,
            lifetime_s=self.site.message_lifetime_s,
            resolved=transaction.resolved,
        )
        await self.site.database.submit(*unit)
        self.trace(accepted)
        return Reply.of(250, "2.0.0", f"Accepted as {message}")

    async def _evidence(self, octets: memoryview, header: Header, now: datetime) -> Evidence:
        assert self._sender is not None, "the check began at MAIL"
        large = len(octets) > ON_LOOP_OCTETS_MAX
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

    async def _received(self, message: str, transaction: Transaction, now: datetime) -> bytes:
        tls = self.stream.tls
        only = transaction.recipients[0] if len(transaction.recipients) == 1 else None
        return render_received(
            helo=self.helo.name if self.helo else "",
            peer_address=self.stream.peer[0],
            peer_name=await self._name if self._name is not None else None,
            hostname=self.site.hostname,
            protocol=protocol_name(
                esmtp=self.helo is not None and self.helo.extended,
                tls=tls is not None,
                authenticated=False,
                smtputf8=transaction.mail.smtputf8,
            ),
            message=message,
            tls=f"{tls.version} {tls.cipher}" if tls else None,
            recipient=str(only.path) if only else None,
            now=now,
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

    def _accepted_event(self, message: str, transaction: Transaction, size: int) -> MailAccepted:
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
