"""Which messages of a view a search key means.

Keys narrow down a list of UIDs, cheap ones first: sets of UIDs need no reading, flags one column,
dates and sizes one interval, headers and texts the index or the messages. What may take long runs
in a thread, or in slices with a turn for the others.
Source: RFC 3501 §6.4.4, RFC 5032 §3, RFC 6203 §3-5 (FUZZY), RFC 7162 §3.1.5, RFC 8514 §4.3.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import TypeAlias

from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import search_keys as keys
from postroad.protocol.imap.search_keys import Key, When
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd import objectid
from postroad.service.imapd.personal import digest_as_read
from postroad.service.imapd.spans import span_of
from postroad.service.imapd.textual import Texts, needle_of, written_on
from postroad.service.imapd.turns import apart, turn
from postroad.service.imapd.view import View
from postroad.store.contract import Store
from postroad.store.keywords import unpack
from postroad.store.selected import WORDED
from postroad.store.values import MessageRow, Want, unix

Report: TypeAlias = Callable[[int, int], Awaitable[None]]
"""Told how many of how many messages have been read: `session.progress`."""

DAY_S = 86_400
ZONE_S_MAX = DAY_S
"""A Date: field's own day is at most this far from its day in UTC."""
BASE_SLICE = 500

_LATEST = 1 << 62
_COSTS: dict[type[Key], int] = {
    keys.All: 0, keys.InSet: 0, keys.IsRecent: 0, keys.HasFlag: 1, keys.HasKeyword: 1,
    keys.ChangedSince: 1, keys.Arrived: 2, keys.Saved: 2, keys.Within: 2, keys.Larger: 2,
    keys.Smaller: 2, keys.EmailId: 3, keys.Sent: 3, keys.ThreadId: 4, keys.InHeader: 4,
    keys.InText: 6, keys.Fuzzy: 7,
}  # fmt: skip


