"""Administrative verbs on mail under way: the queue, and the history of one message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from postroad.admin.books import Books
from postroad.mail.address import domain_key
from postroad.mail.errors import Fault, StateError
from postroad.queue.contract import QueuedMessage, QueuedRecipient
from postroad.queue.operations import RemoveQueued, Reschedule


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """What to choose of the queue; None matches all.

    domain: of a recipient. sender, recipient: the address, in any case; sender "" is null (`<>`).
    deferred: only what has been tried and put off.
    """

    domain: str | None = None
    sender: str | None = None
    recipient: str | None = None
    deferred: bool = False

    def matches(self, message: QueuedMessage) -> bool:
        sender = message.reverse_path.casefold()
        if self.sender is not None and self.sender.casefold() != sender:
            return False
        return any(self._matches(recipient) for recipient in message.recipients)

    def _matches(self, recipient: QueuedRecipient) -> bool:
        if self.domain is not None and recipient.domain != domain_key(self.domain):
            return False
        if self.recipient is not None and recipient.path.casefold() != self.recipient.casefold():
            return False
        return recipient.tries > 0 if self.deferred else True


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One message of the queue, for people. Moments are ISO 8601 in UTC."""

    message: str
    size: int
    reverse_path: str
    accepted: str
    expires: str
    recipients: tuple[QueueRecipient, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecipient:
    """state: "waiting" (not tried yet), "deferred", "attempting"."""

    path: str
    state: str
    tries: int
    next_attempt: str
    last_attempt: str
    last_reply: str
    last_remote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRecord:
    """at: ISO 8601 in UTC. event: its name; details: its fields."""

    at: str
    event: str
    details: dict[str, Any]


def list_queue(books: Books, chosen: QueueFilter) -> Iterator[QueueEntry]:
    """Oldest first."""
    return (queue_entry(found) for found in books.queue.messages() if chosen.matches(found))


def find_queued(books: Books, message: str) -> QueueEntry:
    """Raises: StateError(NONEXISTENT)."""
    found = books.queue.message(message)
    if found is None:
        raise StateError(
            Fault.NONEXISTENT,
            f"{message} is not in the queue. What became of it: message trace {message}",
        )
    return queue_entry(found)


async def retry_queued(
    books: Books, messages: list[str] | None, chosen: QueueFilter, *, now: datetime
) -> int:
    """Makes recipients due now; messages None: all that `chosen` matches. Returns how many
    recipients. Raises: StateError(NONEXISTENT), and then nothing was changed."""
    ids = _chosen(books, messages, chosen)
    moment = int(now.timestamp())
    operations = [Reschedule(message=message, next_attempt=moment) for message in ids]
    return sum(await books.database.submit(*operations)) if operations else 0


async def remove_queued(books: Books, messages: list[str] | None, chosen: QueueFilter) -> int:
    """Drops messages from the queue without a bounce; returns how many recipients.

    Raises: StateError(NONEXISTENT), and then nothing was removed.
    """
    operations = [RemoveQueued(message=message) for message in _chosen(books, messages, chosen)]
    return sum(await books.database.submit(*operations)) if operations else 0


def _chosen(books: Books, messages: list[str] | None, chosen: QueueFilter) -> list[str]:
    if messages is None:
        return [entry.message for entry in list_queue(books, chosen)]
    return [find_queued(books, message).message for message in dict.fromkeys(messages)]


def queue_entry(message: QueuedMessage) -> QueueEntry:
    return QueueEntry(
        message=message.message,
        size=message.size,
        reverse_path=message.reverse_path,
        accepted=moment_text(message.accepted),
        expires=moment_text(message.expires),
        recipients=tuple(_recipient(recipient) for recipient in message.recipients),
    )


def _recipient(recipient: QueuedRecipient) -> QueueRecipient:
    if recipient.attempting:
        state = "attempting"
    else:
        state = "deferred" if recipient.tries else "waiting"
    return QueueRecipient(
        path=recipient.path,
        state=state,
        tries=recipient.tries,
        next_attempt=moment_text(recipient.next_attempt),
        last_attempt=moment_text(recipient.last_attempt),
        last_reply=recipient.last_reply,
        last_remote=recipient.last_remote,
    )


def message_history(books: Books, message: str) -> list[HistoryRecord]:
    """Everything that happened to one message, in order. Raises: StateError(NONEXISTENT)."""
    records = []
    for at, octets in books.queue.history(message):
        details = msgspec.json.decode(octets, type=dict[str, Any])
        event = str(details.pop("event", "?"))
        details.pop("message", None)
        records.append(HistoryRecord(at=moment_text(at), event=event, details=details))
    if not records:
        raise StateError(
            Fault.NONEXISTENT,
            f"nothing is known of {message!r}. The id is the one in the 250 reply and in the log, "
            "not the Message-ID",
        )
    return records


def moment_text(seconds: float) -> str:
    """ISO 8601 in UTC; "" for 0, which stands for never."""
    if not seconds:
        return ""
    moment = datetime.fromtimestamp(seconds, UTC)
    precision = "milliseconds" if isinstance(seconds, float) else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
