"""Rows whose octets are not there: found at start, or when a pack would not sync.

The commit of the metadata and the sync of the packs run beside each other, so after a power cut
a row may stand without its octets. It was never answered: it goes, its UID stays burnt, and
clients that saw it are told that it vanished. `durable` says up to which row everything was
found durable, and is written with the next group, so only the last group's rows are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from postroad.database import acknowledged
from postroad.database.contract import Notice, Topic, Transaction
from postroad.database.packs import Damaged, check_blob
from postroad.database.transaction import WriteTransaction

Mark = tuple[int, int]
"""The last row of `content` and of `queue_message` that is known to be durable."""

_DURABLE = "SELECT content, queued FROM durable"
_NEWEST = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'content'), 0),"
    " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'queue_message'), 0)"
)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start removed. Empty lists after a clean stop."""

    messages: list[tuple[int, int, int]] = field(default_factory=list)
    """(account, mailbox, UID)"""
    queued: list[str] = field(default_factory=list)
    checked: int = 0
    missing: int = 0
    """Contents that were answered before and are not in the database any more."""


def _newest(connection: apsw.Connection) -> Mark:
    return _two_numbers(connection, _NEWEST)


def _two_numbers(connection: apsw.Connection, sql: str) -> tuple[int, int]:
    ((first, second),) = connection.execute(sql).fetchall()
    assert isinstance(first, int) and isinstance(second, int)
    return first, second


class Marks:
    """Keeps `durable` a group behind, at the cost of one page that is hot anyway."""

    def __init__(self, connection: apsw.Connection, data_dir: Path) -> None:
        self._connection = connection
        self._acknowledged = acknowledged.Acknowledged(data_dir)
        self._written = _two_numbers(connection, _DURABLE)
        self._known: Mark = self._written
        self._writing: Mark = self._written
        self._stopped = False

    def write(self) -> None:
        """Inside a group's transaction: what earlier groups made durable."""
        self._writing = self._known
        if self._known != self._written:
            self._connection.execute("UPDATE durable SET content = ?, queued = ?", self._known)

    def forget(self) -> None:
        """The transaction was rolled back."""
        self._writing = self._written

    def advance(self) -> None:
        """The group is committed and its packs are synced."""
        self._written = self._writing
        if not self._stopped:
            try:
                self._known = _newest(self._connection)
            except apsw.Error:
                return  # the mark stays behind: the next start looks at more
            self._acknowledged.write(self._known[0])

    def stop(self) -> None:
        """Rows without octets could not be removed: the mark must not pass them."""
        self._written = self._writing
        self._stopped = True

    @property
    def known(self) -> Mark:
        """Rows beyond this may lack their octets."""
        return self._known

    def write_at_close(self) -> None:
        """So that the next start has nothing to look at."""
        self._acknowledged.close()
        if self._known != self._written:
            try:
                self._connection.execute("UPDATE durable SET content = ?, queued = ?", self._known)
            except apsw.Error:
                return  # the next start looks at the last group instead
            self._written = self._known


def remove_lost(tx: Transaction, after: Mark, lost: set[str]) -> Recovered:
    """Takes out the rows beyond `after` whose blob is in `lost`."""
    found = Recovered()
    for heap, account, blob in list(
        tx.execute("SELECT heap, account, blob FROM content WHERE heap > ?", (after[0],))
    ):
        if blob in lost:
            found.messages.extend(_remove_content(tx, account, heap))
    for message, blob in list(
        tx.execute("SELECT message, blob FROM queue_message WHERE number > ?", (after[1],))
    ):
        if blob in lost:
            tx.execute("DELETE FROM queue_recipient WHERE message = ?", (message,))
            tx.execute("DELETE FROM queue_message WHERE message = ?", (message,))
            tx.execute("DELETE FROM delivery WHERE message = ? AND account = 0", (message,))
            tx.notify(Notice(Topic.QUEUE, subject=message))
            found.queued.append(message)
    return found


