"""What each reader of another's mailbox has seen: runs of UIDs, changed with the flags.

\\Seen of the owner is a bit of the message; of everybody else it is here. A run may span UIDs that
are gone, but both its ends exist, so that there are never more runs than messages, and a mailbox
that somebody has read whole is one row. Runs on the writer, inside a transaction.
Source: RFC 4314 §5.2 (\\Seen need not be a shared flag).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from postroad.database.contract import Transaction
from postroad.database.reading import Reader
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet

SEEN = int(Flag.SEEN)
Ranges = Sequence[tuple[int, int]]

OVERLAPPING = (
    "SELECT low, high FROM seen WHERE account = ?1 AND mailbox = ?2 AND reader = ?3"
    " AND low BETWEEN coalesce((SELECT max(low) FROM seen WHERE account = ?1 AND mailbox = ?2"
    " AND reader = ?3 AND low <= ?4), ?4) AND ?5 AND high >= ?4"
)
"""The runs that meet a range: they do not overlap, so the first begins at or before it."""
_LAST = "SELECT max(uid) FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
_FIRST = "SELECT min(uid) FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"


def is_personal(account: int, reader: int) -> bool:
    """Whether this reader's \\Seen is kept here. reader 0: nobody but the owner is meant."""
    return reader not in (0, account)


def seen_of(
    tx: Transaction, account: int, mailbox: int, reader: int, uids: Iterable[tuple[int, int]]
) -> UIDSet:
    """The runs that meet `uids`, whole."""
    key = (account, mailbox, reader)
    found: list[tuple[int, int]] = []
    for low, high in uids:
        found += tx.execute(OVERLAPPING, (*key, low, high))
    return UIDSet.of_ranges(found)


class Changes:
    """Collects ascending existing UIDs that become seen or unseen, as runs over what exists."""

    __slots__ = ("_run", "delta", "off", "on")

    def __init__(self) -> None:
        self.on: list[tuple[int, int]] = []
        self.off: list[tuple[int, int]] = []
        self.delta = 0
        self._run: list[tuple[int, int]] | None = None

    def meet(self, uid: int, before: bool, after: bool) -> None:
        """Every message that is looked at, in order."""
        runs = self.on if after else self.off
        if self._run is runs:
            runs[-1] = (runs[-1][0], uid)
        elif before == after:
            self._run = None
            return
        else:
            runs.append((uid, uid))
            self._run = runs
        self.delta += int(after) - int(before)

    def pause(self) -> None:
        """What comes next does not follow what came before."""
        self._run = None

    def apply(self, tx: Transaction, account: int, mailbox: int, reader: int) -> None:
        if not self.on and not self.off:
            return
        key = (account, mailbox, reader)
        touched = self.on + self.off
        before: set[tuple[int, int]] = set()
        for low, high in touched:
            before.update(tx.execute(OVERLAPPING, (*key, low - 1, high + 1)))
        lows = {low for low, _ in (*before, *self.on)}
        highs = {high for _, high in (*before, *self.on)}
        after: set[tuple[int, int]] = set()
        joined = UIDSet.of_ranges([*before, *self.on])
        for low, high in _without(joined, UIDSet.of_ranges(self.off)):
            exists = low in lows and high in highs
            pair = (low, high) if exists else _trimmed(tx, key, low, high)
            if pair is not None:
                after.add(pair)
        for low, _ in before - after:
            tx.execute(
                "DELETE FROM seen WHERE account = ? AND mailbox = ? AND reader = ? AND low = ?",
                (*key, low),
            )
        for low, high in after - before:
            tx.execute("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", (*key, low, high))
        tx.execute(
            "INSERT INTO reader VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET seen = seen + excluded.seen",
            (*key, self.delta),
        )


def _without(one: UIDSet, other: UIDSet) -> Iterator[tuple[int, int]]:
    """Ranges of `one` that are not in `other`."""
    at = 0
    gone = other.ranges
    for low, high in one.ranges:
        start = low
        while at < len(gone) and gone[at][1] < start:
            at += 1
        here = at
        while here < len(gone) and gone[here][0] <= high:
            if gone[here][0] > start:
                yield start, gone[here][0] - 1
            start = max(start, gone[here][1] + 1)
            here += 1
        if start <= high:
            yield start, high


def _trimmed(
    tx: Transaction, key: tuple[int, int, int], low: int, high: int
) -> tuple[int, int] | None:
    """The run with its ends on messages that exist; None when there are none."""
    where = (key[0], key[1], low, high)
    first = tx.first(_FIRST, where)
    if first is None or first[0] is None:
        return None
    last = tx.first(_LAST, where)
    assert last is not None
    return first[0], last[0]


def mark(tx: Transaction, account: int, mailbox: int, reader: int, uids: Iterable[int]) -> None:
    """New messages, ascending, that their reader has seen already."""
    changes = Changes()
    last = 0
    for uid in uids:
        if uid != last + 1:
            changes.pause()
        changes.meet(uid, False, True)
        last = uid
    changes.apply(tx, account, mailbox, reader)


