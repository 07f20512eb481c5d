"""The order of messages: by what their digests say.

Source: RFC 5256 §3 (SORT), RFC 5957 §3-4 (DISPLAY), RFC 6203 §6 (RELEVANCY).
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from postroad.protocol.imap.sort import Criterion, SortKey
from postroad.service.imapd.spans import span_of
from postroad.service.imapd.view import View
from postroad.service.remembered import Remembered, set_key
from postroad.store.contract import Store
from postroad.store.search.contract import Digest, Facet

_FACETS = {
    SortKey.ARRIVAL: (Facet.NONE, "arrival"),
    SortKey.CC: (Facet.CC, "cc"),
    SortKey.DATE: (Facet.SENT, "sent"),
    SortKey.DISPLAYFROM: (Facet.DISPLAY_FROM, "display_from"),
    SortKey.DISPLAYTO: (Facet.DISPLAY_TO, "display_to"),
    SortKey.FROM: (Facet.FROM, "author"),
    SortKey.SIZE: (Facet.NONE, "size"),
    SortKey.SUBJECT: (Facet.SUBJECT, "subject"),
    SortKey.TO: (Facet.TO, "to"),
}


async def in_order(
    store: Store,
    remembered: Remembered,
    view: View,
    found: Sequence[int],
    by: tuple[Criterion, ...],
    scores: dict[int, int],
) -> Sequence[int]:
    """Ascending UIDs in the order asked for; those that compare alike stay in mailbox order.

    Raises: Unavailable.
    """
    if len(found) < 2:
        return found
    if any(item.key is SortKey.RELEVANCY for item in by):
        return await asyncio.to_thread(_in_order, store, view, found, by, scores)
    return await asyncio.to_thread(_known_order, store, remembered, view, found, by)


def facets_of(by: tuple[Criterion, ...]) -> Facet:
    wanted = Facet.NONE
    for item in by:
        if item.key in _FACETS:
            wanted |= _FACETS[item.key][0]
    return wanted


def _known_order(
    store: Store,
    remembered: Remembered,
    view: View,
    found: Sequence[int],
    by: tuple[Criterion, ...],
) -> Sequence[int]:
    """As it was worked out before for the same messages, if it was."""
    key = set_key((view.account, view.mailbox, view.uidvalidity, by), found)
    kept = remembered.get(key)
    if kept is None:
        kept = array("I", _in_order(store, view, found, by, {})).tobytes()
        remembered.put(key, kept)
    order = array("I")
    order.frombytes(kept)
    return order


def _in_order(
    store: Store,
    view: View,
    found: Sequence[int],
    by: tuple[Criterion, ...],
    scores: dict[int, int],
) -> list[int]:
    digests = read(store, view, found, facets_of(by))
    for item in reversed(by):  # each pass keeps the order of the ones before where it says nothing
        key, is_downwards = key_of(item.key, scores)
        digests.sort(key=key, reverse=item.reverse != is_downwards)
    return [digest.uid for digest in digests]


def read(store: Store, view: View, found: Sequence[int], facets: Facet) -> list[Digest]:
    """Digests of ascending UIDs that exist. Blocks."""
    span, counts = span_of(found, view.uids)
    out: list[Digest] = []
    for digests in store.sort_digests(view.account, view.mailbox, span, facets):
        out += digests if counts is None else [digest for digest in digests if digest.uid in counts]
    return out


def key_of(key: SortKey, scores: dict[int, int]) -> tuple[Callable[[Digest], Any], bool]:
    """What to compare, and whether the highest comes first."""
    if key is SortKey.RELEVANCY:
        return (lambda digest: scores.get(digest.uid, 100)), True
    return attrgetter(_FACETS[key][1]), False
