"""What a session reads of the mailbox that it has open: numbers, news, changes, flags in bulk.

Each reading costs what it gives, not what the mailbox holds. Columns of many rows come as one text
of JSON, which costs a third of as many rows. Nothing is held open between two calls.
Source: RFC 3501 §2.3.1, §7.1 (UNSEEN); RFC 7162 §3.2.5-6.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple

import msgspec

from postroad.database.contract import Database, Row
from postroad.mail.uidset import UIDSet
from postroad.store.rows import message_row
from postroad.store.values import MessageRow

UID_MAX = 0xFFFF_FFFF
UNSEEN_LOOK = 2000
"""Messages from each end of a mailbox among which the first unseen one is looked for."""
ADDED_MAX = 5000
"""New messages whose UIDs are told one by one; of more, the count has to do."""
RUNS_MAX = 50_000
"""Runs of expunged UIDs from which the UIDs of a large mailbox are worked out."""
LARGE = 20_000
"""Messages from which on it is worth while to look at what is missing instead of what is there."""
CHANGED_PAGE = 5000
STRETCH = 20_000
"""Numbers that are made without a chance for other threads."""
SHORT_RUN = 16
"""Numbers of a range that is asked for by its members, together with others."""

_numbers = msgspec.json.Decoder(list[int])


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What happened in a mailbox after a modseq, flags apart.

    vanished: may name messages that came and went meanwhile. messages: that are there now.
    added: UIDs above the last known one, ascending; None when they are many.
    """

    vanished: UIDSet
    highestmodseq: int
    uidnext: int
    messages: int
    added: list[int] | None


class Digest(NamedTuple):
    """Ascending messages by columns. packed: UID << 6 | WORDED | flags.

    modseqs: empty when they were not asked for. words: keywords as packed by `store.keywords`, of
    the UIDs that have WORDED set.
    """

    packed: list[int]
    modseqs: list[int]
    words: dict[int, bytes]


WORDED = 32

_MESSAGES = " FROM message WHERE account = ? AND mailbox = ?"
_UIDS = f"SELECT json_group_array(uid) FROM (SELECT uid{_MESSAGES} AND uid <= ? ORDER BY uid)"
_ADDED = (
    f"SELECT json_group_array(uid) FROM (SELECT uid{_MESSAGES} AND uid > ? ORDER BY uid LIMIT ?)"
)
_RUNS = (
    "SELECT json_group_array(low), json_group_array(high) FROM"
    " (SELECT low, high FROM expunged WHERE account = ? AND mailbox = ? LIMIT ?)"
)
_RUNS_UNTIL = (
    "SELECT json_group_array(low), json_group_array(high) FROM expunged"
    " WHERE account = ? AND mailbox = ? AND modseq <= ? AND low <= ?"
)
_RUNS_AFTER = (
    "SELECT json_group_array(low), json_group_array(high) FROM expunged"
    " WHERE account = ? AND mailbox = ? AND modseq > ? AND modseq <= ?"
)
_CHANGED = (
    f"SELECT modseq, uid{_MESSAGES} AND (modseq, uid) > (?, ?) AND uid <= ?"
    " ORDER BY modseq, uid LIMIT ?"
)
_FLAG_NEWS = (
    "SELECT uid, modseq, flags, keywords, internal_date, size, heap, saved"
    f"{_MESSAGES} AND (modseq, uid) > (?, ?) AND modseq < ? AND uid <= ?"
    " ORDER BY modseq, uid LIMIT ?"
)
_PACKED = "(uid << 6) | flags | ((keywords <> x'') << 5)"
MODSEQ_MAX = (1 << 63) - 1


def _first_unseen(
    database: Database, account: int, mailbox: int, messages: int, unseen: int
) -> int:
    """The number of the first message without \\Seen; 0: none, or none near either end."""
    if not unseen:
        return 0
    seen = "SELECT json_group_array(s) FROM (SELECT flags & 1 AS s" + _MESSAGES
    key = (account, mailbox, UNSEEN_LOOK)
    row = database.first(seen + " ORDER BY uid LIMIT ?)", key)
    assert row is not None
    found: list[int] = _numbers.decode(row[0])
    if 0 in found:
        return found.index(0) + 1
    row = database.first(seen + " ORDER BY uid DESC LIMIT ?)", key)
    assert row is not None
    found = _numbers.decode(row[0])
    if found.count(0) != unseen:
        return 0
    found.reverse()
    return messages - len(found) + found.index(0) + 1


