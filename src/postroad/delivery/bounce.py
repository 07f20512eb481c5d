"""Delivery status reports: who is told what about a message, and the report's way in.

Decides (pure), renders through `message.dsn`, and gives the operations by which the report enters
like any other message, with the null reverse-path, so that nothing is ever reported about it.
A report that nobody asked for is not made: no report to the null reverse-path, none for
NOTIFY=NEVER, a delay only once, a success only where the peer will not report it itself.

Knows no database and no clock; the caller commits the blob and submits, in the same unit as the
outcome that is reported.
Source: RFC 3461 §4.1, §5.2.2, §5.2.5, §5.2.6, §6.1, §6.2; RFC 3464 §2; RFC 5321 §4.5.5, §6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, assert_never

from postroad.database.contract import Operation
from postroad.delivery.intake import Arrival, destinations, local_head, operations_for
from postroad.delivery.outcome import Deferred, Delivered, Failed, Outcome
from postroad.directory.contract import Directory
from postroad.mail.address import Address, parse_address
from postroad.mail.envelope import Body, Envelope, Recipient
from postroad.mail.ids import MessageId
from postroad.mail.reply import Reply
from postroad.message.dsn import DSNRecipient, render_dsn
from postroad.message.summary import summarize
from postroad.queue.contract import QueuedMessage, QueuedRecipient
from postroad.queue.schedule import delay_notice_due
from postroad.store.values import BlobRef
from postroad.trace import Event

ORIGINAL_OCTETS_MAX = 50_000
"""A failed message is returned whole up to here unless RET says otherwise (RFC 3461 §4.3)."""


class Action(Enum):
    """Source: RFC 3464 §2.3.3; what a relay can have to report."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Reported:
    """One recipient's share of a report."""

    recipient: QueuedRecipient
    outcome: Outcome
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class DSNSent(Event):
    """The sender is told. report: the report's own message id."""

    report: str
    to: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DSNMade(Event):
    """The beginning of a report's own history. about: the message it reports."""

    about: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DSNImpossible(Event):
    """The sender should be told and cannot be reached; the outcome stands without a report."""

    to: str
    reason: str


def action_for(
    message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome, now: int
) -> Action | None:
    """What the sender is told about this outcome, if anything.

    Source: RFC 3461 §4.1 (without NOTIFY: failures, and delays as we see fit), §5.2.2 (success).
    """
    if not message.reverse_path or "NEVER" in recipient.notify:
        return None
    asked = recipient.notify
    match outcome:
        case Failed():
            return Action.FAILED if not asked or "FAILURE" in asked else None
        case Deferred():
            if asked and "DELAY" not in asked:
                return None
            due = delay_notice_due(message.accepted, recipient.last_attempt, now)
            return Action.DELAYED if due else None
        case Delivered(peer=peer):
            return Action.RELAYED if "SUCCESS" in asked and not peer.dsn else None
        case _:
            assert_never(outcome)


def returns_whole(message: QueuedMessage, reported: Sequence[Reported]) -> bool:
    """Whether the report carries the message whole, not its header only.

    Source: RFC 3461 §4.3 (RET), §6.2 (f): only failures return content.
    """
    if not any(item.action is Action.FAILED for item in reported):
        return False
    if message.ret is not None:
        return message.ret.upper() == "FULL"
    return message.size <= ORIGINAL_OCTETS_MAX


def _status(reply: Reply, action: Action) -> str:
    klass = {Action.FAILED: 5, Action.DELAYED: 4, Action.RELAYED: 2}[action]
    status = reply.status
    if status is None:
        return f"{klass}.0.0"
    return str(replace(status, klass=klass))  # the class tells the action, the rest stays true


def _dsn_recipient(item: Reported, message: QueuedMessage, now: datetime) -> DSNRecipient:
    outcome = item.outcome
    delayed = item.action is Action.DELAYED
    last = outcome.last if isinstance(outcome, Failed) else None
    waited = now - datetime.fromtimestamp(message.accepted, UTC) if last is not None else None
    return DSNRecipient(
        final=item.recipient.path,
        original=item.recipient.orcpt,
        action=item.action.value,
        status=_status(outcome.reply, item.action),
        diagnostic=last or outcome.reply,
        remote=outcome.peer.host if outcome.peer is not None else None,
        ours=not isinstance(outcome, Delivered) and outcome.ours,
        waited=waited,
        last_attempt=now,
        will_retry_until=datetime.fromtimestamp(message.expires, UTC) if delayed else None,
    )


def render_report(
    message: QueuedMessage,
    reported: Sequence[Reported],
    original: bytes,
    *,
    hostname: str,
    report: MessageId,
    boundary: str,
    now: datetime,
) -> bytes:
    """The whole report. original: the message's octets, head included."""
    end = original.find(b"\r\n\r\n")
    header = original if end < 0 else original[: end + 2]
    return render_dsn(
        hostname=hostname,
        reverse_path_of_original=parse_address(message.reverse_path),
        message_id=f"<{report}@{hostname}>",
        now=now,
        arrival=datetime.fromtimestamp(message.accepted, UTC),
        envid=message.envid,
        recipients=[_dsn_recipient(item, message, now) for item in reported],
        original_header=header,
        original=original if returns_whole(message, reported) else None,
        smtputf8=message.smtputf8,
        boundary=boundary,
    )


def entrance(
    message: QueuedMessage,
    octets: bytes,
    blob: BlobRef,
    directory: Directory,
    *,
    report: MessageId,
    now: datetime,
    records: tuple[tuple[float, bytes], ...],
    lifetime_s: int,
) -> list[Operation[Any]]:
    """The operations by which the report (octets, already in `blob`) reaches the sender.

    Raises: StateError when the sender's address is ours and nobody's.
    Source: RFC 3461 §6.1 (null reverse-path, NOTIFY=NEVER).
    """
    sender: Address = parse_address(message.reverse_path)
    envelope = Envelope(
        reverse_path=None,
        recipients=(Recipient(path=sender, notify=frozenset({"NEVER"})),),
        body=Body.SEVEN_BIT if octets.isascii() else Body.EIGHT_BIT,
        smtputf8=message.smtputf8,
    )
    going = destinations(envelope, directory, relay=True)
    summary = summarize(octets, local_head(envelope, b"")) if going.local else None
    arrival = Arrival(
        message=report,
        envelope=envelope,
        head=b"",
        blob=blob,
        size=len(octets),
        summary=summary,
        account=0,
        now=now,
        records=records,
    )
    return operations_for(arrival, going, lifetime_s=lifetime_s)