class Finder:
    """Answers keys about one view at one moment.

    scores: of messages that a FUZZY key matched, 1 to 100.
    """

    __slots__ = ("_everything", "_now", "_store", "_texts", "_view", "scores")

    def __init__(
        self, view: View, store: Store, now: datetime, report: Report | None = None
    ) -> None:
        self._view = view
        self._store = store
        self._now = unix(now)
        self._everything: Sequence[int] = ()
        self._texts = Texts(view, store, report)
        self.scores: dict[int, int] = {}

    async def find(self, key: Key, among: Sequence[int] | None = None) -> Sequence[int]:
        """UIDs that match, ascending. among: ascending UIDs of the view to look at; None: all.

        Raises: Unavailable.
        """
        view = self._view
        await view.number()
        self._everything = view.uids
        if (gone := view.vanished) is not None:
            uids = view.uids
            self._everything = await apart(lambda: _without(uids, gone), len(uids))
        return await self._match(key, self._everything if among is None else among)

    def resolve(self, key: Key) -> Key:
        """The key with its sequence numbers and `$` as what they mean now: sets of UIDs."""
        match key:
            case keys.InSet():
                return keys.InSet(True, SequenceSet(self._uids(key).ranges))
            case keys.And():
                return keys.And(tuple(map(self.resolve, key.keys)))
            case keys.Or():
                return keys.Or(self.resolve(key.left), self.resolve(key.right))
            case keys.Not():
                return keys.Not(self.resolve(key.key))
            case keys.Fuzzy():
                return keys.Fuzzy(self.resolve(key.key))
            case _:
                return key

    async def _match(self, key: Key, among: Sequence[int]) -> Sequence[int]:
        if not among:
            return among
        if _is_of_flags(key):
            return among if isinstance(key, keys.All) else await self._flags(key, among)
        match key:
            case keys.And():
                return await self._every(list(_flat(key)), among)
            case keys.Or():
                return await self._any(list(_flat(key)), among)
            case keys.Not():
                found = await self._match(key.key, among)
                return await apart(lambda: _without(among, set(found)), len(among))
            case keys.InSet():
                members = self._uids(key)
                return await apart(lambda: _cut(among, members), len(among))
            case keys.IsRecent():
                theirs = self._view.theirs
                found = among[bisect_left(among, self._view.first_recent) :]
                return [uid for uid in found if uid not in theirs] if theirs else found
            case keys.ChangedSince(modseq):
                return await self._changed_since(modseq, among)
            case keys.Sent():
                return await self._sent(key, among)
            case keys.EmailId(wanted):
                return await self._rows(
                    Want.ORIGIN, lambda row: objectid.email_id(row) == wanted, among
                )
            case keys.ThreadId(wanted):
                return await self._rows(
                    Want.HEADER | Want.ORIGIN,
                    lambda row: objectid.thread_id(row) == wanted,
                    among,
                )
            case keys.InHeader() | keys.InText():
                return await self._texts.find([needle_of(key)], all, among)
            case keys.Fuzzy():
                return await self._fuzzy(key.key, among)
            case _:
                return await self._between(*_interval(key, self._now), among)

    # -- several keys -------------------------------------------------------------------------

    async def _every(self, parts: list[Key], among: Sequence[int]) -> Sequence[int]:
        """Keys of which all must match: each looks only at what the ones before have left."""
        for group in _grouped(parts):
            if isinstance(group[0], keys.InHeader | keys.InText):
                among = await self._texts.find(list(map(needle_of, group)), all, among)
            else:
                key = group[0] if len(group) == 1 else keys.And(tuple(group))
                among = await self._match(key, among)
        return among

    async def _any(self, parts: list[Key], among: Sequence[int]) -> Sequence[int]:
        """Keys of which one must match: each looks only at what none before has matched."""
        found: list[int] = []
        for group in _grouped(parts):
            if isinstance(group[0], keys.InHeader | keys.InText):
                more = await self._texts.find(list(map(needle_of, group)), any, among)
            else:
                more = await self._match(_either(group), among)
            if more:
                found += more
                before, matched = among, set(more)
                among = await apart(partial(_without, before, matched), len(before))
        await apart(found.sort, len(found))
        return found

    # -- without reading, or by columns -------------------------------------------------------

    def _uids(self, key: keys.InSet) -> UIDSet:
        return self._view.uids_of(key.messages, uid=key.uid, strict=False)

    async def _flags(self, key: Key, among: Sequence[int]) -> Sequence[int]:
        view, store = self._view, self._store
        truth = _Truth(key)
        span, counts = span_of(among, self._everything)
        if len(span.ranges) == 1 and not view.reader and not _asks_for_keywords(key):
            bounds = span.ranges[0]
            found = await apart(
                lambda: store.flagged(view.account, view.mailbox, truth.combinations, bounds),
                len(self._everything),
            )
            return await self._of_those(found, among)
        out: list[int] = []
        for digest in store.digests(view.account, view.mailbox, span, modseqs=False):
            digest = digest_as_read(store, view, digest)
            found = truth.select(digest.packed, digest.words)
            out += found if counts is None else [uid for uid in found if uid in counts]
            await turn()
        return out

    async def _changed_since(self, modseq: int, among: Sequence[int]) -> Sequence[int]:
        view = self._view
        span, counts = span_of(among, self._everything)
        out: list[int] = []
        for digest in self._store.digests(view.account, view.mailbox, span, modseqs=True):
            pairs = zip(digest.packed, digest.modseqs, strict=True)
            found = [packed >> 6 for packed, changed in pairs if changed >= modseq]
            out += found if counts is None else [uid for uid in found if uid in counts]
            await turn()
        return out

    async def _between(
        self, column: str, low: int, high: int, among: Sequence[int]
    ) -> Sequence[int]:
        """By an interval [low, high) of one column."""
        view = self._view
        bounds = among[0], among[-1]
        found = await asyncio.to_thread(
            self._store.between, view.account, view.mailbox, column, (low, high), bounds
        )
        return await self._of_those(found, among)

    async def _of_those(self, found: list[int], among: Sequence[int]) -> Sequence[int]:
        """Of what the store has found between the ends of `among`."""
        if among is self._everything and self._view.vanished is None:
            return found
        return await apart(lambda: _both(found, among), len(found) + len(among))

    async def _sent(self, key: keys.Sent, among: Sequence[int]) -> Sequence[int]:
        """By the Date: field's own day. The moment decides, but for dates near the day's ends:
        there the field is read. A message without a date matches nothing."""
        start = _day_start(key.day)
        match key.when:
            case When.BEFORE:
                sure, near = (-_LATEST, start - ZONE_S_MAX), start + ZONE_S_MAX
            case When.ON:
                sure, near = (0, 0), start + DAY_S + ZONE_S_MAX
            case When.SINCE:
                sure, near = (start + ZONE_S_MAX, _LATEST), start + ZONE_S_MAX
        certain = await self._between("sent", *sure, among)
        perhaps = await self._between("sent", start - ZONE_S_MAX, near, among)
        near_ends = await self._rows(
            Want.SENT | Want.HEADER,
            lambda row: written_on(row, key),
            await apart(lambda: _without(perhaps, set(certain)), len(perhaps)),
        )
        return await apart(lambda: sorted((*certain, *near_ends)), len(certain) + len(near_ends))

    async def _rows(
        self, want: Want, test: Callable[[MessageRow], bool], among: Sequence[int]
    ) -> list[int]:
        """By looking at each message."""
        view = self._view
        span, counts = span_of(among, self._everything)
        slices = self._store.messages(view.account, view.mailbox, span, want, BASE_SLICE)

        def step() -> list[int] | None:
            rows = next(slices, None)
            return None if rows is None else [row.uid for row in rows if test(row)]

        out: list[int] = []
        while (found := await asyncio.to_thread(step)) is not None:
            out += found if counts is None else [uid for uid in found if uid in counts]
        return out

    # -- fuzzy --------------------------------------------------------------------------------

    async def _fuzzy(self, key: Key, among: Sequence[int]) -> Sequence[int]:
        found = await self._scored(key, among)
        for uid, score in found.items():
            before = self.scores.get(uid)
            self.scores[uid] = score if before is None else (before + score + 1) // 2
        return [uid for uid in among if uid in found]

    async def _scored(self, key: Key, among: Sequence[int]) -> dict[int, int]:
        """Strings by their words; all else as it is, which RFC 6203 §5 leaves to us."""
        match key:
            case keys.InHeader() | keys.InText():
                return await self._texts.fuzzy(key, among)
            case keys.And():
                scores = dict.fromkeys(among, 0)
                for count, part in enumerate(sorted(key.keys, key=_cost)):
                    more = await self._scored(part, [uid for uid in among if uid in scores])
                    scores = {
                        uid: (scores[uid] * count + score) // (count + 1)
                        for uid, score in more.items()
                    }
                return scores
            case keys.Or():
                left = await self._scored(key.left, among)
                right = await self._scored(key.right, among)
                for uid, score in right.items():
                    left[uid] = max(left.get(uid, 0), score)
                return left
            case keys.Fuzzy():
                return await self._scored(key.key, among)
            case _:
                return dict.fromkeys(await self._match(key, among), 100)


