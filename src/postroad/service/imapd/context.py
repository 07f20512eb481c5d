"""Searches that are kept up to date: ADDTO and REMOVEFROM as the mailbox changes.

A context is the search's keys, their sequence numbers fixed, and its results. What changed in the
mailbox is looked at when it is told, and only that; results that are expunged are taken out before
their EXPUNGE. Contexts end with their mailbox.
Source: RFC 5267 §4.3 (UPDATE), §4.3.1 (NOUPDATE), §4.3.2-4 (ADDTO, REMOVEFROM), §4.3.5.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import total_ordering
from typing import TYPE_CHECKING, Any

from postroad.mail.errors import ProtocolError, Unavailable
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.context import CancelUpdate
from postroad.protocol.imap.search_keys import Key
from postroad.protocol.imap.search_program import Criteria, Returns
from postroad.protocol.imap.sort import Criterion, SortKey
from postroad.service.imapd.answers import Answer, no
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.service.imapd.matching import Finder
from postroad.service.imapd.ordering import facets_of, key_of, read
from postroad.service.imapd.results import Result, numbers_of
from postroad.service.imapd.spans import runs
from postroad.service.imapd.view import View
from postroad.store.contract import Store

if TYPE_CHECKING:
    from postroad.service.imapd.session import Session

CONTEXTS_MAX = 10
"""Of one session: a client shows a few searches at a time."""
RESULTS_MAX = 1_000_000
"""Results that a session keeps for its contexts, four octets each; the first is always kept."""
LOOKED_AT_MAX = 5000
"""Changed messages that are tried one by one; of more, the whole search is done again."""


@dataclass(slots=True)
class Context:
    """correlator: what its responses begin with. key: without sequence numbers. uids: the results;
    by: their order, None for mailbox order."""

    correlator: bytes
    key: Key
    uid: bool
    uids: array[int]
    by: tuple[Criterion, ...] | None = None


@dataclass(slots=True)
class Contexts:
    """Of one view. modseq: changes up to here are in the results. gone: what was expunged and has
    been taken out of them."""

    modseq: int
    gone: UIDSet | None = None
    by_tag: dict[bytes, Context] = field(default_factory=dict)

    @property
    def results(self) -> int:
        return sum(len(item.uids) for item in self.by_tag.values())


def check_tag(session: Session, tag: bytes, returns: Returns | None) -> None:
    """A tag stands for one context (RFC 5267 §4.3). Raises: ProtocolError."""
    view = session.view
    if returns is None or b"UPDATE" not in returns or view is None or view.contexts is None:
        return
    if tag in view.contexts.by_tag:
        raise ProtocolError("The tag already stands for a search that is kept up to date")


def keep(
    session: Session,
    tag: bytes,
    criteria: Criteria,
    finder: Finder,
    result: Result,
    *,
    uid: bool,
    by: tuple[Criterion, ...] | None = None,
    correlator: bytes = b"",
) -> None:
    """From now on changes of this result are told, or the client is told that they are not.

    correlator: of the responses; b"" for the tag alone.
    """
    view = session.selected
    kept = view.contexts
    full = (
        kept is not None
        and bool(kept.by_tag)
        and (len(kept.by_tag) >= CONTEXTS_MAX or kept.results + len(result.uids) > RESULTS_MAX)
    )
    by_score = by is not None and any(item.key is SortKey.RELEVANCY for item in by)
    if full or by_score:
        session.put(b"* NO [NOUPDATE %b] Changes will not be told\r\n" % _quoted(tag))
        return
    if kept is None:
        kept = view.contexts = Contexts(view.modseq)
    key = finder.resolve(criteria.key)
    correlator = correlator or b"TAG " + render.string(tag)
    kept.by_tag[tag] = Context(correlator, key, uid, array("I", result.uids), by)


async def cancelupdate(session: Session, command: CancelUpdate) -> Answer:
    kept = session.selected.contexts
    missing = [tag for tag in command.tags if kept is None or tag not in kept.by_tag]
    if kept is not None:
        for tag in command.tags:
            kept.by_tag.pop(tag, None)
        if not kept.by_tag:
            session.selected.contexts = None
    if missing:
        return no("There is no such search that is kept up to date")
    return Answer("No further updates")


def removed(view: View) -> list[bytes]:
    """REMOVEFROM of results that vanished: to be put before they are told as expunged."""
    kept, gone = view.contexts, view.vanished
    if kept is None or gone is None or gone is kept.gone:
        return []
    kept.gone = gone
    out = []
    for item in kept.by_tag.values():
        out += _take_out(view, item, _within(item, gone))
    return out


async def refresh(session: Session) -> None:
    """Puts what changed in the results, other than by expunges; after FETCH and EXISTS.

    What cannot be read now is looked at with the next news.
    """
    view = session.view
    if view is None or view.contexts is None or view.modseq <= view.contexts.modseq:
        return
    try:
        await _refresh(session, view, view.contexts)
    except _Gone:
        session.dirty = True  # a result vanished meanwhile: first that news, then this
    except Unavailable as error:
        session.site.trace(
            IMAPCommandDeferred(session=session.id, command="Update", what=error.what)
        )


async def _refresh(session: Session, view: View, kept: Contexts) -> None:
    store = session.site.store
    upto = view.modseq
    await view.number()
    changed = await asyncio.to_thread(_changed, store, view, kept.modseq)
    for item in list(kept.by_tag.values()):
        finder = Finder(view, store, session.site.clock.now())
        found = await finder.find(item.key, changed)
        looked_at = view.uids if changed is None else changed
        session.put(*await _updated(store, view, item, looked_at, found))
    kept.modseq = upto


def _changed(store: Store, view: View, since: int) -> list[int] | None:
    """UIDs that changed or are new, ascending; None when they are many."""
    out: list[int] = []
    for page in store.changed_uids(view.account, view.mailbox, since, view.last):
        out += page
        if len(out) > LOOKED_AT_MAX:
            return None
    return sorted(set(out))


async def _updated(
    store: Store, view: View, item: Context, looked_at: Sequence[int], found: Sequence[int]
) -> list[bytes]:
    """What leaves and what enters the results."""
    before = set(item.uids)
    now = set(found)
    fresh = [uid for uid in found if uid not in before]
    stale = {uid for uid in looked_at if uid in before and uid not in now}
    if not fresh and not stale:
        return []
    places = None
    if item.by is not None and fresh:
        places = await asyncio.to_thread(_Ranked(store, view, item, stale).merge, fresh)
    out = _take_out(view, item, stale)
    if not fresh:
        return out
    if places is None:
        merged = sorted((*item.uids, *fresh))
        item.uids = array("I", merged)
        return [*out, _line(view, item, b"ADDTO", [(0, fresh)])]
    item.uids, entered = places
    return [*out, _line(view, item, b"ADDTO", _groups(item.uids, entered))]


def _within(item: Context, gone: UIDSet) -> set[int]:
    if item.by is not None:
        few = set(gone) if len(gone) <= len(item.uids) else gone
        return {uid for uid in item.uids if uid in few}
    found: set[int] = set()
    for low, high in gone.ranges:
        found.update(item.uids[bisect_left(item.uids, low) : bisect_right(item.uids, high)])
    return found


def _take_out(view: View, item: Context, stale: set[int]) -> list[bytes]:
    if not stale:
        return []
    if item.by is None:
        pairs: list[tuple[int, Sequence[int]]] = [(0, sorted(stale))]
    else:
        places = [at for at, uid in enumerate(item.uids) if uid in stale]
        pairs = list(reversed(_groups(item.uids, places)))  # so that none shifts another
    line = _line(view, item, b"REMOVEFROM", pairs)
    item.uids = array("I", [uid for uid in item.uids if uid not in stale])
    return [line]


def _groups(uids: array[int], places: Iterable[int]) -> list[tuple[int, Sequence[int]]]:
    """(position from 1 on, UIDs) of neighbours, for ascending places."""
    return [(low + 1, uids[low : high + 1]) for low, high in runs(list(places))]


def _line(
    view: View, item: Context, word: bytes, pairs: Iterable[tuple[int, Sequence[int]]]
) -> bytes:
    named = []
    for position, uids in pairs:
        called = numbers_of(view, uids, uid=item.uid, is_sorted=item.by is not None)
        named.append(b"%d %b" % (position, render.ranges(runs(called))))
    what = b"UID " if item.uid else b""
    return b"* ESEARCH (%b) %b%b (%b)\r\n" % (
        item.correlator, what, word, b" ".join(named),
    )  # fmt: skip


def _quoted(tag: bytes) -> bytes:
    return b'"%b"' % tag.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


class _Gone(Exception):
    """A message whose place is asked for is not there any more."""


@total_ordering
class _Down:
    """Compares the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and bool(self.value == other.value)

    def __lt__(self, other: _Down) -> bool:
        return bool(other.value < self.value)


