"""What one session knows of its mailbox: sequence numbers, UIDs, and what may be told when.

The view is the client's picture, not the store's: messages that others expunged keep their number
until the client may be told, and new ones have none until it has been. UIDs are never reused and
new ones are the highest, hence a range of UIDs up to the view's last one means the same messages
here and in the store. Counting is enough for most of a session's life: the UIDs themselves are
read when a sequence number is first asked for, as they were at the view's mod-sequence.
Source: RFC 3501 §2.3.1, §5.2, §5.5, §7.3, §7.4.1; RFC 7162 §3.1, §3.2.10; RFC 9586.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroad.mail.errors import Fault, ProtocolError, StateError
from postroad.mail.rights import ALL_RIGHTS
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd import recent as recents
from postroad.service.imapd.flags import FlagRenderer
from postroad.store.contract import Store
from postroad.store.selected import UID_MAX, News
from postroad.store.values import Mailbox, MessageRow

if TYPE_CHECKING:
    from postroad.service.imapd.context import Contexts

NUMBERS_AT_ONCE = 12_000
"""Messages of which the UIDs are read on the loop, in a millisecond; of more, on a thread."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client hears of messages, by what it has enabled.

    modseqs: with mod-sequences, and then always with UIDs (RFC 7162 §3.2.4). vanished: by UID
    that they are gone (§3.2.10). uid_only: by UID in everything (RFC 9586). recent: of \\Recent,
    which RFC 9051 has no more.
    """

    modseqs: bool = False
    vanished: bool = False
    uid_only: bool = False
    recent: bool = True

    @classmethod
    def of(cls, enabled: set[bytes]) -> Manner:
        uid_only = b"UIDONLY" in enabled
        return cls(
            modseqs=b"CONDSTORE" in enabled or b"QRESYNC" in enabled,
            vanished=uid_only or b"QRESYNC" in enabled,
            uid_only=uid_only,
            recent=b"IMAP4REV2" not in enabled,
        )


class View:
    """The selected mailbox of one session.

    modseq: what was added and expunged up to here is told, or kept in `vanished`.
    flags_at: flags that changed up to this (modseq, UID) are told.
    last: the highest UID that the mailbox had given out then; known_before: before the last news.
    vanished: expunged, but not told yet; since: the modseq before the first of them.
    own: modseqs of changes that its session made and told itself; untold: UIDs left out of that.
    keywords: those the client knows as FLAGS (RFC 3501 §7.2.6).
    saved: UIDs that the last search with SAVE found, which `$` stands for (RFC 5182).
    contexts: searches that are kept up to date (RFC 5267 §4.3).
    first_recent, theirs: UIDs from the first on are \\Recent, but for those that another session
    was told of first.
    reader: the account whose \\Seen counts, when that is not the owner; else 0.
    """

    __slots__ = (
        "_bias", "_count", "_recent", "_store", "_uids", "account", "contexts", "first_recent",
        "flags_at", "keywords", "known_before", "last", "mailbox", "modseq", "name", "own",
        "read_only", "reader", "rights", "saved", "since", "theirs", "uidvalidity", "untold",
        "vanished",
    )  # fmt: skip

    def __init__(
        self,
        mailbox: Mailbox,
        uids: array[int] | None,
        *,
        read_only: bool,
        first_recent: int,
        keywords: frozenset[bytes],
        store: Store | None = None,
        name: str = "",
        rights: frozenset[str] = ALL_RIGHTS,
        reader: int = 0,
        recent: int | None = None,
    ) -> None:
        """uids: None to read them from `store` when they are needed. recent: None to count them."""
        self.account = mailbox.account
        self.mailbox = mailbox.mailbox
        self.name = name or mailbox.name
        self.uidvalidity = mailbox.uidvalidity
        self.modseq = mailbox.highestmodseq
        self.flags_at = (mailbox.highestmodseq, UID_MAX)
        self.last = self.known_before = mailbox.uidnext - 1
        self._count = mailbox.messages
        self._bias = 0
        """How far the mailbox's counter is off: 0, unless the database is damaged. The messages
        can be read all the same, and `verify` mends it."""
        self._uids = uids
        self._store = store
        self.read_only = read_only
        self.rights = rights
        self.reader = reader
        self.first_recent = first_recent
        self.theirs = UIDSet()
        if recent is None:
            recent = 0 if uids is None else len(uids) - bisect_left(uids, first_recent)
        self._recent = recent
        self.keywords = keywords
        self.saved = UIDSet()
        self.contexts: Contexts | None = None
        self.vanished: UIDSet | None = None
        self.since = 0
        self.own: set[int] = set()
        self.untold: set[int] = set()

    def is_of(self, mailbox: Mailbox) -> bool:
        return (self.account, self.mailbox) == (mailbox.account, mailbox.mailbox)

    def may(self, rights: str) -> bool:
        return self.rights.issuperset(rights)

    # -- numbers ------------------------------------------------------------------------------

    @property
    def exists(self) -> int:
        return self._count

    @property
    def recent(self) -> int:
        return self._recent

    @property
    def is_numbered(self) -> bool:
        """Whether the UIDs are known here."""
        return self._uids is not None

    @property
    def uids(self) -> array[int]:
        """All UIDs, ascending. Reads them on the loop when `number` was not awaited before."""
        if self._uids is None:
            self._keep(self._read())
        assert self._uids is not None
        return self._uids

    async def number(self) -> None:
        """Sees to it that `uids` are here: before commands that use sequence numbers."""
        if self._uids is None:
            if self._count <= NUMBERS_AT_ONCE:
                self._keep(self._read())
            else:
                self._keep(await asyncio.to_thread(self._read))

    def _read(self) -> array[int] | None:
        assert self._store is not None, "a view without a store has its UIDs from the start"
        return self._store.uids(self.account, self.mailbox, self.last, self.modseq)

    def _keep(self, found: array[int] | None) -> None:
        if found is None:
            raise StateError(Fault.NONEXISTENT, "The selected mailbox was deleted")
        if self.vanished is not None:
            found = array("I", sorted({*found, *self.vanished}))
        self._bias += self._count - len(found)
        self._count = len(found)
        self._uids = found

    @property
    def last_uid(self) -> int:
        """What `*` means; 0 when there is no message."""
        if not self._count:
            return 0
        if self._uids is not None:
            return self._uids[-1]
        assert self._store is not None
        there = self._store.last_uid(self.account, self.mailbox, self.last)
        return max(there, self.vanished.ranges[-1][1] if self.vanished is not None else 0)

    def seq(self, uid: int) -> int | None:
        uids = self.uids
        at = bisect_left(uids, uid)
        return at + 1 if at < len(uids) and uids[at] == uid else None

    def seqs(self, rows: Sequence[MessageRow]) -> Sequence[int]:
        """The numbers of ascending rows, all of which the view knows."""
        return self.numbers([row.uid for row in rows])

    def uids_of(self, messages: SequenceSet, *, uid: bool, strict: bool = True) -> UIDSet:
        """The UIDs meant by a set of UIDs or of sequence numbers.

        strict: sequence numbers that do not exist are a fault (RFC 3501 §9, seq-number), apart
        from ranges that end in `*` over an empty mailbox, which clients send all the same.
        Raises: ProtocolError.
        """
        count = self._count
        if not messages.ranges:  # `$`
            return self.saved
        if uid:
            return self.known(messages.resolve(self._star(messages)))
        if strict and messages.largest(count) > count and (count or not messages.only_to_star):
            raise ProtocolError("There is no message of that number")
        if messages.ranges == _EVERYTHING and count:
            return UIDSet(((1, self.last),))
        uids = self.uids
        return UIDSet.of_ranges(
            (uids[low - 1], uids[min(high, count) - 1])
            for low, high in messages.resolve(count).ranges
            if low <= count
        )

    def _star(self, messages: SequenceSet) -> int:
        """`*` in a set of UIDs: exact only where it matters which message is the last."""
        if messages.ranges == _EVERYTHING:
            return self.last if self._count else 0
        return self.last_uid

    def known(self, wanted: UIDSet) -> UIDSet:
        """Without what is newer than the view."""
        last = self.last
        ranges = wanted.ranges
        if not ranges or ranges[-1][1] <= last:
            return wanted
        return UIDSet(tuple((low, min(high, last)) for low, high in ranges if low <= last))

    def numbers(self, found: Sequence[int]) -> Sequence[int]:
        """The numbers of ascending UIDs, all of which the view knows."""
        if not found:
            return ()
        uids = self.uids
        at = bisect_left(uids, found[0])
        stop = at + len(found)
        if stop <= len(uids) and uids[stop - 1] == found[-1]:
            return range(at + 1, stop + 1)
        out = []
        for uid in found:
            if uids[at] != uid:
                at = bisect_left(uids, uid, at)
            at += 1
            out.append(at)
        return out

    def count(self, wanted: UIDSet) -> int:
        """How many messages of the view are in a set of UIDs."""
        uids = self.uids
        return sum(bisect_right(uids, high) - bisect_left(uids, low) for low, high in wanted.ranges)

    def numbers_of(self, wanted: UIDSet) -> UIDSet:
        """The sequence numbers of a set of UIDs."""
        uids = self.uids
        spans = (
            (bisect_left(uids, low) + 1, bisect_right(uids, high)) for low, high in wanted.ranges
        )
        return UIDSet.of_ranges((low, high) for low, high in spans if low <= high)

    def misses(self, wanted: UIDSet) -> bool:
        """Whether a message of the set is known to be expunged, though not told."""
        gone = self.vanished
        return gone is not None and bool(meet(gone, wanted))

    # -- what happened ------------------------------------------------------------------------

    def remember(self, modseq: int) -> None:
        """The view's own session made this change and tells its client: it is no news."""
        self.own.add(modseq)

    def forget(self, uid: int) -> None:
        """The client was not told of the own change of this message after all."""
        self.untold.add(uid)

    @property
    def settled_flags(self) -> int:
        """The mod-sequence up to which the client has been told of all flags."""
        at, uid = self.flags_at
        return at if uid == UID_MAX else at - 1

    @property
    def settled(self) -> int:
        """The same for removals too: what HIGHESTMODSEQ may say (RFC 7162 §3.2)."""
        flags = self.settled_flags
        return min(flags, self.since) if self.vanished is not None else flags

    def take(self, news: News) -> int:
        """Takes in what came and went; returns how many are new. To be told by `tell`."""
        if news.highestmodseq <= self.modseq:
            return 0
        gone = self.known(news.vanished)
        if gone:
            if self.vanished is None:
                self.vanished, self.since = gone, self.modseq
            else:
                self.vanished = UIDSet.of_ranges((*self.vanished.ranges, *gone.ranges))
        waiting = 0 if self.vanished is None else len(self.vanished)
        added = max(news.messages - self._bias - (self._count - waiting), 0)
        self._count += added
        self._recent += self._first_told(news, added)
        if added and self._uids is not None:
            if news.added is not None and len(news.added) == added:
                self._uids.extend(news.added)
            else:
                self._uids = None
        self.known_before, self.last = self.last, news.uidnext - 1
        self.modseq = news.highestmodseq
        return added

    def _first_told(self, news: News, added: int) -> int:
        """How many of the new messages no other session was told of before."""
        last, store = news.uidnext - 1, self._store
        if not added or store is None or self.first_recent > last:
            return added
        key = (self.account, self.mailbox, self.uidvalidity)
        if self.read_only or self.reader:
            theirs = recents.told(store, key)
        else:
            theirs = recents.claim(store, key, last)
        if theirs <= self.last:
            return added
        self.theirs = UIDSet.of_ranges((*self.theirs.ranges, (self.last + 1, min(theirs, last))))
        if theirs >= last:
            return 0
        return min(store.count_from(self.account, self.mailbox, theirs + 1), added)

    def expunges(self, manner: Manner) -> list[bytes]:
        """Takes out what vanished, and tells it."""
        gone = self.vanished
        if gone is None:
            return []
        uids = self.uids if self._uids is not None or not manner.vanished else None
        self.vanished = None
        self._count -= len(gone)
        self._recent -= sum(
            high - max(low, self.first_recent) + 1
            for low, high in gone.ranges
            if high >= self.first_recent
        )
        self._recent += len(UIDSet(tuple(meet(gone, self.theirs))))
        if uids is not None:
            self._cut(uids, gone)
        if uids is None or manner.vanished:
            return vanished_lines(gone, b"")
        out: list[bytes] = []
        for low, high in gone.ranges:
            start, stop = bisect_left(uids, low), bisect_right(uids, high)
            out += [b"* %d EXPUNGE\r\n" % number for number in range(start + 1, stop + 1)]
        out.reverse()  # from the highest down: so each number is right when it is read
        return out

    def _cut(self, uids: array[int], gone: UIDSet) -> None:
        kept = array("I")
        at = 0
        for low, high in gone.ranges:
            start, stop = bisect_left(uids, low), bisect_right(uids, high)
            kept += uids[at:start]
            at = stop
        kept += uids[at:]
        self._uids = kept

    def arrivals(self, manner: Manner) -> bytes:
        if manner.recent:
            return b"* %d EXISTS\r\n* %d RECENT\r\n" % (self._count, self._recent)
        return b"* %d EXISTS\r\n" % self._count

    def spans(self) -> Iterator[tuple[tuple[int, int], int]]:
        """(behind which (modseq, UID), below which modseq) flags have changed by others' doing."""
        at = self.flags_at
        for own in sorted(modseq for modseq in self.own if modseq > at[0]):
            if own > at[0] + (at[1] == UID_MAX):
                yield at, own
            at = (own, UID_MAX)
        if at[0] < self.modseq or at[1] != UID_MAX:
            yield at, self.modseq + 1

    @property
    def is_behind(self) -> bool:
        """Whether flags may have changed that were not told."""
        return bool(self.untold) or self.flags_at < (self.modseq, UID_MAX)

    def caught_up(self) -> None:
        self.flags_at = (self.modseq, UID_MAX)
        if self.own:
            self.own = {modseq for modseq in self.own if modseq > self.modseq}

    # -- responses ----------------------------------------------------------------------------

    def flag_lines(
        self, rows: Sequence[MessageRow], manner: Manner, *, uids: bool = True
    ) -> list[bytes]:
        """Responses with FLAGS of ascending rows.

        News always names the UID; the answer to a STORE by numbers need not (RFC 3501 §6.4.6).
        """
        render_flags = self.flag_renderer(manner)
        if manner.uid_only:
            numbers: Sequence[int] = [row.uid for row in rows]
        else:
            numbers = self.seqs(rows)
        head = response_head(manner, uids=uids)
        if head.count(b"%") == 2:
            values = zip(numbers, [row.uid for row in rows], strict=True)
            heads = [head % pair for pair in values]
        else:
            heads = [head % number for number in numbers]
        if manner.modseqs:
            return [
                b"%bFLAGS (%b) MODSEQ (%d))\r\n" % (start, render_flags(row), row.modseq)
                for start, row in zip(heads, rows, strict=True)
            ]
        return [
            b"%bFLAGS (%b))\r\n" % (start, render_flags(row))
            for start, row in zip(heads, rows, strict=True)
        ]

    def flag_renderer(self, manner: Manner) -> FlagRenderer:
        return FlagRenderer(self.first_recent if manner.recent else UID_MAX + 1, self.theirs)

    def new_keywords(self, rows: Sequence[MessageRow]) -> list[bytes]:
        """A FLAGS response when a keyword shows up that the client has not been told of."""
        return self.new_words({word for row in rows if row.keywords for word in row.keywords})

    def new_words(self, words: set[bytes]) -> list[bytes]:
        """The same for keywords by themselves."""
        fresh = words - self.keywords
        if not fresh:
            return []
        self.keywords |= fresh
        return [flags_response(self.keywords)]


_EVERYTHING = ((1, 0),)
"""1:*"""


def response_head(manner: Manner, *, uids: bool) -> bytes:
    """How the response for one message begins: a format of its number, and perhaps its UID."""
    if manner.uid_only:
        return b"* %d UIDFETCH ("
    return b"* %d FETCH (UID %d " if uids or manner.modseqs else b"* %d FETCH ("


VANISHED_RANGES = 5000
"""Ranges in one VANISHED response: clients read a response as one line."""


def vanished_lines(gone: UIDSet, kind: bytes) -> list[bytes]:
    """kind: b"" or b"(EARLIER) "."""
    ranges = gone.ranges
    return [
        b"* VANISHED %b%b\r\n" % (kind, render.ranges(ranges[at : at + VANISHED_RANGES]))
        for at in range(0, len(ranges), VANISHED_RANGES)
    ]


def flags_response(keywords: frozenset[bytes]) -> bytes:
    return b"* FLAGS (%b)\r\n" % render.flags(31, sorted(keywords))


def meet(one: UIDSet, other: UIDSet) -> list[tuple[int, int]]:
    """What is in both, ascending."""
    out = []
    left, right = one.ranges, other.ranges
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            out.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return out