def _without(among: Sequence[int], gone: Container[int]) -> list[int]:
    return [uid for uid in among if uid not in gone]


def _both(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Ascending numbers that are in both."""
    counts = set(one)
    return [uid for uid in other if uid in counts]


def _cut(among: Sequence[int], wanted: UIDSet) -> Sequence[int]:
    if len(wanted.ranges) == 1:
        [(low, high)] = wanted.ranges
        if low <= among[0] and among[-1] <= high:
            return among
        return among[bisect_left(among, low) : bisect_right(among, high)]
    return [uid for uid in among if uid in wanted]


def _flat(key: Key) -> Iterator[Key]:
    """The members of an And or Or, those of the same kind within it included."""
    match key:
        case keys.And():
            for part in key.keys:
                yield from _flat(part) if isinstance(part, keys.And) else (part,)
        case keys.Or():
            for part in (key.left, key.right):
                yield from _flat(part) if isinstance(part, keys.Or) else (part,)


def _either(parts: list[Key]) -> Key:
    """One of them, as a tree that is nowhere deep."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return keys.Or(_either(parts[:middle]), _either(parts[middle:]))


def _grouped(parts: list[Key]) -> list[list[Key]]:
    """Flags in one group, texts of a kind in one, the others alone; cheap groups first."""
    flags: list[Key] = [part for part in parts if _is_of_flags(part)]
    headers: list[Key] = [part for part in parts if isinstance(part, keys.InHeader)]
    texts: list[Key] = [part for part in parts if isinstance(part, keys.InText)]
    rest: list[list[Key]] = [
        [part]
        for part in parts
        if not isinstance(part, keys.InHeader | keys.InText) and not _is_of_flags(part)
    ]
    groups: list[list[Key]] = [group for group in (flags, headers, texts) if group]
    groups += rest
    return sorted(groups, key=lambda group: max(map(_cost, group)))


def _cost(key: Key) -> int:
    match key:
        case keys.And() | keys.Or():
            return max(map(_cost, _flat(key)))
        case keys.Not():
            return _cost(key.key)
        case _:
            return _COSTS[type(key)]


def _is_of_flags(key: Key) -> bool:
    match key:
        case keys.All() | keys.HasFlag() | keys.HasKeyword():
            return True
        case keys.And() | keys.Or():
            return all(map(_is_of_flags, _flat(key)))
        case keys.Not():
            return _is_of_flags(key.key)
        case _:
            return False


def _asks_for_keywords(key: Key) -> bool:
    """Of a key of flags alone."""
    match key:
        case keys.And() | keys.Or():
            return any(map(_asks_for_keywords, _flat(key)))
        case keys.Not():
            return _asks_for_keywords(key.key)
        case _:
            return isinstance(key, keys.HasKeyword)


class _Truth:
    """A key of flags alone, worked out once for each combination of flags that is met."""

    __slots__ = ("_key", "_plain", "_worded")

    def __init__(self, key: Key) -> None:
        self._key = key
        none: frozenset[bytes] = frozenset()
        self._plain = [_holds(key, bits, none) for bits in range(WORDED)]
        self._worded: dict[tuple[int, bytes], bool] = {}

    @property
    def combinations(self) -> int:
        """Bit n: whether a message whose flags are n matches, when keywords do not matter."""
        return sum([matches << bits for bits, matches in enumerate(self._plain)])

    def select(self, packed: list[int], words: dict[int, bytes]) -> list[int]:
        """UIDs of a digest's messages that match."""
        plain = self._plain
        if not words:
            return [value >> 6 for value in packed if plain[value & 31]]
        worded = self._is_worded
        return [
            value >> 6
            for value in packed
            if (worded(value & 31, words[value >> 6]) if value & WORDED else plain[value & 31])
        ]

    def _is_worded(self, bits: int, packed: bytes) -> bool:
        found = self._worded.get((bits, packed))
        if found is None:
            words = frozenset(word.lower() for word in unpack(packed))
            found = self._worded[bits, packed] = _holds(self._key, bits, words)
        return found


def _holds(key: Key, bits: int, words: frozenset[bytes]) -> bool:
    match key:
        case keys.HasFlag(flag):
            return bool(bits & int(flag))
        case keys.HasKeyword(keyword):
            return keyword in words
        case keys.And():
            return all(_holds(part, bits, words) for part in key.keys)
        case keys.Or():
            return any(_holds(part, bits, words) for part in (key.left, key.right))
        case keys.Not():
            return not _holds(key.key, bits, words)
        case _:
            return True


def _day_start(day: date) -> int:
    return unix(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _interval(key: Key, now: int) -> tuple[str, int, int]:
    """The column a key asks of, and its [low, high). Days are told in UTC, so they are UTC's."""
    match key:
        case keys.Arrived(when, day):
            return "arrival", *_days(when, day)
        case keys.Saved(when, day):
            return "saved", *_days(when, day)
        case keys.Within(younger, seconds):
            moment = now - seconds
            return ("arrival", moment, _LATEST) if younger else ("arrival", -_LATEST, moment + 1)
        case keys.Larger(octets):
            return "size", octets + 1, _LATEST
        case keys.Smaller(octets):
            return "size", -1, min(octets, _LATEST)
        case _:
            raise AssertionError(f"{key} is no interval")


def _days(when: When, day: date) -> tuple[int, int]:
    start = _day_start(day)
    match when:
        case When.BEFORE:
            return -_LATEST, start
        case When.ON:
            return start, start + DAY_S
        case When.SINCE:
            return start, _LATEST


assert WORDED == 32 and max(Flag) < WORDED, "flags are the low bits of a digest"
