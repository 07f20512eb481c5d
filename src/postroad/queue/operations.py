"""Every change to the queue and to the history of messages, as operations for the one writer."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from postroad.database.contract import Operation
from postroad.store.values import BlobRef


class QueuedPath(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient of a queued message, as it is accepted."""

    path: str
    """`local@domain`, rendered."""
    domain: str
    """The key domain: A-labels, lower case."""
    notify: tuple[str, ...] = ()
    orcpt: str | None = None


class Enqueue(Operation[None], frozen=True, kw_only=True):
    """Accepts a message for other servers. Times are unix seconds.

    reverse_path: "" is null. account: the sender's, 0 for mail of the server itself.
    head: octets in front of the blob's (trace fields, DKIM signatures).
    """

    message: str
    blob: BlobRef
    head: bytes
    size: int
    reverse_path: str
    recipients: tuple[QueuedPath, ...]
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    account: int = 0
    accepted: int
    expires: int


class BeginAttempt(Operation[None], frozen=True, kw_only=True):
    """Written before a connection is dialled: an attempt that a crash cut short is known."""

    message: str
    recipients: tuple[int, ...]
    now: int


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How one recipient's attempt ended.

    state: "delivered", "deferred" or "failed". reply: as text, `code status text`.
    next_attempt: unix seconds for deferred, else 0.
    """

    recipient: int
    state: str
    reply: str
    remote: str = ""
    """Host name and address of the peer, "" when none was reached."""
    next_attempt: int = 0


class Settle(Operation[bool], frozen=True, kw_only=True):
    """Writes outcomes; true when no recipient is left and the message has gone from the queue."""

    Result: ClassVar[type] = bool
    message: str
    settlements: tuple[Settlement, ...]
    now: int


class Reschedule(Operation[int], frozen=True, kw_only=True):
    """An operator's "retry now" for one message ("" means all); returns how many recipients."""

    Result: ClassVar[type] = int
    message: str
    next_attempt: int


class RemoveQueued(Operation[int], frozen=True, kw_only=True):
    """An operator's removal; no DSN is sent. Returns how many recipients were dropped."""

    Result: ClassVar[type] = int
    message: str


class Remember(Operation[None], frozen=True, kw_only=True):
    """Adds to the history of a message that `postroad message trace` prints.

    records: (unix seconds with fraction, JSON of `trace.record(event)`).
    """

    message: str
    records: tuple[tuple[float, bytes], ...]
