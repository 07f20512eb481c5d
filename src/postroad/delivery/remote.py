"""Delivery to other servers: route, dial, speak SMTP; each recipient ends as an Outcome.

A `Courier` serves one destination and keeps its connection between messages. Hosts are tried in
the order of `route` until one opens a session; a host that refuses us or breaks makes room for
the next, what a session says about a message or a recipient counts for this attempt.

A message whose end of data was sent and not answered is deferred, never tried elsewhere in the
same attempt: the peer may have it (RFC 5321 §4.5.4.1; RFC 1047 tells how duplicates come about).

Needs of the message that the peer does not offer fail the recipient, with no conversion: rewriting
MIME would break the DKIM signatures of the very message (RFC 6152 §3 and RFC 6531 §3.2 leave us
the choice). Knows no queue and no database. Trusts no peer.
Source: RFC 5321 §5.1, §4.5.3.1.10 (552 for too many recipients), RFC 7504 §3 (521), RFC 1870 §6.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroad.delivery.content import Content
from postroad.delivery.outcome import Deferred, Delivered, Failed, Outcome, Peer
from postroad.delivery.route import ADDRESSES_MAX, Hosts, defer, find_addresses, find_hosts
from postroad.delivery.session import Session, Target, TLSBroken, Unreached
from postroad.dns.resolver import Resolver
from postroad.mail.address import Address
from postroad.mail.envelope import Recipient
from postroad.mail.reply import Reply
from postroad.protocol.smtp.client import Answer, Extensions, Stage, Transaction
from postroad.trace import Event

if TYPE_CHECKING:
    from ssl import SSLContext

    from postroad.net.contract import Dialer

RECIPIENTS_PER_TRANSACTION = 100
"""What every server must take (RFC 5321 §4.5.3.1.8)."""
REPLY_CHARACTERS_MAX = 1000
"""Of a peer's words in the history, for each host of each attempt."""
SEARCH_S_MAX = 900.0
"""Once an attempt has lasted so long, no further host is tried in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFound(Event):
    domain: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPassedOver(Event):
    """A host gave no session, or broke it; the next one is tried."""

    host: str
    address: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSFellBack(Event):
    """The handshake failed; the message goes in plaintext, as no policy forbids it."""

    host: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUsed(Event):
    """The connection the message goes by. reused: it carried others before."""

    host: str
    address: str
    tls: str
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """What every courier is handed.

    tls: None never encrypts. jitter: chance in [0, 1). monotonic: seconds that never step back.
    """

    hostname: str
    resolver: Resolver
    dialer: Dialer
    jitter: Callable[[], float]
    monotonic: Callable[[], float]
    port: int = 25
    tls: SSLContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message for some recipients of one destination; keys are the caller's numbers."""

    message: str
    reverse_path: Address | None
    recipients: Mapping[int, Recipient]
    content: Content
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


def _needs_utf8(parcel: Parcel, path: Address | None) -> bool:
    """Domains can be written as A-labels; local parts and headers cannot (RFC 6531 §3.2)."""
    if parcel.smtputf8 and parcel.content.utf8_header:
        return True
    return path is not None and not path.local.isascii()


def _unfit(parcel: Parcel, path: Address, offered: Extensions) -> Reply | None:
    """Why this peer cannot get the message for this recipient."""
    if "SMTPUTF8" not in offered and (
        _needs_utf8(parcel, parcel.reverse_path) or _needs_utf8(parcel, path)
    ):
        return Reply.of(553, "5.6.7", "The peer does not take SMTPUTF8, which the message needs")
    if parcel.content.eight_bit and "8BITMIME" not in offered:
        return Reply.of(554, "5.6.3", "The peer does not take 8BITMIME, which the message needs")
    limit = offered.size_max
    if limit is not None and parcel.content.size > limit:
        text = f"The message has {parcel.content.size} octets, the peer takes {limit}"
        return Reply.of(552, "5.3.4", text)
    return None


def _is_too_many(answer: Answer) -> bool:
    """Source: RFC 5321 §4.5.3.1.10."""
    reply = answer.reply
    if answer.stage is not Stage.RCPT or reply.code not in (452, 552):
        return False
    status = reply.status
    return status is None or (status.subject, status.detail) == (5, 3)


