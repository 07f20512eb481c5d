"""Bringing back what was removed: which messages there are, and their way into a mailbox again.

A message comes back under a new UID, as a new arrival does, so no client sees a UID twice; it
keeps its flags (\\Deleted apart), keywords and internal date. A mailbox that was deleted is made
again, with a new UIDVALIDITY. What comes back counts as used space; no limit stops it, since the
space was the account's before and the operator decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from postroad.database.contract import Database, Operation, Row, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.store import names, tree
from postroad.store.keys import CELL, Keys
from postroad.store.moving import DELETED, PICKED, insert_picked, picked_uids, sums_of_picked
from postroad.store.quota import next_modseq

PAGE_ROWS = 500
RESTORED_AT_ONCE = 1000
"""Messages in one unit of work: some 20 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A message that can be brought back.

    name: of the mailbox it was in, as that is called now, or was when it was deleted.
    saved: when it came into that mailbox; 0: not known.
    """

    mailbox: int
    name: str
    uid: int
    removed_at: int
    saved: int
    internal_date: int
    size: int
    flags: int
    keywords: bytes
    heap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedMailbox:
    """A mailbox that was deleted, and that none has the name of today."""

    mailbox: int
    name: str
    special_use: str
    removed_at: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """uids: those that the messages have now, ascending in the order of the old ones."""

    mailbox: int
    name: str
    created: bool
    uids: list[tuple[int, int]]


_REMOVED = (
    "SELECT r.mailbox, coalesce(m.name, g.name, ''), r.uid, r.removed_at, r.saved,"
    " r.internal_date, r.size, r.flags, r.keywords, r.heap FROM removed AS r"
    " LEFT JOIN mailbox AS m ON m.account = r.account AND m.mailbox = r.mailbox"
    " LEFT JOIN removed_mailbox AS g ON g.account = r.account AND g.mailbox = r.mailbox"
    " WHERE r.account = ? AND (r.removed_at, r.mailbox, r.uid) > (?, ?, ?)"
    " ORDER BY r.removed_at, r.mailbox, r.uid LIMIT ?"
)


def _removed(row: Row) -> Removed:
    return Removed(
        mailbox=row[0],
        name=row[1],
        uid=row[2],
        removed_at=row[3],
        saved=row[4],
        internal_date=row[5],
        size=row[6],
        flags=row[7],
        keywords=row[8],
        heap=row[9],
    )


def removed_messages(database: Database, account: int, since: int = 0) -> Iterator[Removed]:
    """What the account removed from a moment on, oldest first; read by pages."""
    after = (since - 1, 1 << 62, 1 << 62)
    while True:
        found = [_removed(row) for row in database.execute(_REMOVED, (account, *after, PAGE_ROWS))]
        yield from found
        if len(found) < PAGE_ROWS:
            return
        after = (found[-1].removed_at, found[-1].mailbox, found[-1].uid)


def removed_mailboxes(database: Database, account: int, since: int = 0) -> list[RemovedMailbox]:
    rows = database.execute(
        "SELECT g.mailbox, g.name, g.special_use, g.removed_at FROM removed_mailbox AS g"
        " WHERE g.account = ? AND g.removed_at >= ? AND NOT EXISTS (SELECT 1 FROM mailbox AS m"
        "  WHERE m.account = g.account AND m.name = g.name) ORDER BY g.removed_at, g.mailbox",
        (account, since),
    )
    return [
        RemovedMailbox(mailbox=row[0], name=row[1], special_use=row[2], removed_at=row[3])
        for row in rows
    ]


def header_of(database: Database, account: int, heap: int, keys: Keys | None = None) -> bytes:
    """The header section of a content; empty when it is gone, or sealed and its key not here."""
    row = database.first(
        "SELECT header, envelope FROM content WHERE heap = ? AND account = ?", (heap, account)
    )
    if row is None:
        return b""
    if not row[1].startswith(CELL):
        return bytes(row[0])
    return b"" if keys is None else keys.open(row[0], b"header")


class Undelete(Operation[Restored], frozen=True, kw_only=True):
    """Brings back messages that were removed from one mailbox, and the mailbox if it is gone.

    mailbox: the number of the one they were in. messages: (removed_at, first UID, last UID);
    none: only the mailbox. into: the name of another mailbox, made if it is not there.
    What is not there any more is left out. StateError: NONEXISTENT when nothing is there at all.
    """

    Result: ClassVar[type] = Restored
    account: int
    mailbox: int
    messages: list[tuple[int, int, int]]
    into: str = ""
    now: int

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> Restored:
        account = self.account
        tx.execute(PICKED)
        tx.execute("DELETE FROM picked")
        for removed_at, low, high in self.messages:
            tx.execute(
                "INSERT INTO picked SELECT uid, flags, keywords, internal_date, size, heap, saved"
                " FROM removed WHERE account = ? AND removed_at = ? AND mailbox = ?"
                " AND uid BETWEEN ? AND ?",
                (account, removed_at, self.mailbox, low, high),
            )
        if self.messages and not picked_uids(tx):
            raise StateError(Fault.NONEXISTENT, "these messages are not kept any more")
        to, name, created = self._target(tx)
        target = self._insert(tx, to)
        tx.execute(
            "DELETE FROM removed_mailbox WHERE account = ?1 AND mailbox = ?2 AND NOT EXISTS"
            " (SELECT 1 FROM removed WHERE account = ?1 AND mailbox = ?2)",
            (account, self.mailbox),
        )
        return Restored(mailbox=to, name=name, created=created, uids=target)

    def _insert(self, tx: Transaction, to: int) -> list[tuple[int, int]]:
        """Moves what is picked from what was removed into the mailbox."""
        tx.execute(f"UPDATE picked SET flags = flags & ~{DELETED}")
        sums = sums_of_picked(tx)
        if not sums.count:
            return []
        modseq = next_modseq(
            tx,
            self.account,
            octets=sums.octets,
            messages=sums.count,
            removed_octets=-sums.octets,
            removed_messages=-sums.count,
        )
        target = insert_picked(tx, self.account, to, modseq, sums, self.now)
        for removed_at, low, high in self.messages:
            tx.execute(
                "DELETE FROM removed WHERE account = ? AND removed_at = ? AND mailbox = ?"
                " AND uid BETWEEN ? AND ?",
                (self.account, removed_at, self.mailbox, low, high),
            )
        return [target]

    def _target(self, tx: Transaction) -> tuple[int, str, bool]:
        """(number, name, whether it was made) of the mailbox that they come into."""
        account = self.account
        if self.into:
            return self._named(tx, names.check_name(self.into), "", subscribed=False)
        row = tx.first(
            "SELECT name FROM mailbox WHERE account = ? AND mailbox = ?", (account, self.mailbox)
        )
        if row is not None:
            return self.mailbox, row[0], False
        row = tx.first(
            "SELECT name, special_use, subscribed FROM removed_mailbox"
            " WHERE account = ? AND mailbox = ?",
            (account, self.mailbox),
        )
        if row is None:
            raise StateError(Fault.NONEXISTENT, "the mailbox is not kept any more")
        return self._named(tx, row[0], row[1], subscribed=bool(row[2]))

    def _named(
        self, tx: Transaction, name: str, special_use: str, *, subscribed: bool
    ) -> tuple[int, str, bool]:
        account = self.account
        known = tree.mailbox_id(tx, account, name)
        if known is not None:
            return known, name, False
        if special_use and tx.first(
            "SELECT 1 FROM mailbox WHERE account = ? AND special_use = ?", (account, special_use)
        ):
            special_use = ""  # another one has taken its place
        made = tree.create(tx, account, name, special_use, self.now, enforce_quota=False)
        if subscribed:
            tree.subscribe(tx, account, name, True)
        return made.mailbox, name, True


def steps(messages: list[Removed], into: str, account: int, now: int) -> Iterator[Undelete]:
    """Units of work that bring these back: one mailbox each, a bounded number of messages."""
    by_mailbox: dict[int, list[Removed]] = {}
    for item in messages:
        by_mailbox.setdefault(item.mailbox, []).append(item)
    for mailbox, items in by_mailbox.items():
        items.sort(key=lambda item: item.uid)
        for at in range(0, len(items), RESTORED_AT_ONCE):
            yield Undelete(
                account=account,
                mailbox=mailbox,
                messages=_runs(items[at : at + RESTORED_AT_ONCE]),
                into=into,
                now=now,
            )


def _runs(items: list[Removed]) -> list[tuple[int, int, int]]:
    """Neighbours that were removed at once are one run."""
    runs: list[tuple[int, int, int]] = []
    for item in items:
        if runs and runs[-1][0] == item.removed_at and runs[-1][2] == item.uid - 1:
            runs[-1] = (item.removed_at, runs[-1][1], item.uid)
        else:
            runs.append((item.removed_at, item.uid, item.uid))
    return runs
