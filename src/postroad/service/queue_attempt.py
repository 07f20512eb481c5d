"""One attempt to deliver one message to one destination: begin, carry, settle.

What a crash may leave behind, instant by instant: before BeginAttempt is durable nothing was said
to anybody; behind it and before Settle the recipients are marked as being attempted, and the next
start tries them again (a duplicate is possible, a loss is not); Settle, the report to the sender
and the history are one unit.

Knows the contracts of queue and store, and `delivery`; the runner decides when and in what order.
Source: RFC 5321 §4.5.4.1, §6.1; RFC 3461 §5.2; RFC 3463 §3.5 (X.4.7).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from postroad.database.contract import Operation
from postroad.delivery.bounce import (
    DSNImpossible,
    DSNMade,
    DSNSent,
    Reported,
    action_for,
    entrance,
    render_report,
)
from postroad.delivery.content import Content
from postroad.delivery.outcome import Deferred, Delivered, Failed, Outcome, Peer
from postroad.delivery.remote import Courier, Parcel
from postroad.mail.address import Address, parse_address
from postroad.mail.envelope import Recipient
from postroad.mail.errors import StateError, Unavailable
from postroad.mail.ids import MessageId, message_id
from postroad.mail.reply import Reply
from postroad.queue.contract import QueuedMessage, QueuedRecipient
from postroad.queue.operations import BeginAttempt, Remember, Settle, Settlement
from postroad.queue.schedule import next_attempt
from postroad.service.site import Site
from postroad.store.values import BlobRef
from postroad.trace import Event, record

THREAD_OCTETS_MIN = 256 << 10
"""Messages from here on are read, examined and reported on a thread."""
REPLY_CHARACTERS_MAX = 2000
"""Of a reply, in the queue and in the history."""
SETTLE_WAIT_MAX_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegan(Event):
    domain: str
    recipients: tuple[str, ...]
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInterrupted(Event):
    """The attempt before was cut short (crash, kill): the peer may get the message twice."""

    recipients: tuple[str, ...]
    began: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientDelivered(Event):
    recipient: str
    host: str
    address: str
    tls: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredUntil(Event):
    recipient: str
    reply: str
    host: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedForGood(Event):
    recipient: str
    reply: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBroke(Event):
    """A fault of ours or of the disk ended the attempt; nothing is lost, it is made again."""

    domain: str
    what: str


class Journal:
    """What happens to one message in one attempt: traced at once, kept for its history."""

    __slots__ = ("_message", "_site", "records")

    def __init__(self, site: Site, message: str) -> None:
        self._site = site
        self._message = message
        self.records: list[tuple[float, bytes]] = []

    def note(self, event: Event) -> None:
        self._site.trace(event)
        moment = self._site.clock.now().timestamp()
        self.records.append((moment, msgspec.json.encode(record(event))))

    def remember(self) -> Remember:
        return Remember(message=self._message, records=tuple(self.records))


def _bounded(reply: Reply) -> str:
    return str(reply)[:REPLY_CHARACTERS_MAX]


def our_fault(text: str) -> Deferred:
    return Deferred(Reply.of(451, "4.3.0", text))


class Attempt:
    """One message's recipients in one domain, being tried once.

    later: when the domain's other recipients of the message are due, if there are any.
    """

    def __init__(
        self,
        site: Site,
        message: QueuedMessage,
        recipients: tuple[QueuedRecipient, ...],
        later: int | None,
    ) -> None:
        self._site = site
        self._later = later
        self._begun = False
        self._report_id: MessageId | None = None
        self.message = message
        self.recipients = recipients
        self.domain = recipients[0].domain
        self.outcomes: dict[int, Outcome] = {}
        self._journal = Journal(site, message.message)
        self._content: Content | None = None
        self._settled: dict[int, Outcome] = {}

    # -- Begin --------------------------------------------------------------------------------
    async def begin(self) -> None:
        """Reads the message and writes down that it is being tried. Once only.

        Raises: Unavailable, and StateError when the message has gone from the queue.
        """
        if self._begun:
            return
        message, journal = self.message, self._journal
        self._content = await self._read()
        cut = tuple(item for item in self.recipients if item.attempting)
        if cut:
            journal.note(
                AttemptInterrupted(
                    message=message.message,
                    recipients=tuple(item.path for item in cut),
                    began=max(item.last_attempt for item in cut),
                )
            )
        await self._site.database.submit(
            BeginAttempt(
                message=message.message,
                recipients=tuple(item.recipient for item in self.recipients),
                now=self._now(),
            )
        )
        journal.note(
            AttemptBegan(
                message=message.message,
                domain=self.domain,
                recipients=tuple(item.path for item in self.recipients),
                tries=max(item.tries for item in self.recipients) + 1,
            )
        )
        self._begun = True

    async def _read(self) -> Content:
        message = self.message
        if message.size < THREAD_OCTETS_MIN:
            return self._read_now()
        return await asyncio.to_thread(self._read_now)

    def _read_now(self) -> Content:
        return Content(self.message.head, self._site.store.blobs.read(self.message.blob))

    # -- Carry --------------------------------------------------------------------------------
    async def carry(self, courier: Courier) -> None:
        """Gives the message to the courier; `outcomes` tells what came of it."""
        assert self._content is not None
        message = self.message
        recipients: dict[int, Recipient] = {}
        outcomes: dict[int, Outcome] = {}
        for item in self.recipients:
            try:
                path = parse_address(item.path)
            except ValueError as error:
                outcomes[item.recipient] = Failed(Reply.of(553, "5.1.3", str(error)))
                continue
            recipients[item.recipient] = Recipient(
                path=path, notify=frozenset(item.notify), orcpt=item.orcpt
            )
        if recipients:
            parcel = Parcel(
                message=message.message,
                reverse_path=_reverse_path(message),
                recipients=recipients,
                content=self._content,
                smtputf8=message.smtputf8,
                ret=message.ret,
                envid=message.envid,
            )
            outcomes.update(await courier.deliver(parcel, self._journal.note))
        self.outcomes = outcomes

    def put_off(self, outcome: Deferred) -> None:
        """The same for every recipient, without a word to anybody."""
        self.outcomes = {item.recipient: outcome for item in self.recipients}

    def break_off(self, error: Exception) -> None:
        """A fault of ours ended it: deferred for everybody, the trace keeps why."""
        what = error.what if isinstance(error, Unavailable) else f"{type(error).__name__}: {error}"
        self._journal.note(
            AttemptBroke(message=self.message.message, domain=self.domain, what=what)
        )
        self.put_off(our_fault("The attempt broke off for a reason of our own"))

    # -- Settle -------------------------------------------------------------------------------
    async def settle(self) -> int | None:
        """Writes the outcomes, the report and the history as one unit.

        Tries until the disk takes it: a delivery that is not written down is made again.
        Returns: when a recipient of this destination is next due, None when none is left.
        """
        now = self._site.clock.now()
        settlements = self._settlements(int(now.timestamp()))
        before = len(self._journal.records)
        try:
            report = await self._report(now)
        except Exception as error:
            report = []
            settlements = self._without_report(now, error)
        settle = Settle(message=self.message.message, settlements=settlements, now=self._now())
        if not await self._submit(settle, report, before, now):
            return None
        due = [item.next_attempt for item in settlements if item.state == "deferred"]
        if self._later is not None:
            due.append(self._later)
        return min(due, default=None)

    def _settlements(self, now: int) -> tuple[Settlement, ...]:
        return tuple(
            self._settlement(item, self.outcomes[item.recipient], now) for item in self.recipients
        )

    def _settlement(self, item: QueuedRecipient, outcome: Outcome, now: int) -> Settlement:
        """One recipient's row; an expired Deferred becomes Failed here."""
        site, message = self._site, self.message
        due: int | None = None
        if isinstance(outcome, Deferred):
            due = next_attempt(
                item.tries + 1,
                message.accepted,
                now,
                site.retry_schedule_s,
                message.expires,
                site.clock.uniform(0.0, 1.0),
            )
            if due is None:
                outcome = _expired(outcome)
        self._settled[item.recipient] = outcome
        self._note_outcome(item, outcome, due)
        match outcome:
            case Delivered():
                state = "delivered"
            case Deferred():
                state = "deferred"
            case Failed():
                state = "failed"
        return Settlement(
            recipient=item.recipient,
            state=state,
            reply=_bounded(outcome.reply),
            remote=_remote(outcome.peer),
            next_attempt=due or 0,
        )

    def _note_outcome(self, item: QueuedRecipient, outcome: Outcome, due: int | None) -> None:
        message, reply = self.message.message, _bounded(outcome.reply)
        host = str(outcome.peer) if outcome.peer is not None else ""
        match outcome:
            case Delivered(peer=peer):
                self._journal.note(
                    RecipientDelivered(
                        message=message,
                        recipient=item.path,
                        host=peer.host,
                        address=peer.address,
                        tls=peer.tls,
                        reply=reply,
                    )
                )
            case Deferred():
                until = datetime.fromtimestamp(due or 0, self._site.clock.now().tzinfo)
                self._journal.note(
                    DeferredUntil(
                        message=message, recipient=item.path, reply=reply, host=host, until=until
                    )
                )
            case Failed():
                self._journal.note(
                    FailedForGood(message=message, recipient=item.path, reply=reply, host=host)
                )

    async def _report(self, now: datetime) -> list[Operation[Any]]:
        """The operations that tell the sender, none when there is nothing to tell."""
        moment = int(now.timestamp())
        reported = []
        for item in self.recipients:
            outcome = self._settled[item.recipient]
            action = action_for(self.message, item, outcome, moment)
            if action is not None:
                reported.append(Reported(item, outcome, action))
        if not reported:
            return []
        try:
            return await self._make_report(reported, now)
        except StateError as error:
            self._note_impossible(error.text)
            return []

    async def _make_report(self, reported: list[Reported], now: datetime) -> list[Operation[Any]]:
        """Renders and stores the report. Raises: StateError, Unavailable."""
        site, message = self._site, self.message
        report = self._report_id or message_id(now, site.clock.random_bits(35))
        self._report_id = report  # made again, it is the same report, and is delivered once
        boundary = f"=_{site.clock.random_bits(96):024x}"
        if message.size < THREAD_OCTETS_MIN:
            octets, blob = self._store_report(reported, report, boundary, now)
        else:
            octets, blob = await asyncio.to_thread(
                self._store_report, reported, report, boundary, now
            )
        made = Journal(site, report)
        made.note(DSNMade(message=report, about=message.message, to=message.reverse_path))
        operations = entrance(
            message,
            octets,
            blob,
            site.directory,
            report=report,
            now=now,
            records=tuple(made.records),
            lifetime_s=site.bounce_lifetime_s,
        )
        self._journal.note(
            DSNSent(
                message=message.message,
                report=report,
                to=message.reverse_path,
                actions=tuple(f"{item.action.value} {item.recipient.path}" for item in reported),
            )
        )
        return operations

    def _store_report(
        self, reported: list[Reported], report: MessageId, boundary: str, now: datetime
    ) -> tuple[bytes, BlobRef]:
        """Blocks: it compresses and writes."""
        content = self._content or self._read_now()
        octets = render_report(
            self.message,
            reported,
            content.head + content.blob,
            hostname=self._site.hostname,
            report=report,
            boundary=boundary,
            now=now,
        )
        draft = self._site.store.blobs.draft()
        try:
            draft.write(octets)
            return octets, draft.commit()
        finally:
            draft.discard()

    def _without_report(self, now: datetime, error: Exception) -> tuple[Settlement, ...]:
        """The report could not be made: a failure waits until it can, a delivery stands."""
        what = f"no report could be made: {type(error).__name__}: {error}"
        self._journal.note(
            AttemptBroke(message=self.message.message, domain=self.domain, what=what)
        )
        schedule = self._site.retry_schedule_s
        wait = schedule[0] if isinstance(error, Unavailable) else schedule[-1]
        settlements = []
        for item in self.recipients:
            outcome = self._settled[item.recipient]
            due = 0 if isinstance(outcome, Delivered) else int(now.timestamp()) + wait
            settlements.append(
                Settlement(
                    recipient=item.recipient,
                    state="delivered" if isinstance(outcome, Delivered) else "deferred",
                    reply=_bounded(outcome.reply),
                    remote=_remote(outcome.peer),
                    next_attempt=due,
                )
            )
        return tuple(settlements)

    async def _submit(
        self, settle: Settle, report: list[Operation[Any]], before: int, now: datetime
    ) -> bool:
        """Whether the outcomes were written; not, when the message has gone meanwhile.

        before: how many records the journal had before the report was made.
        """
        wait = 0.5
        while True:
            try:
                await self._site.database.submit(settle, self._journal.remember(), *report)
                return True
            except StateError as error:
                if not report:  # the message has gone: an operator removed it
                    self._trace_broken(error.text)
                    return False
                self._note_impossible(error.text)
                report = []
            except Unavailable as error:
                self._trace_broken(error.what)
                await self._site.clock.sleep(wait)
                wait = min(wait * 2, SETTLE_WAIT_MAX_S)
                if report:
                    report = await self._anew(report, before, now)

    async def _anew(
        self, report: list[Operation[Any]], before: int, now: datetime
    ) -> list[Operation[Any]]:
        """The same report with its octets stored anew: the old ones may be what was not synced."""
        noted = self._journal.records[before:]
        del self._journal.records[before:]
        try:
            return await self._report(now)
        except Exception as error:
            self._trace_broken(f"the report, again: {error}")
            self._journal.records[before:] = noted
            return report

    def _trace_broken(self, what: str) -> None:
        self._site.trace(AttemptBroke(message=self.message.message, domain=self.domain, what=what))

    def _note_impossible(self, reason: str) -> None:
        self._journal.note(
            DSNImpossible(message=self.message.message, to=self.message.reverse_path, reason=reason)
        )

    def _now(self) -> int:
        return int(self._site.clock.now().timestamp())


def due_part(
    message: QueuedMessage, domain: str, now: int
) -> tuple[tuple[QueuedRecipient, ...], int | None]:
    """The recipients of `domain` that are due, and when the first of its others is."""
    of_domain = [item for item in message.recipients if item.domain == domain]
    due = tuple(item for item in of_domain if item.next_attempt <= now)
    later = (item.next_attempt for item in of_domain if item.next_attempt > now)
    return due, min(later, default=None)


def _reverse_path(message: QueuedMessage) -> Address | None:
    return parse_address(message.reverse_path) if message.reverse_path else None


def _remote(peer: Peer | None) -> str:
    if peer is None:
        return ""
    return f"{peer} ({peer.tls})" if peer.tls else str(peer)


def _expired(outcome: Deferred) -> Failed:
    """RFC 3463 §3.5: X.4.7, delivery time expired; the last reply goes along."""
    text = f"Given up: not delivered in time; the last reply was: {_bounded(outcome.reply)}"
    reply = Reply.of(554, "5.4.7", text)
    return Failed(reply, outcome.peer, last=outcome.reply, ours=outcome.ours)