def forget_picked(tx: Transaction, account: int, mailbox: int) -> None:
    """What is in `picked` has just left the mailbox: readers' runs and counters follow."""
    key = (account, mailbox)
    if tx.first("SELECT 1 FROM reader WHERE account = ? AND mailbox = ?", key) is None:
        return
    counted = tx.execute(
        "SELECT s.reader, count(*) FROM seen AS s JOIN picked AS p ON p.uid BETWEEN s.low AND"
        " s.high WHERE s.account = ? AND s.mailbox = ? GROUP BY s.reader",
        key,
    )
    for reader, count in counted:
        tx.execute(
            "UPDATE reader SET seen = seen - ? WHERE account = ? AND mailbox = ? AND reader = ?",
            (count, *key, reader),
        )
    cut = tx.execute(
        "SELECT reader, low, high FROM seen WHERE account = ? AND mailbox = ? AND"
        " (low IN (SELECT uid FROM picked) OR high IN (SELECT uid FROM picked))",
        key,
    )
    for reader, low, high in cut:
        tx.execute(
            "DELETE FROM seen WHERE account = ? AND mailbox = ? AND reader = ? AND low = ?",
            (*key, reader, low),
        )
        left = _trimmed(tx, (*key, reader), low, high)
        if left is not None:
            tx.execute("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", (*key, reader, *left))


# -- what is copied and moved -------------------------------------------------------------------


def pick_as(tx: Transaction, account: int, mailbox: int, reader: int) -> None:
    """Gives what is in `picked` the \\Seen of this reader instead of the owner's."""
    if not is_personal(account, reader):
        return
    tx.execute(
        f"UPDATE picked SET flags = (flags & ~{SEEN}) | EXISTS (SELECT 1 FROM seen AS s"
        " WHERE s.account = ? AND s.mailbox = ? AND s.reader = ?"
        " AND picked.uid BETWEEN s.low AND s.high)",
        (account, mailbox, reader),
    )


def take_seen(tx: Transaction, to_account: int, reader: int) -> list[int]:
    """For messages that a reader puts into another's mailbox: takes \\Seen off what is picked;
    returns the places, from 0 in the order of UIDs, of those that had it, for `mark`."""
    if not is_personal(to_account, reader):
        return []
    rows = tx.execute(f"SELECT flags & {SEEN} FROM picked ORDER BY uid")
    places = [place for place, (seen,) in enumerate(rows) if seen]
    if places:
        tx.execute(f"UPDATE picked SET flags = flags & ~{SEEN}")
    return places


# -- checking -----------------------------------------------------------------------------------

_COUNTED = (
    "SELECT r.account, r.mailbox, r.reader, r.seen, (SELECT count(*) FROM seen AS s JOIN message"
    " AS m ON m.account = s.account AND m.mailbox = s.mailbox AND m.uid BETWEEN s.low AND s.high"
    " WHERE s.account = r.account AND s.mailbox = r.mailbox AND s.reader = r.reader)"
    " FROM reader AS r"
)
_UNCOUNTED = (
    "SELECT DISTINCT account, mailbox, reader FROM seen AS s WHERE NOT EXISTS (SELECT 1"
    " FROM reader AS r WHERE r.account = s.account AND r.mailbox = s.mailbox"
    " AND r.reader = s.reader)"
)
_EMPTY_ENDS = (
    "SELECT DISTINCT account, mailbox, reader FROM seen AS s WHERE EXISTS (SELECT 1 FROM mailbox"
    " AS b WHERE b.account = s.account AND b.mailbox = s.mailbox) AND 2 > (SELECT"
    " count(*) + (s.low = s.high) FROM message AS m WHERE m.account = s.account"
    " AND m.mailbox = s.mailbox AND m.uid IN (s.low, s.high))"
)


def faults(reader: Reader) -> Iterator[tuple[int, int, str]]:
    """(account, mailbox, what is wrong): counters and runs that do not fit their messages."""
    for account, mailbox, who, kept, found in reader.execute(_COUNTED):
        if kept != found:
            text = f"reader {who} has seen {found} messages, his counter says {kept}"
            yield account, mailbox, text
    for account, mailbox, who in reader.execute(_UNCOUNTED):
        yield account, mailbox, f"reader {who} has seen messages, but has no counter"
    for account, mailbox, who in reader.execute(_EMPTY_ENDS):
        yield account, mailbox, f"what reader {who} has seen ends at messages that are not there"


def mend(tx: Transaction, account: int, mailbox: int) -> None:
    """Runs are cut to the messages that are there, and counted anew."""
    key = (account, mailbox)
    rows = tx.execute("SELECT reader, low, high FROM seen WHERE account = ? AND mailbox = ?", key)
    tx.execute("DELETE FROM seen WHERE account = ? AND mailbox = ?", key)
    tx.execute("DELETE FROM reader WHERE account = ? AND mailbox = ?", key)
    by_reader: dict[int, list[tuple[int, int]]] = {}
    for reader, low, high in rows:
        by_reader.setdefault(reader, []).append((low, high))
    for reader, runs in by_reader.items():
        count = 0
        for low, high in UIDSet.of_ranges(runs).ranges:
            left = _trimmed(tx, (*key, reader), low, high)
            if left is None:
                continue
            tx.execute("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", (*key, reader, *left))
            row = tx.first(
                "SELECT count(*) FROM message WHERE account = ? AND mailbox = ?"
                " AND uid BETWEEN ? AND ?",
                (*key, *left),
            )
            assert row is not None
            count += row[0]
        tx.execute("INSERT INTO reader VALUES (?, ?, ?, ?)", (*key, reader, count))
