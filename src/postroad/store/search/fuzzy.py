"""Ranking: which messages are about what somebody wrote, the best first.

A message must hold a word like each of those asked for. How often, how rare, how alike and where
decide the score, as BM25 weighs them.
Source: RFC 6203 §3, §4; Robertson and Zaragoza, The Probabilistic Relevance Framework (2009) §3.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from postroad.mail.uidset import UIDSet
from postroad.store.contract import Store
from postroad.store.search import likeness as like
from postroad.store.search.blocks import Section
from postroad.store.search.contract import Where
from postroad.store.search.pages import BRIEF_NAMES, Page, Pages
from postroad.store.search.reading import BlockReader
from postroad.store.search.text import fold

WORDS_MAX = 16
"""Of one query."""
COUNTED_MAX = 16
"""Times a word counts in one message: more say no more (BM25 levels off)."""
_K1, _B = 1.2, 0.75
_WEIGHT = {Section.BRIEF: 3.0, Section.HEADER: 0.5, Section.BODY: 1.0}
_TOKEN = re.compile(rb"[0-9a-z\x80-\xff]+")
_WORD = re.compile(r"[^\W_]+")
_PHRASE = 1.5


@dataclass(frozen=True, slots=True)
class Query:
    where: Where
    text: str
    field: bytes = b""

    @property
    def name(self) -> bytes | None:
        """The field whose values count; None: everything."""
        match self.where:
            case Where.BODY | Where.TEXT:
                return None
            case Where.HEADER:
                return self.field
            case _:
                return bytes(self.where.value, "ascii")

    @property
    def sections(self) -> Sequence[Section]:
        match self.where:
            case Where.BODY:
                return (Section.BODY,)
            case Where.TEXT:
                return (Section.BRIEF, Section.HEADER, Section.BODY)
            case _:
                is_brief = self.name in BRIEF_NAMES
                return (Section.BRIEF if is_brief else Section.HEADER,)


class _Counts:
    """How often each message holds something, alike words counting less."""

    __slots__ = ("by_heap",)

    def __init__(self) -> None:
        self.by_heap: dict[int, float] = {}

    def add(self, heap: int, amount: float) -> None:
        self.by_heap[heap] = self.by_heap.get(heap, 0.0) + amount


Occurrences = Iterator[tuple[int, float]]
"""(place of the message, likeness) of each word found."""


class _Word:
    """Finds words like one word."""

    __slots__ = ("_begin", "_known", "_like")

    def __init__(self, begin: str, likeness: Callable[[str], float]) -> None:
        """begin: what they all begin with. likeness: of a whole word."""
        self._begin = begin.encode()
        self._like = likeness
        self._known: dict[bytes, float] = {}

    def occurrences(self, page: Page) -> Occurrences:
        octets, starts, begin = page.octets, page.starts, self._begin
        known = self._known
        find = octets.find
        at = find(begin, starts[0])
        counted, place = 0, -1
        while at != -1:
            if not _ends_word(octets, at):
                token = _TOKEN.match(octets, at)
                assert token is not None
                amount = known.get(token[0])
                if amount is None:
                    amount = known[token[0]] = self._likeness(token[0])
                if amount:
                    here = bisect_right(starts, at) - 1
                    counted = counted + 1 if here == place else 1
                    place = here
                    yield place, amount
                    if counted >= COUNTED_MAX:
                        at = find(begin, starts[place + 1])
                        continue
            at = find(begin, at + len(begin))

    def _likeness(self, token: bytes) -> float:
        word = _WORD.match(token.decode("utf-8", "replace")[: like.WORD_MAX])
        return 0.0 if word is None else self._like(word[0])


class _Ending:
    """Finds mistyped forms of a word that end as it does."""

    __slots__ = ("_end", "_octets_max", "_word")

    def __init__(self, word: str, end: str) -> None:
        self._word = word
        self._end = end.encode()
        self._octets_max = len(word.encode()) + 8

    def occurrences(self, page: Page) -> Occurrences:
        octets, end = page.octets, self._end
        at = octets.find(end, page.starts[0])
        while at != -1:
            stop = at + len(end)
            if _TOKEN.match(octets, stop) is None:
                before = octets[max(0, at - self._octets_max) : stop].decode("utf-8", "replace")
                word = _WORD.findall(before)[-1]
                if like.is_mistyped(self._word, word):
                    yield bisect_right(page.starts, at) - 1, like.MISTYPED
            at = octets.find(end, stop)


class _Piece:
    """Finds text wherever it stands: of scripts without spaces, or signs that are no words."""

    __slots__ = ("_octets",)

    def __init__(self, text: str) -> None:
        self._octets = text.encode()

    def occurrences(self, page: Page) -> Occurrences:
        if not self._octets:
            for place in range(len(page.heaps)):
                if page.section is Section.BODY or page.starts[place + 1] > page.starts[place]:
                    yield place, like.SAME
            return
        at = page.octets.find(self._octets, page.starts[0])
        while at != -1:
            yield bisect_right(page.starts, at) - 1, like.SAME
            at = page.octets.find(self._octets, at + len(self._octets))


_Finder = _Word | _Ending | _Piece


def _ends_word(octets: bytes, at: int) -> bool:
    """Whether what stands before is a letter or digit: a word does not begin here."""
    if at == 0:
        return False
    before = octets[at - 1]
    if before < 0x80:
        return chr(before).isalnum()
    return octets[max(0, at - 4) : at].decode("utf-8", "ignore")[-1:].isalnum()


def _finders(word: str) -> list[_Finder]:
    if like.is_unspaced(word):
        return [_Piece(word)]
    return [_Word(like.beginning(word), lambda other: like.likeness(word, other))]


def _mistyped_finders(word: str) -> list[_Finder]:
    """With one letter wrong, one half of the word is right, or the two in the middle changed."""
    half = len(word) // 2
    swapped = word[: half - 1] + word[half] + word[half - 1] + word[half + 1 :]

    def likeness(other: str) -> float:
        return like.MISTYPED if like.is_mistyped(word, other) else 0.0

    return [_Word(word[:half], likeness), _Ending(word, word[half:]), _Word(swapped, likeness)]


def ranked(
    blocks: BlockReader,
    store: Store,
    account: int,
    mailbox: int,
    query: Query,
    among: UIDSet | None,
) -> list[tuple[int, int]]:
    """(UID, score 1 to 100), by UID. Raises: Unavailable."""
    pages = Pages(blocks, store, account, mailbox, among)
    text = like.without_marks(fold(query.text))
    words = like.words_of(text)[:WORDS_MAX]
    finders = [_finders(word) for word in words]
    if len(words) != 1:
        finders.append([_Piece(text)])
    lengths: dict[int, int] = {}
    counts = _count(pages, query, finders, lengths)
    phrase = counts.pop() if len(words) > 1 else _Counts()
    for number, word in enumerate(words):
        mended = counts[number].by_heap or len(word) < like.MISTYPED_MIN or like.is_unspaced(word)
        if not mended:
            counts[number] = _count(pages, query, [_mistyped_finders(word)], {})[0]
    scores = _scores(counts, lengths, phrase)
    return _by_uid(pages.uids, pages.heaps, scores)


def _count(
    pages: Pages, query: Query, finders: list[list[_Finder]], lengths: dict[int, int]
) -> list[_Counts]:
    """One pass over the text. lengths: takes that of each message."""
    counts = [_Counts() for _ in finders]
    for page in pages.walk(query.sections, query.name):
        weight = _WEIGHT[page.section]
        for place, heap in enumerate(page.heaps):
            size = page.starts[place + 1] - page.starts[place]
            lengths[heap] = lengths.get(heap, 0) + size
        for count, alternatives in zip(counts, finders, strict=True):
            for finder in alternatives:
                for place, amount in finder.occurrences(page):
                    count.add(page.heaps[place], amount * weight)
    return counts


def _scores(counts: list[_Counts], lengths: dict[int, int], phrase: _Counts) -> dict[int, float]:
    """BM25 of the messages that hold all words."""
    total = max(len(lengths), 1)
    average = max(sum(lengths.values()) / total, 1.0)
    heaps = set(counts[0].by_heap)
    for count in counts[1:]:
        heaps &= count.by_heap.keys()
    rare = [
        math.log(1 + (total - len(count.by_heap) + 0.5) / (len(count.by_heap) + 0.5))
        for count in counts
    ]
    scores: dict[int, float] = {}
    for heap in heaps:
        norm = _K1 * (1 - _B + _B * lengths.get(heap, 0) / average)
        score = sum(
            weight * count.by_heap[heap] * (_K1 + 1) / (count.by_heap[heap] + norm)
            for weight, count in zip(rare, counts, strict=True)
        )
        scores[heap] = score * _PHRASE if heap in phrase.by_heap else score
    return scores


def _by_uid(uids: array[int], heaps: array[int], scores: dict[int, float]) -> list[tuple[int, int]]:
    best = max(scores.values(), default=1.0)
    return [
        (uid, max(1, round(100 * scores[heap] / best)))
        for uid, heap in zip(uids, heaps, strict=True)
        if heap in scores
    ]
