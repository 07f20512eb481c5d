"""Finding text in the blocks of an account. Implements `search.contract.Index`.

Each section that a needle asks for is decompressed once for all needles, block by block, unless its
filter says that none of them is there; a search of octets over the whole block finds the messages.
Says nothing about messages whose block is
missing, damaged or sealed with a key that is not here.
Source: RFC 3501 §6.4.4, RFC 9051 §6.4.4.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from postroad.database.contract import Database
from postroad.mail.uidset import UIDSet
from postroad.store.contract import Store
from postroad.store.search import fuzzy
from postroad.store.search.blocks import FILTERS, DamagedBlock, Section, Text, unpack_filter
from postroad.store.search.building import Builder
from postroad.store.search.contract import Found, Needle, Where
from postroad.store.search.filters import Runs
from postroad.store.search.reading import BlockReader, Ciphers
from postroad.store.search.text import is_field_name
from postroad.store.search.tidying import Tidier

_SECTIONS: dict[Where, tuple[Section, ...]] = {
    Where.FROM: (Section.BRIEF,),
    Where.TO: (Section.BRIEF,),
    Where.CC: (Section.BRIEF,),
    Where.BCC: (Section.BRIEF,),
    Where.SUBJECT: (Section.BRIEF,),
    Where.HEADER: (Section.HEADER,),
    Where.BODY: (Section.BODY,),
    Where.TEXT: (Section.BRIEF, Section.HEADER, Section.BODY),
}
LACKING_MIN = 16
"""Messages that are not indexed, before whoever builds is told: so many are read in no time."""
_BRIEF_FIELDS = frozenset((b"from", b"to", b"cc", b"bcc", b"subject"))
_WHITE = b" \t\r\n"
_BY_PATTERN_MAX = 65_536
"""Octets that a pattern goes through at once: it keeps the interpreter all the while."""
_PATTERN_NEEDLE_MAX = 64
"""Octets of a needle: as often a line is looked through that is made against it."""


def sections_of(where: Where, field: bytes) -> tuple[Section, ...]:
    """Where in a block this text is."""
    if where is Where.HEADER and field in _BRIEF_FIELDS:
        return (Section.BRIEF,)
    return _SECTIONS[where]


class _Sought:
    """A needle on its way through the blocks. matched: addresses of contents."""

    __slots__ = ("matched", "name", "octets", "runs", "sections")

    def __init__(self, needle: Needle) -> None:
        self.octets = needle.text.encode("utf-8", "surrogatepass")
        self.runs = Runs.of(self.octets)
        self.sections = sections_of(needle.where, needle.field)
        self.matched: set[int] = set()
        match needle.where:
            case Where.BODY | Where.TEXT:
                self.name = None
            case Where.HEADER:
                self.name = needle.field if is_field_name(needle.field) else b""
            case _:
                self.name = needle.where.value.encode("ascii")

    def places(self, text: Text) -> Iterable[int]:
        """Which messages of the block hold the needle in this section."""
        if self.name is None:
            return places_of(text, self.octets) if self.octets else range(len(text.starts) - 1)
        if not self.name:
            return ()
        return _field_places(text, self.name, self.octets)


def places_of(text: Text, octets: bytes) -> Iterator[int]:
    """Messages that hold the octets anywhere."""
    find, starts = text.octets.find, text.starts
    at = starts[0]
    while (at := find(octets, at)) != -1:
        place = bisect_right(starts, at) - 1
        yield place
        at = starts[place + 1]


def _field_places(text: Text, name: bytes, octets: bytes) -> Iterator[int]:
    """Messages that hold the octets in the value of a field of this name."""
    everything, starts = text.octets, text.starts
    sought = octets or b"\0" + name
    at = starts[0]
    if _is_for_pattern(octets, everything):
        if octets in everything:
            for match in _pattern(name, octets).finditer(everything, at):
                yield bisect_right(starts, match.start()) - 1
        return
    while (at := everything.find(sought, at)) != -1:
        place = bisect_right(starts, at) - 1
        stop = starts[place + 1]
        begin = at if not octets else everything.rfind(b"\0", starts[place], at)
        end = everything.find(b"\0", at + 1, stop)
        if end == -1:
            end = stop
        if _holds(everything[begin + 1 : end], name, octets):
            yield place
            at = stop
        else:
            at = end


def _is_for_pattern(octets: bytes, everything: bytes) -> bool:
    return (
        0 < len(octets) <= _PATTERN_NEEDLE_MAX
        and len(everything) <= _BY_PATTERN_MAX
        and octets.strip(_WHITE) == octets
    )


@lru_cache(maxsize=64)
def _pattern(name: bytes, octets: bytes) -> re.Pattern[bytes]:
    """As `_holds`, for octets that no white space begins or ends. Looks at each octet once, but
    for those that are the needle's first."""
    return re.compile(b"\\0" + re.escape(name) + rb"[ \t]*+:[^\0]*" + re.escape(octets))


def _holds(line: bytes, name: bytes, octets: bytes) -> bool:
    """As `text.field_holds`, in octets."""
    if not line.startswith(name):
        return False
    rest = line[len(name) :].lstrip(b" \t")
    return rest.startswith(b":") and octets in rest[1:].strip(_WHITE)


