"""What a search has found, as the client asked to be told.

Source: RFC 3501 §7.2.5 (SEARCH), RFC 4466 §2.6.2, RFC 4731 §3.1-3.2, RFC 9051 §7.3.4 (ESEARCH);
RFC 5182 §2.4, RFC 9394 §3.2 (what SAVE keeps), RFC 5267 §3.1-2, §4.4 (sorted results, PARTIAL),
RFC 6203 §4 (RELEVANCY), RFC 7162 §3.1.6, §3.1.9-10 (MODSEQ).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.search_program import Returns
from postroad.service.imapd.spans import runs, span_of
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View
from postroad.store.contract import Store

AT_ONCE = 2000
"""Results that are rendered on the loop; more of them on a thread."""


@dataclass(frozen=True, slots=True)
class Result:
    """UIDs in the order asked for; scores of fuzzy matches (100 where there is none)."""

    uids: Sequence[int]
    is_sorted: bool = False
    scores: dict[int, int] = field(default_factory=dict)

    def window(self, returns: Returns) -> Sequence[int]:
        """What PARTIAL shows."""
        assert returns.partial is not None
        start, stop = returns.partial.span(len(self.uids))
        return self.uids[start:stop]

    def _named(self, returns: Returns) -> list[int] | None:
        """The results that are told by MIN, MAX and PARTIAL; None when all are told."""
        if b"ALL" in returns or b"COUNT" in returns or not self.uids:
            return None
        named = []
        if b"MIN" in returns:
            named.append(self.uids[0])
        if b"MAX" in returns:
            named.append(self.uids[-1])
        if returns.partial is not None:
            named += self.window(returns)
        elif not named:
            return None
        return named

    def saved(self, returns: Returns) -> UIDSet:
        """What `$` is from now on."""
        named = self._named(returns)
        if named is not None:
            return UIDSet.of(named)
        return UIDSet.of(self.uids) if self.is_sorted else UIDSet(tuple(runs(self.uids)))

    async def modseq(self, store: Store, view: View, returns: Returns | None) -> int:
        """The highest mod-sequence of the messages that are told (RFC 4731 §3.2)."""
        named = None if returns is None else self._named(returns)
        uids = sorted(set(named)) if named is not None else sorted(self.uids)
        span, counts = span_of(uids, view.uids)
        highest = 0
        for digest in store.digests(view.account, view.mailbox, span, modseqs=True):
            for packed, modseq in zip(digest.packed, digest.modseqs, strict=True):
                if modseq > highest and (counts is None or packed >> 6 in counts):
                    highest = modseq
            await turn()
        return highest


def numbers_of(view: View, uids: Sequence[int], *, uid: bool, is_sorted: bool) -> Sequence[int]:
    """What the client calls them."""
    if uid:
        return uids
    if not is_sorted:
        return view.numbers(uids)
    known = view.uids
    if 16 * len(uids) < len(known):
        return [bisect_left(known, item) + 1 for item in uids]
    number_of = dict(zip(known, range(1, len(known) + 1), strict=True))
    return [number_of[item] for item in uids]


async def old_response(word: bytes, view: View, result: Result, *, uid: bool, modseq: int) -> bytes:
    """`* SEARCH 1 2` or `* SORT 2 1`. modseq: 0 when it is not told."""

    def make() -> bytes:
        numbers = numbers_of(view, result.uids, uid=uid, is_sorted=result.is_sorted)
        return b"* %b %b" % (word, " ".join(map(str, numbers)).encode())

    if not result.uids:
        return b"* %b\r\n" % word
    line = make() if len(result.uids) <= AT_ONCE else await asyncio.to_thread(make)
    return b"%b (MODSEQ %d)\r\n" % (line, modseq) if modseq else line + b"\r\n"


async def esearch(
    correlator: bytes, view: View, result: Result, returns: Returns, *, uid: bool, modseq: int
) -> bytes:
    """correlator: `TAG "a"` and perhaps more. modseq: 0 when it is not told."""
    if len(result.uids) <= AT_ONCE:
        return _esearch(correlator, view, result, returns, uid, modseq)
    return await asyncio.to_thread(_esearch, correlator, view, result, returns, uid, modseq)


def _esearch(
    correlator: bytes, view: View, result: Result, returns: Returns, uid: bool, modseq: int
) -> bytes:
    def called(uids: Sequence[int]) -> Sequence[int]:
        return numbers_of(view, uids, uid=uid, is_sorted=result.is_sorted)

    out = [b"* ESEARCH (%b)" % correlator]
    if uid:
        out.append(b"UID")
    uids = result.uids
    if uids:
        if b"MIN" in returns:
            out.append(b"MIN %d" % called(uids[:1])[0])
        if b"MAX" in returns:
            out.append(b"MAX %d" % called(uids[-1:])[0])
        if b"ALL" in returns:
            out.append(b"ALL " + render.ranges(runs(called(uids))))
    if b"COUNT" in returns:
        out.append(b"COUNT %d" % len(uids))
    shown = uids
    if returns.partial is not None:
        shown = result.window(returns)
        found = render.ranges(runs(called(shown))) if shown else b"NIL"
        out.append(b"PARTIAL (%b %b)" % (returns.partial.asked, found))
    if b"RELEVANCY" in returns:
        scores = " ".join(str(result.scores.get(item, 100)) for item in shown)
        out.append(b"RELEVANCY (%b)" % scores.encode())
    if modseq:
        out.append(b"MODSEQ %d" % modseq)
    return b" ".join(out) + b"\r\n"