def windows(uids: UIDSet, size: int) -> Iterator[tuple[int, int] | list[int]]:
    """The set cut up to be asked for: ranges, and lists of up to `size` numbers, ascending."""
    if len(uids.ranges) < 3:
        yield from uids.ranges
        return
    some: list[int] = []
    for low, high in uids.ranges:
        if high - low < min(SHORT_RUN, size):
            if len(some) + high - low >= size:
                yield some
                some = []
            some.extend(range(low, high + 1))
        else:
            if some:
                yield some
                some = []
            yield low, high
    if some:
        yield some


def as_json(numbers: list[int]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"


class SelectedReads:
    """The part of `store.contract.Store` that serves open mailboxes."""

    _database: Database

    def opening(self, account: int, mailbox: int, first_recent: int) -> tuple[int, int]:
        """(messages from first_recent on, number of the first unseen one or 0). To be called
        within the snapshot that read the mailbox."""
        row = self._database.first(
            "SELECT messages, unseen, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
            (account, mailbox),
        )
        assert row is not None, "the snapshot holds the mailbox"
        messages, unseen, uidnext = row
        recent = 0
        if first_recent <= 1:
            recent = messages
        elif first_recent < uidnext:
            counted = self._database.first(
                f"SELECT count(*){_MESSAGES} AND uid >= ?", (account, mailbox, first_recent)
            )
            assert counted is not None
            recent = counted[0]
        return recent, _first_unseen(self._database, account, mailbox, messages, unseen)

    def has_children(self, account: int, name: str) -> bool:
        """Whether a mailbox of the account has others below it."""
        row = self._database.first(
            "SELECT 1 FROM mailbox WHERE account = ? AND name > ? AND name < ?",
            (account, name + "/", name + "0"),
        )
        return row is not None

    def last_uid(self, account: int, mailbox: int, upto: int) -> int:
        """The highest UID that is there, up to a bound; 0: none."""
        row = self._database.first(
            f"SELECT max(uid){_MESSAGES} AND uid <= ?", (account, mailbox, upto)
        )
        return 0 if row is None or row[0] is None else int(row[0])

    def uids(self, account: int, mailbox: int, last: int, modseq: int) -> array[int] | None:
        """All UIDs up to `last`, ascending, as they were when the mailbox was at `modseq`.

        None: the mailbox is gone. May take long in a large mailbox: use a thread.
        """
        with self._database.snapshot():
            row = self._database.first(
                "SELECT messages, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
                (account, mailbox),
            )
            if row is None:
                return None
            if row[0] >= LARGE and self._is_known_by_runs(account, mailbox, row[0], row[1]):
                gone = self._runs(_RUNS_UNTIL, (account, mailbox, modseq, last))
                return _complement(gone, last)
            there = self._database.first(_UIDS, (account, mailbox, last))
            gone = self._runs(_RUNS_AFTER, (account, mailbox, modseq, MODSEQ_MAX))
        assert there is not None
        found = array("I", _numbers.decode(there[0]))
        since = [uid for uid in gone if uid <= last]
        return array("I", sorted([*found, *since])) if since else found

    def _is_known_by_runs(self, account: int, mailbox: int, messages: int, uidnext: int) -> bool:
        """Whether every UID that is not there stands in `expunged`, in not too many rows."""
        row = self._database.first(_RUNS, (account, mailbox, RUNS_MAX + 1))
        assert row is not None
        lows, highs = _numbers.decode(row[0]), _numbers.decode(row[1])
        burnt = sum(highs) - sum(lows) + len(lows)
        return len(lows) <= RUNS_MAX and messages + burnt == uidnext - 1

    def _runs(self, sql: str, params: tuple[int, ...]) -> UIDSet:
        row = self._database.first(sql, params)
        assert row is not None
        return UIDSet.of_ranges(zip(_numbers.decode(row[0]), _numbers.decode(row[1]), strict=True))

    def news(
        self, account: int, mailbox: int, since: int, last: int, *, numbers: bool
    ) -> News | None:
        """What happened after modseq `since` to a client that knows UIDs up to `last`.

        numbers: the UIDs of new messages are wanted. None: the mailbox is gone.
        """
        with self._database.snapshot():
            row = self._database.first(
                "SELECT highestmodseq, uidnext, messages FROM mailbox"
                " WHERE account = ? AND mailbox = ?",
                (account, mailbox),
            )
            if row is None:
                return None
            highestmodseq, uidnext, messages = row
            vanished = UIDSet()
            added: list[int] | None = []
            if highestmodseq > since:
                vanished = self._runs(_RUNS_AFTER, (account, mailbox, since, MODSEQ_MAX))
                if uidnext - 1 > last:
                    added = self._added(account, mailbox, last) if numbers else None
        return News(
            vanished=vanished,
            highestmodseq=highestmodseq,
            uidnext=uidnext,
            messages=messages,
            added=added,
        )

    def _added(self, account: int, mailbox: int, last: int) -> list[int] | None:
        row = self._database.first(_ADDED, (account, mailbox, last, ADDED_MAX + 1))
        assert row is not None
        found: list[int] = _numbers.decode(row[0])
        return found if len(found) <= ADDED_MAX else None

    def flag_news(
        self, account: int, mailbox: int, after: tuple[int, int], below: int, last: int, most: int
    ) -> list[MessageRow]:
        """Messages up to UID `last` that changed behind (modseq, uid) `after` and below a modseq,
        in the order of their changes, `most` of them."""
        rows = self._database.execute(_FLAG_NEWS, (account, mailbox, *after, below, last, most))
        return list(starmap(message_row, rows))

    def changed_uids(
        self, account: int, mailbox: int, since: int, last: int
    ) -> Iterator[list[int]]:
        """UIDs up to `last` of messages whose modseq is above `since`, page by page, in no order;
        what changes meanwhile may come twice."""
        at = (since, UID_MAX)
        while True:
            rows: list[Row] = list(
                self._database.execute(_CHANGED, (account, mailbox, *at, last, CHANGED_PAGE))
            )
            if rows:
                yield [uid for _, uid in rows]
            if len(rows) < CHANGED_PAGE:
                return
            at = (rows[-1][0], rows[-1][1])

    def vanished(self, account: int, mailbox: int, since: int, upto: int) -> UIDSet:
        """What was expunged after modseq `since`, up to another."""
        return self._runs(_RUNS_AFTER, (account, mailbox, since, upto))

    def digests(
        self, account: int, mailbox: int, uids: UIDSet, *, modseqs: bool, slice: int = 1000
    ) -> Iterator[Digest]:
        """UIDs and flags of what exists among `uids`, some hundred at a time, ascending. Each
        slice is a fresh read."""
        columns = f"SELECT {_PACKED} AS p, modseq AS m"
        wanted = "json_group_array(p)" + (", json_group_array(m)" if modseqs else "")
        span = f"SELECT {wanted} FROM ({columns}{_MESSAGES} AND uid BETWEEN ? AND ?"
        listed = (
            f"SELECT {wanted} FROM ({columns}{_MESSAGES}"
            " AND uid IN (SELECT value FROM json_each(?)) ORDER BY uid)"
        )
        span += " ORDER BY uid LIMIT ?)"
        for window in windows(uids, slice):
            if isinstance(window, list):
                with self._database.snapshot():  # flags and keywords of the same moment
                    row = self._database.first(listed, (account, mailbox, as_json(window)))
                    digest = self._digest(account, mailbox, row)
                if digest.packed:
                    yield digest
                continue
            start, high = window
            while start <= high:
                with self._database.snapshot():
                    row = self._database.first(span, (account, mailbox, start, high, slice))
                    digest = self._digest(account, mailbox, row)
                if digest.packed:
                    yield digest
                if len(digest.packed) < slice:
                    break
                start = (digest.packed[-1] >> 6) + 1

    def _digest(self, account: int, mailbox: int, row: Row | None) -> Digest:
        assert row is not None
        packed: list[int] = _numbers.decode(row[0])
        modseqs: list[int] = _numbers.decode(row[1]) if len(row) > 1 else []
        worded = [value >> 6 for value in packed if value & WORDED]
        if not worded:
            return Digest(packed, modseqs, {})
        rows = self._database.execute(
            f"SELECT uid, keywords{_MESSAGES} AND uid IN (SELECT value FROM json_each(?))",
            (account, mailbox, as_json(worded)),
        )
        return Digest(packed, modseqs, dict(rows))


def _complement(gone: UIDSet, last: int) -> array[int]:
    """1 to `last` without what is gone."""
    found = array("I")
    at = 1
    for low, high in (*gone.ranges, (last + 1, last + 1)):
        for start in range(at, min(low, last + 1), STRETCH):
            found.extend(range(start, min(start + STRETCH, low, last + 1)))
        at = high + 1
    return found
