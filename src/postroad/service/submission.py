"""Submission: mail from our own people, by 587 with STARTTLS and 465 with TLS from the start.

Nobody sends without having logged in, nobody logs in without TLS (loopback apart, where that is
configured), and nobody writes in another's name. What is missing is completed, the author's domain
signs, local recipients get the message in the same unit of work that queues it for the others.
Source: RFC 6409 §3-§8, RFC 4954, RFC 8314 §3.3, RFC 6376 §3.5,
RFC 5068 §3.1 (nobody submits without having logged in).
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ssl import SSLContext

from postroad.delivery import intake
from postroad.delivery.intake import Arrival
from postroad.directory.values import SigningKey, Unknown
from postroad.mail import limits
from postroad.mail.address import Address, domain_key, is_domain
from postroad.mail.envelope import Recipient
from postroad.mail.ids import MessageId, message_id
from postroad.mail.reply import Reply
from postroad.mailauth.dkim import DKIMSigner, load_key, sign
from postroad.message.addresses import MailboxAddress, mailboxes
from postroad.message.authres import claims_to_be_from
from postroad.message.compose import check_submission, completions
from postroad.message.header import Field, Header, header_end, parse_addresses
from postroad.message.summary import Summary, summarize
from postroad.message.trace_fields import count_received, protocol_name, render_received
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.policy.room import has_room
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import Mail
from postroad.service.authenticate import login_allowed
from postroad.service.rewriting import without_fields
from postroad.service.site import Site
from postroad.service.smtp_events import MailAccepted, remembered
from postroad.service.smtp_login import Login
from postroad.service.smtp_session import (
    SMTPSession,
    weight,
)
from postroad.service.smtp_transaction import Transaction
from postroad.service.success_report import success_report
from postroad.store.contract import Draft
from postroad.trace.event import Event

SIGNERS_KEPT_MAX = 1000
"""Loaded keys; loading one takes 36 ms, keeping it some KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Event):
    """keys: `domain/selector` of each signature; empty: the author's domain has no keys."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFailed(Event):
    """TLS did not come up, so there was no session."""

    peer: str
    why: str


class Signers:
    """The loaded keys of all domains, shared by all sessions of a service.

    A key that was replaced in the directory has another public part: it is loaded anew.
    """

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str, str], DKIMSigner] = {}

    async def of(self, keys: list[SigningKey]) -> list[DKIMSigner]:
        found = []
        for key in keys:
            name = (key.domain, key.selector, key.public)
            signer = self._loaded.get(name)
            if signer is None:
                signer = await asyncio.to_thread(
                    load_key,
                    key.pem.reveal(),
                    domain=key.domain,
                    selector=key.selector,
                    algorithm=key.algorithm,
                )
                if len(self._loaded) >= SIGNERS_KEPT_MAX:
                    self._loaded.clear()
                self._loaded[name] = signer
            found.append(signer)
        return found


class SubmissionSession(SMTPSession):
    """One connection of a mail program."""

    greeting = "ESMTP Postroad submission"

    def __init__(self, site: Site, stream: Stream, signers: Signers, *, implicit_tls: bool) -> None:
        super().__init__(site, stream)
        self.service = "submissions" if implicit_tls else "submission"
        self._signers = signers
        self._login = self.login = Login(site, stream, self.id)

    @property
    def tls_context(self) -> SSLContext | None:
        return self.site.tls.clients

    # -- the envelope ------------------------------------------------------------------------

    async def on_mail(self, mail: Mail) -> Reply:
        account = self._login.account
        if account is None:
            allowed = login_allowed(self.site, self.stream)
            return replies.AUTH_REQUIRED if allowed else replies.TLS_REQUIRED
        path = mail.reverse_path
        if path is None:
            return replies.SENDER_OK  # MDNs have the null reverse-path (RFC 8098 §3)
        if not self.site.directory.may_send_as(account.account, path):
            return _not_yours(account.address, str(path))
        return replies.SENDER_OK

    async def on_rcpt(self, recipient: Recipient, transaction: Transaction) -> Reply:
        resolution = self.site.directory.resolve(recipient.path)
        if isinstance(resolution, Unknown):
            return replies.NO_SUCH_USER
        if not has_room(self.site.store, resolution):
            return replies.MAILBOX_FULL
        transaction.resolved[recipient.path] = resolution
        return replies.RECIPIENT_OK

    # -- the message -------------------------------------------------------------------------

    async def on_message(self, draft: Draft, transaction: Transaction) -> Reply:
        account = self._login.account
        assert account is not None, "MAIL asked for it"
        octets = draft.view()
        header = await self.read_header(octets)
        if isinstance(header, Reply):
            return header
        refusal = self._check(header, account.account, account.address)
        if refusal is not None:
            return refusal
        now = self.site.clock.now()
        message = message_id(now, self.site.clock.random_bits(35))
        with ExitStack() as stack:
            clean = await self.apart(
                len(octets),
                lambda: without_fields(self.site.store.blobs, octets, header, self._stays_here),
            )
            if clean is not None:
                stack.callback(clean.discard)
                draft = clean
            text = draft.view()
            head, signed = await self._head(message, header, text, transaction, now)
            envelope = transaction.envelope()
            going = intake.destinations(
                envelope, self.site.directory, relay=True, resolved=transaction.resolved
            )
            summary: Summary | None = None
            if going.local:
                top = intake.local_head(envelope, head)
                summary = await self.apart(weight(text, header), lambda: summarize(text, top))
            blob = await self.apart(len(text), partial(draft.commit, going.keeper))
        accepted = self._accepted_event(message, transaction, len(text), going, account.address)
        arrival = Arrival(
            message=message,
            envelope=envelope,
            head=head,
            blob=blob,
            size=len(text),
            summary=summary,
            account=account.account,
            now=now,
            records=remembered(now.timestamp(), accepted, signed),
        )
        unit = intake.operations_for(arrival, going, lifetime_s=self.site.message_lifetime_s)
        more, report = await success_report(
            self.site,
            envelope,
            going,
            head + bytes(text[: header_end(text)]),
            session=self.id,
            message=message,
            now=now,
        )
        await self.site.database.submit(*unit, *more)
        self.trace(accepted)
        self.trace(signed)
        if report is not None:
            self.trace(report)
        return Reply.of(250, "2.0.0", f"Accepted as {message}")

    def _stays_here(self, field: Field) -> bool:
        """A Bcc: that travels tells everybody whom the author kept from them (RFC 5322 §3.6.3);
        its addresses are in the envelope already. And nobody writes results in our name
        (RFC 8601 §5)."""
        key = field.key
        return key == b"bcc" or (
            key == b"authentication-results" and claims_to_be_from(field.value, self.site.hostname)
        )

    def _check(self, header: Header, account: int, login: str) -> Reply | None:
        """Why this header may not be submitted.

        From: and Sender: both tell the reader who wrote, so both must be the account's
        (RFC 6409 §6.1, §8.1).
        """
        if count_received(header) > limits.SMTP_RECEIVED_HOPS_MAX:
            return replies.TOO_MANY_HOPS
        fault = check_submission(header)
        if fault is not None:
            return Reply.of(550, "5.6.0", f"The message is malformed: {fault}"[:400])
        for name in (b"from", b"sender"):
            for field in header.all(name):
                for mailbox in mailboxes(parse_addresses(field.value)):
                    address = _address(mailbox)
                    if address is None or not self.site.directory.may_send_as(account, address):
                        shown = (mailbox.local + b"@" + mailbox.domain)[:200]
                        return _not_yours(login, shown.decode("utf-8", "replace"))
        return None

    async def _head(
        self,
        message: MessageId,
        header: Header,
        octets: memoryview,
        transaction: Transaction,
        now: datetime,
    ) -> tuple[bytes, Signed]:
        """Received, signatures and completions, in this order from the top."""
        completed = completions(
            header, now=now, message_id=message.encode("ascii"), hostname=self.site.hostname
        )
        domains = _author_domains(header)
        keys = [key for domain in domains for key in self.site.directory.signing_keys(domain)]
        signers = await self._signers.of(keys)
        signatures = b""
        if signers:
            signatures = await self.apart(
                len(octets), lambda: sign(completed, octets, signers, now)
            )
        tls = self.stream.tls
        only = transaction.recipients[0] if len(transaction.recipients) == 1 else None
        received = render_received(
            helo=self.helo.name if self.helo else "",
            peer_address=self.stream.peer[0],
            peer_name=None,
            hostname=self.site.hostname,
            protocol=protocol_name(
                esmtp=True,
                tls=tls is not None,
                authenticated=True,
                smtputf8=transaction.mail.smtputf8,
            ),
            message=message,
            tls=f"{tls.version} {tls.cipher}" if tls else None,
            recipient=str(only.path) if only else None,
            now=now,
        )
        used = tuple(f"{signer.domain}/{signer.selector}" for signer in signers)
        return (
            received + signatures + completed,
            Signed(session=self.id, message=message, keys=used),
        )

    def _accepted_event(
        self,
        message: MessageId,
        transaction: Transaction,
        size: int,
        going: intake.Destinations,
        login: str,
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
            login=login,
            tls=f"{tls.version} {tls.cipher}" if tls else "",
            delivered=tuple(target.account.address for target in going.local),
            queued=tuple(path.path for path in going.onward),
        )


def _not_yours(login: str, address: str) -> Reply:
    shown = "".join(letter if letter.isprintable() else "?" for letter in address)
    return Reply.of(550, "5.7.1", f"{login} may not send as {shown}")


def _address(mailbox: MailboxAddress) -> Address | None:
    """The address of a header as the directory knows it; None when it cannot be one."""
    try:
        local, domain = mailbox.local.decode("utf-8"), mailbox.domain.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return Address(local, domain) if local and is_domain(domain) else None


def _author_domains(header: Header) -> list[str]:
    """Of From:, each once; checked before, so every one is an account's."""
    found: dict[str, None] = {}
    for field in header.all(b"from"):
        for mailbox in mailboxes(parse_addresses(field.value)):
            found.setdefault(domain_key(mailbox.domain.decode("utf-8")))
    return list(found)


class SubmissionService:
    """Serves 587 (or 465, with `implicit_tls`). `drain` as of `SMTPService`."""

    def __init__(self, site: Site, implicit_tls: bool) -> None:
        self._site = site
        self._implicit_tls = implicit_tls
        self._signers = Signers()
        self._sessions: set[SubmissionSession] = set()
        self._draining = False

    async def handle(self, stream: Stream) -> None:
        """Serves one stream to its end and closes it."""
        try:
            if self._implicit_tls and stream.tls is None:
                await self._handshake(stream)
            session = SubmissionSession(
                self._site, stream, self._signers, implicit_tls=self._implicit_tls
            )
            self._sessions.add(session)
            if self._draining:
                session.drain()
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
        except (TLSFailed, TimedOut, Disconnected) as error:
            self._site.trace(HandshakeFailed(peer=stream.peer[0], why=str(error)))
        finally:
            await stream.close()

    async def _handshake(self, stream: Stream) -> None:
        context = self._site.tls.clients
        if context is None:
            raise TLSFailed("no certificate is configured")
        await stream.start_tls_server(context, limits.TLS_HANDSHAKE_TIMEOUT_S)

    def drain(self) -> None:
        self._draining = True
        for session in tuple(self._sessions):
            session.drain()