def _outcome(answer: Answer, peer: Peer) -> Outcome:
    reply = answer.reply
    if answer.is_delivered:
        return Delivered(reply, peer)
    if reply.is_permanent and not _is_too_many(answer):
        return Failed(reply, peer)
    return Deferred(reply, peer)


class Courier:
    """Carries messages to one destination (a key domain), one after another.

    last_failure: why no host gave a session in the last attempt; None when one did. So
    it says nothing about the message, and other messages would fare the same.
    """

    def __init__(self, road: Road, domain: str) -> None:
        self._road = road
        self._domain = domain
        self._session: Session | None = None
        self.last_failure: Reply | None = None

    @property
    def messages(self) -> int:
        """How many transactions the present connection has carried."""
        return self._session.transactions if self._session is not None else 0

    @property
    def is_connected(self) -> bool:
        return self._session is not None and self._session.is_usable

    async def deliver(self, parcel: Parcel, note: Callable[[Event], None]) -> dict[int, Outcome]:
        """An outcome for each recipient. note: is told what happened on the way."""
        self.last_failure = None
        fault = parcel.content.fault
        if fault is not None:
            reply = Reply.of(554, "5.6.0", f"SMTP cannot carry the message: it holds {fault.value}")
            return dict.fromkeys(parcel.recipients, Failed(reply))
        outcomes: dict[int, Outcome] = {}
        left = list(parcel.recipients)
        if self._session is not None and self._session.is_usable:
            left, _ = await self._carry(self._session, parcel, left, outcomes, note)
        if not left:
            return outcomes
        await self.close()
        async with aclosing(self._targets(parcel.message, note)) as targets:
            await self._try_targets(targets, parcel, left, outcomes, note)
        return outcomes

    async def _try_targets(
        self,
        targets: AsyncIterator[Target | Deferred | Failed],
        parcel: Parcel,
        left: list[int],
        outcomes: dict[int, Outcome],
        note: Callable[[Event], None],
    ) -> None:
        """Target after target until nobody is left; who is left at the end has the last failure."""
        failure: Deferred | Failed = defer("4.4.1", f"No host of {self._domain} could be reached")
        refusals: list[int] = []
        opened = False
        began = self._road.monotonic()
        async for target in targets:
            if self._road.monotonic() - began > SEARCH_S_MAX:
                break
            if not isinstance(target, Target):
                failure = target
                refusals.append(target.reply.code)
                continue
            session = await self._open(target, parcel.message, note)
            peer: Peer | None = None
            if isinstance(session, Session):
                self._session = session
                opened = True
                left, reply = await self._carry(session, parcel, left, outcomes, note)
                if not left:
                    return
                await self.close()
            else:
                reply = session.reply
                if session.by_peer:
                    peer = Peer(host=target.host, address=target.address)
            failure = Deferred(_temporary(reply), peer, ours=reply.is_permanent)
            refusals.append(reply.code)
            note(
                HostPassedOver(
                    message=parcel.message,
                    host=target.host,
                    address=target.address,
                    reply=str(reply)[:REPLY_CHARACTERS_MAX],
                )
            )
        if refusals and set(refusals) == {521}:  # RFC 7504 §3: nobody there ever takes mail
            failure = Failed(_never(failure.reply), failure.peer, ours=True)
        outcomes.update(dict.fromkeys(left, failure))
        if not opened and isinstance(failure, Deferred):
            self.last_failure = failure.reply

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def abort(self) -> None:
        """Drops the connection without a word."""
        session, self._session = self._session, None
        if session is not None:
            session.abort()

    # -- Hosts --------------------------------------------------------------------------------
    async def _targets(
        self, message: str, note: Callable[[Event], None]
    ) -> AsyncGenerator[Target | Deferred | Failed, None]:
        """Addresses to dial, best first; an Outcome where DNS leads nowhere."""
        road = self._road
        hosts = await find_hosts(road.resolver, self._domain, road.hostname, road.jitter)
        if not isinstance(hosts, Hosts):
            yield hosts
            return
        names = hosts.names or (hosts.literal,)
        note(RouteFound(message=message, domain=self._domain, hosts=names))
        if hosts.literal:
            yield Target(host=hosts.literal, address=hosts.literal, port=road.port)
            return
        tried = 0
        for name in names:
            found = await find_addresses(road.resolver, name)
            if isinstance(found, Deferred):
                yield found
                continue
            if not found:
                yield defer("4.4.4", f"The mail exchanger {name} has no address")
            for address in found:
                if tried == ADDRESSES_MAX:
                    return
                tried += 1
                yield Target(host=name, address=address, port=road.port)

    async def _open(
        self, target: Target, message: str, note: Callable[[Event], None]
    ) -> Session | Unreached:
        road = self._road
        session = await Session.open(road.dialer, target, road.hostname, road.tls, road.monotonic)
        if isinstance(session, TLSBroken):
            note(
                TLSFellBack(
                    message=message,
                    host=target.host,
                    address=target.address,
                    reason=session.reason,
                )
            )
            session = await Session.open(road.dialer, target, road.hostname, None, road.monotonic)
            assert not isinstance(session, TLSBroken)
        return session

    # -- Transactions -------------------------------------------------------------------------
    async def _carry(
        self,
        session: Session,
        parcel: Parcel,
        numbers: list[int],
        outcomes: dict[int, Outcome],
        note: Callable[[Event], None],
    ) -> tuple[list[int], Reply]:
        """Who is left because the connection broke before the end of data, and how it broke."""
        peer = session.peer
        note(
            SessionUsed(
                message=parcel.message,
                host=peer.host,
                address=peer.address,
                tls=peer.tls,
                reused=session.transactions > 0,
            )
        )
        waiting: list[int] = []
        for number in numbers:
            unfit = _unfit(parcel, parcel.recipients[number].path, session.extensions)
            if unfit is None:
                waiting.append(number)
            else:
                outcomes[number] = Failed(unfit, peer, ours=True)
        reply = Reply.of(451, "4.4.2", "The connection was lost")
        lost: list[int] = []
        while waiting and session.is_usable:
            batch = waiting[:RECIPIENTS_PER_TRANSACTION]
            rest = waiting[RECIPIENTS_PER_TRANSACTION:]
            is_fresh = session.transactions == 0
            ending = await session.transact(_transaction(parcel, batch), parcel.content)
            again: list[int] = []
            for number, answer in zip(batch, ending.answers, strict=True):
                if answer is None:
                    assert ending.failure is not None
                    reply = ending.failure
                    if ending.content_sent:
                        outcomes[number] = Deferred(reply, peer, ours=not ending.by_peer)
                    else:
                        lost.append(number)
                elif answer.reply.code == 421 and not is_fresh and not ending.content_sent:
                    reply = answer.reply  # enough messages on this connection: a new one is due
                    lost.append(number)
                else:
                    outcomes[number] = _outcome(answer, peer)
                    if _is_too_many(answer):
                        again.append(number)
            progress = any(isinstance(outcomes.get(number), Delivered) for number in batch)
            waiting = again + rest if progress else rest
        return lost + [number for number in waiting if number not in outcomes], reply


def _temporary(reply: Reply) -> Reply:
    """A host's 5yz about itself, not about the mail: kept in words, tried again later."""
    if not reply.is_permanent:
        return reply
    return Reply.of(451, "4.3.2", f"The host refuses us: {reply}"[:REPLY_CHARACTERS_MAX])


def _never(reply: Reply) -> Reply:
    """RFC 7504 §3, RFC 3463 §3.4 (X.3.2)."""
    return Reply.of(521, "5.3.2", f"No host of the domain accepts mail: {reply.text}")


def _transaction(parcel: Parcel, numbers: list[int]) -> Transaction:
    recipients = tuple(parcel.recipients[number] for number in numbers)
    paths = (parcel.reverse_path, *(recipient.path for recipient in recipients))
    return Transaction(
        reverse_path=parcel.reverse_path,
        recipients=recipients,
        size=parcel.content.size,
        eight_bit=parcel.content.eight_bit,
        smtputf8=any(_needs_utf8(parcel, path) for path in paths),
        ret=parcel.ret,
        envid=parcel.envid,
    )
