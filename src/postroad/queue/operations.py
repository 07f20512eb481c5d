"""Every change to the queue and to the history of messages, as operations for the one writer."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from postroad.database.contract import Notice, Operation, Topic, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.store.values import BlobRef

FORGOTTEN_ROWS_MAX = 2000
"""In one unit: the writer serves others in between."""


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

    def is_long(self) -> bool:
        return len(self.recipients) > 50

    def apply(self, tx: Transaction) -> None:
        if not self.recipients:
            raise StateError(Fault.CANNOT, "a queued message has a recipient")
        tx.execute("INSERT OR IGNORE INTO delivery VALUES (?, 0, 0, 0, 0, 0)", (self.message,))
        if not tx.changes():
            return  # a unit that came again: it is, or was, in the queue
        tx.execute(
            "INSERT INTO queue_message (message, blob, size, reverse_path, body, smtputf8, ret,"
            " envid, account, accepted, expires, head) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.message,
                self.blob,
                self.size,
                self.reverse_path,
                self.body,
                self.smtputf8,
                self.ret,
                self.envid,
                self.account,
                self.accepted,
                self.expires,
                self.head,
            ),
        )
        for number, recipient in enumerate(self.recipients):
            tx.execute(
                "INSERT INTO queue_recipient VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0, '', '', 0)",
                (
                    self.message,
                    number,
                    recipient.path,
                    recipient.domain,
                    " ".join(recipient.notify),
                    recipient.orcpt,
                    self.accepted,
                ),
            )
        tx.sync_blob(self.blob)
        tx.notify(Notice(Topic.QUEUE, subject=self.message))


class BeginAttempt(Operation[None], frozen=True, kw_only=True):
    """Written before a connection is dialled: an attempt that a crash cut short is known."""

    message: str
    recipients: tuple[int, ...]
    now: int

    def apply(self, tx: Transaction) -> None:
        for recipient in self.recipients:
            tx.execute(
                "UPDATE queue_recipient SET attempting = 1, tries = tries + 1, last_attempt = ?"
                " WHERE message = ? AND recipient = ?",
                (self.now, self.message, recipient),
            )
            if not tx.changes():
                raise StateError(
                    Fault.NONEXISTENT, f"recipient {recipient} of {self.message} is not queued"
                )


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

    def is_long(self) -> bool:
        return len(self.settlements) > 50

    def is_irrevocable(self) -> bool:
        """A failure must not stand without the report that is in the same unit."""
        return True

    def apply(self, tx: Transaction) -> bool:
        for end in self.settlements:
            key = (self.message, end.recipient)
            if end.state in ("delivered", "failed"):
                tx.execute("DELETE FROM queue_recipient WHERE message = ? AND recipient = ?", key)
            elif end.state == "deferred":
                tx.execute(
                    "UPDATE queue_recipient SET attempting = 0, next_attempt = ?, last_attempt = ?,"
                    " last_reply = ?, last_remote = ? WHERE message = ? AND recipient = ?",
                    (end.next_attempt, self.now, end.reply, end.remote, *key),
                )
            else:
                raise StateError(Fault.CANNOT, f"{end.state!r} is no way for an attempt to end")
        return _drop_if_done(tx, self.message)


class Reschedule(Operation[int], frozen=True, kw_only=True):
    """An operator's "retry now" for one message ("" means all); returns how many recipients."""

    Result: ClassVar[type] = int
    message: str
    next_attempt: int

    def is_long(self) -> bool:
        return not self.message

    def apply(self, tx: Transaction) -> int:
        if self.message:
            tx.execute(
                "UPDATE queue_recipient SET next_attempt = ? WHERE message = ?",
                (self.next_attempt, self.message),
            )
        else:
            tx.execute("UPDATE queue_recipient SET next_attempt = ?", (self.next_attempt,))
        count = tx.changes()
        if self.message and not count:
            raise StateError(Fault.NONEXISTENT, f"{self.message} is not in the queue")
        tx.notify(Notice(Topic.QUEUE, subject=self.message))
        return count


class RemoveQueued(Operation[int], frozen=True, kw_only=True):
    """An operator's removal; no DSN is sent. Returns how many recipients were dropped."""

    Result: ClassVar[type] = int
    message: str

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> int:
        tx.execute("DELETE FROM queue_recipient WHERE message = ?", (self.message,))
        count = tx.changes()
        tx.execute("DELETE FROM queue_message WHERE message = ?", (self.message,))
        if not tx.changes():
            raise StateError(Fault.NONEXISTENT, f"{self.message} is not in the queue")
        tx.notify(Notice(Topic.QUEUE, subject=self.message))
        return count


class Remember(Operation[None], frozen=True, kw_only=True):
    """Adds to the history of a message that `postroad message trace` prints.

    records: (unix seconds with fraction, JSON of `trace.record(event)`).
    """

    message: str
    records: tuple[tuple[float, bytes], ...]

    def apply(self, tx: Transaction) -> None:
        if self.records:
            tx.execute(
                "INSERT INTO history (message, at, records) VALUES (?, ?, ?)",
                (self.message, self.records[-1][0], msgspec.msgpack.encode(self.records)),
            )


class Forget(Operation[int], frozen=True, kw_only=True):
    """Drops history written before `before` (unix seconds) and what message ids before
    `message` have done, some thousand rows at most. Returns how many; again until it is 0."""

    Result: ClassVar[type] = int
    before: float
    message: str

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> int:
        tx.execute(
            "DELETE FROM history WHERE number IN"
            " (SELECT number FROM history ORDER BY number LIMIT ?) AND at < ?",
            (FORGOTTEN_ROWS_MAX, self.before),
        )
        count = tx.changes()
        tx.execute(
            "DELETE FROM delivery WHERE (message, account) IN (SELECT message, account"
            " FROM delivery WHERE message < ? ORDER BY message LIMIT ?)",
            (self.message, FORGOTTEN_ROWS_MAX),
        )
        return count + tx.changes()


def _drop_if_done(tx: Transaction, message: str) -> bool:
    """Takes the message out of the queue when no recipient is left."""
    if tx.first("SELECT 1 FROM queue_recipient WHERE message = ?", (message,)) is not None:
        return False
    tx.execute("DELETE FROM queue_message WHERE message = ?", (message,))
    return True