class MailIndex:
    """Implements `contract.Index`. store: where messages are read that the index lacks.

    lacking: called, in whichever thread searches, with an account of which much is not indexed.
    """

    def __init__(self, database: Database, ciphers: Ciphers | None, store: Store) -> None:
        self.blocks = BlockReader(database, ciphers)
        self.lacking: Callable[[int], None] | None = None
        self._database = database
        self._ciphers = ciphers
        self._store = store

    def builder(self, account: int) -> Builder:
        """Blocks. Raises: Unavailable."""
        return Builder(self._database, self._store, self._ciphers, account)

    def tidier(self, account: int) -> Tidier:
        return Tidier(self._database, self._ciphers, account)

    def find(
        self,
        account: int,
        mailbox: int,
        needles: Sequence[Needle],
        among: UIDSet | None = None,
    ) -> list[Found]:
        uids, heaps = self.blocks.members(account, mailbox, among)
        layout = self.blocks.layout_of(account, heaps)
        sought = [_Sought(needle) for needle in needles]
        read = {
            section: self._look(account, section, layout, sought)
            for section in sorted({section for item in sought for section in item.sections})
        }
        bodyless = self.blocks.bodyless(account) if Section.BODY in read else set()
        one_range = among is None or len(among.ranges) < 2
        known: dict[tuple[Section, ...], tuple[set[int], UIDSet]] = {}
        for item in sought:
            if item.sections not in known:
                there = _covered(layout, [read[section] for section in item.sections])
                if Section.BODY in item.sections:
                    there -= bodyless
                known[item.sections] = there, _covered_uids(uids, heaps, there, one_range)
        self._ask(account, heaps, layout)
        return [_found(item, uids, heaps, *known[item.sections]) for item in sought]

    def _ask(self, account: int, heaps: array[int], layout: dict[int, array[int]]) -> None:
        """Tells that many of these contents are in no block."""
        if self.lacking is None or sum(map(len, layout.values())) >= len(heaps):
            return
        there = _covered(layout, [set(layout)])
        if sum([heap not in there for heap in heaps]) >= LACKING_MIN:
            self.lacking(account)

    def _look(
        self,
        account: int,
        section: Section,
        layout: dict[int, array[int]],
        sought: list[_Sought],
    ) -> set[int]:
        """Looks for the needles in one section; returns the blocks of which that is known."""
        mine = [item for item in sought if section in item.sections]
        done: set[int] = set()
        to_read = []
        for block, addresses in layout.items():
            if all(item.matched.issuperset(addresses) for item in mine):
                done.add(block)  # an earlier section has answered for all of them
            else:
                to_read.append(block)
        out = self._ruled_out(account, section, to_read, mine)
        done |= out
        to_read = [block for block in to_read if block not in out]
        for block, octets in self.blocks.sections(account, section, to_read):
            heaps = layout.get(block)
            if heaps is None:
                continue
            try:
                text = Text(octets, len(heaps))
            except DamagedBlock:
                continue
            for item in mine:
                item.matched.update([heaps[place] for place in item.places(text)])
            done.add(block)
        return done

    def _ruled_out(
        self, account: int, section: Section, blocks: list[int], mine: list[_Sought]
    ) -> set[int]:
        """Blocks that hold none of the needles in this section, by what their filters say."""
        runs = [item.runs for item in mine]
        out: set[int] = set()
        if section not in FILTERS or not all(item.words for item in runs):
            return out
        for block, octets in self.blocks.sections(account, FILTERS[section], blocks):
            try:
                packed = unpack_filter(octets)
            except DamagedBlock:
                continue
            if not any(item.may_be_in(packed) for item in runs):
                out.add(block)
        return out

    def fuzzy(
        self,
        account: int,
        mailbox: int,
        where: Where,
        text: str,
        field: bytes = b"",
        among: UIDSet | None = None,
    ) -> list[tuple[int, int]]:
        return fuzzy.ranked(
            self.blocks, self._store, account, mailbox, fuzzy.Query(where, text, field), among
        )


def _found(
    item: _Sought, uids: array[int], heaps: array[int], there: set[int], known: UIDSet
) -> Found:
    matched = item.matched
    if not matched:
        return Found(UIDSet(), known)
    return Found(
        UIDSet.of(
            [
                uid
                for uid, heap in zip(uids, heaps, strict=True)
                if heap in matched and heap in there
            ]
        ),
        known,
    )


def _covered(layout: dict[int, array[int]], read: list[set[int]]) -> set[int]:
    """Addresses in blocks of which every section that matters was read."""
    blocks = set.intersection(*read)
    there: set[int] = set()
    for block in blocks:
        there.update(layout[block])
    return there


def _covered_uids(uids: array[int], heaps: array[int], there: set[int], one_range: bool) -> UIDSet:
    """one_range: UIDs between those of the mailbox may be named as well."""
    if not uids:
        return UIDSet()
    if not one_range:
        return UIDSet.of(uid for uid, heap in zip(uids, heaps, strict=True) if heap in there)
    missing = [uid for uid, heap in zip(uids, heaps, strict=True) if heap not in there]
    ranges = []
    start = uids[0]
    for uid in missing:
        if uid > start:
            ranges.append((start, uid - 1))
        start = uid + 1
    if start <= uids[-1]:
        ranges.append((start, uids[-1]))
    return UIDSet(tuple(ranges))