class _Ranked:
    """Finds the places of new results among sorted ones, by looking at a few of these."""

    __slots__ = ("_by", "_item", "_known", "_stale", "_store", "_view")

    def __init__(self, store: Store, view: View, item: Context, stale: set[int]) -> None:
        assert item.by is not None
        self._store = store
        self._view = view
        self._item = item
        self._by = item.by
        self._stale = stale
        self._known: dict[int, tuple[Any, ...]] = {}

    def merge(self, fresh: list[int]) -> tuple[array[int], list[int]]:
        """The results with the new ones in, and the places of these. Blocks. Raises: _Gone."""
        old = [uid for uid in self._item.uids if uid not in self._stale]
        self._read(fresh if len(fresh) < len(old) else sorted((*old, *fresh)))
        entering = sorted(fresh, key=self._rank)
        merged: list[int] = []
        places: list[int] = []
        start = 0
        for uid in entering:
            at = bisect_left(old, self._rank(uid), start, key=self._rank)
            merged += old[start:at]
            places.append(len(merged))
            merged.append(uid)
            start = at
        merged += old[start:]
        return array("I", merged), places

    def _read(self, uids: Sequence[int]) -> None:
        keys = [(*key_of(item.key, {}), item.reverse) for item in self._by]
        for digest in read(self._store, self._view, uids, facets_of(self._by)):
            self._known[digest.uid] = (
                *(
                    _Down(key(digest)) if reverse != is_downwards else key(digest)
                    for key, is_downwards, reverse in keys
                ),
                digest.uid,
            )

    def _rank(self, uid: int) -> tuple[Any, ...]:
        if uid not in self._known:
            self._read([uid])
        found = self._known.get(uid)
        if found is None:
            raise _Gone
        return found
