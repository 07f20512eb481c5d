"""Reading the queue. `queue.reading.MailQueue` is it; writing goes through operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from postroad.store.values import BlobRef


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRecipient:
    recipient: int
    """Its number within the message, from 0."""
    path: str
    domain: str
    notify: tuple[str, ...]
    orcpt: str | None
    tries: int
    next_attempt: int
    last_attempt: int
    last_reply: str
    last_remote: str
    attempting: bool
    """An attempt was begun and its end is not written: it may have been delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    message: str
    blob: BlobRef
    head: bytes
    size: int
    reverse_path: str
    body: str
    smtputf8: bool
    ret: str | None
    envid: str | None
    account: int
    accepted: int
    expires: int
    recipients: tuple[QueuedRecipient, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """What the schedule keeps in memory of a recipient."""

    next_attempt: int
    message: str
    recipient: int
    domain: str


class Queue(Protocol):
    def due(self) -> Iterator[Due]:
        """Every recipient in the queue (for the start)."""
        ...

    def due_of(self, message: str) -> list[Due]: ...

    def message(self, message: str) -> QueuedMessage | None: ...

    def messages(self) -> Iterator[QueuedMessage]:
        """All, oldest first, for an operator's list."""
        ...

    def history(self, message: str) -> list[tuple[float, bytes]]:
        """Records of one message in order (see `Remember`)."""
        ...