def _remove_content(tx: Transaction, account: int, heap: int) -> Iterable[tuple[int, int, int]]:
    rows = list(
        tx.execute(
            "SELECT mailbox, uid, flags, size FROM message WHERE account = ? AND heap = ?",
            (account, heap),
        )
    )
    for mailbox, uid, flags, size in rows:
        taken = tx.first(
            "UPDATE counter SET modseq = modseq + 1, octets = octets - ?, messages = messages - 1"
            " WHERE account = ? RETURNING modseq",
            (size, account),
        )
        key = (account, mailbox, uid)
        tx.execute("DELETE FROM message WHERE account = ? AND mailbox = ? AND uid = ?", key)
        if taken is None:
            continue  # the account has gone meanwhile
        modseq = taken[0]
        tx.execute(
            "INSERT INTO expunged VALUES (?, ?, ?, ?, ?)", (account, mailbox, modseq, uid, uid)
        )
        tx.execute(
            "UPDATE mailbox SET highestmodseq = ?, messages = messages - 1, unseen = unseen - ?,"
            " deleted = deleted - ?, size = size - ? WHERE account = ? AND mailbox = ?",
            (modseq, not flags & 1, bool(flags & 8), size, account, mailbox),
        )
        tx.execute(
            "DELETE FROM delivery WHERE account = ? AND mailbox = ? AND uid = ?"
            " AND message IN (SELECT message FROM delivery ORDER BY message DESC LIMIT 10000)",
            key,
        )
        tx.notify(Notice(Topic.MESSAGES, account, mailbox, modseq))
    _forget_removed(tx, account, heap)
    tx.execute("DELETE FROM content WHERE heap = ?", (heap,))
    tx.execute("DELETE FROM shared WHERE account = ? AND heap = ?", (account, heap))
    return [(account, mailbox, uid) for mailbox, uid, _, _ in rows]


def _forget_removed(tx: Transaction, account: int, heap: int) -> None:
    """What was expunged meanwhile cannot be brought back either."""
    key = (account, heap)
    sums = tx.first(
        "SELECT count(*), coalesce(sum(size), 0) FROM removed WHERE account = ? AND heap = ?", key
    )
    if sums is not None and sums[0]:
        tx.execute("DELETE FROM removed WHERE account = ? AND heap = ?", key)
        tx.execute(
            "UPDATE counter SET removed_messages = removed_messages - ?,"
            " removed_octets = removed_octets - ? WHERE account = ?",
            (*sums, account),
        )


def _note_missing(connection: apsw.Connection, data_dir: Path) -> int:
    """How many contents were answered and are gone; noted for `postroad verify`."""
    found = acknowledged.missing(data_dir, _newest(connection)[0])
    if found is None:
        return 0
    acknowledged.note_missing(data_dir, *found)
    return found[1] - found[0] + 1


def recover(connection: apsw.Connection, data_dir: Path) -> Recovered:
    """At start, before anything is answered: looks at what may lack its octets.

    Raises: OSError when a pack that is there cannot be read: better no start than lost mail.
    """
    lacking = _note_missing(connection, data_dir)
    content, queued = _two_numbers(connection, _DURABLE)
    blobs: set[str] = set()
    for table, column, after in (("content", "heap", content), ("queue_message", "number", queued)):
        rows = connection.execute(f"SELECT blob FROM {table} WHERE {column} > ?", (after,))
        blobs.update(str(blob) for (blob,) in rows.fetchall())
    lost: set[str] = set()
    for blob in blobs:
        try:
            check_blob(data_dir, blob)
        except Damaged:
            lost.add(blob)
    connection.execute("BEGIN IMMEDIATE")
    tx = WriteTransaction(connection)
    found = remove_lost(tx, (content, queued), lost)
    connection.execute("UPDATE durable SET content = ?, queued = ?", _newest(connection))
    connection.execute("COMMIT")
    return Recovered(found.messages, found.queued, len(blobs), lacking)
