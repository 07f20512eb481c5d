"""What SORT and THREAD need of many messages, from the blocks or from the messages themselves.

Implements `search.contract.Digests`.
Source: RFC 5256 §2.2, §3; RFC 5957 §3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from postroad.mail.uidset import UIDSet
from postroad.store.contract import Store
from postroad.store.search.blocks import (
    COLUMN_FACETS,
    DamagedBlock,
    Section,
    unpack_keys,
)
from postroad.store.search.contract import Digest, Facet
from postroad.store.search.digesting import Keys, keys_of
from postroad.store.search.reading import BlockReader
from postroad.store.values import MessageRow, Want

SLICE = 1000
"""Rows of scattered messages at a time; of a range, `reading.MEMBERS_AT_ONCE`."""
_DEFAULTS = Keys(0, b"", False, b"", b"", b"", b"", b"", b"", ())


class _Rows(NamedTuple):
    """Columns of messages, by UID."""

    uids: Sequence[int]
    arrivals: Sequence[int]
    sizes: Sequence[int]
    heaps: Sequence[int]


class MailDigests:
    def __init__(self, blocks: BlockReader, store: Store) -> None:
        self._blocks = blocks
        self._store = store

    def __call__(
        self, account: int, mailbox: int, uids: UIDSet, facets: Facet
    ) -> Iterator[list[Digest]]:
        wanted = [number for number, facet in enumerate(COLUMN_FACETS) if facets & facet]
        source = _Source(self._blocks, account, facets, wanted) if wanted else None
        for rows in self._rows(account, mailbox, uids):
            columns: list[Iterable[Any]] = [repeat(value) for value in _DEFAULTS]
            if source is not None:
                found, missing = source.columns(rows.heaps)
                if missing:
                    self._read(account, mailbox, rows, missing, found)
                if facets & Facet.SENT:
                    found[0] = [
                        sent or arrival
                        for sent, arrival in zip(found[0], rows.arrivals, strict=True)
                    ]
                for number, column in found.items():
                    columns[number] = column
            yield list(map(Digest, *rows, *columns))

    def _rows(self, account: int, mailbox: int, uids: UIDSet) -> Iterator[_Rows]:
        if len(uids.ranges) == 1:
            yield from map(_Rows._make, self._blocks.rows(account, mailbox, uids.ranges[0]))
            return
        for rows in self._store.messages(account, mailbox, uids, Want.BASE, SLICE):
            yield _Rows(
                [row.uid for row in rows],
                [row.internal_date for row in rows],
                [row.size for row in rows],
                [row.heap for row in rows],
            )

    def _read(
        self,
        account: int,
        mailbox: int,
        rows: _Rows,
        missing: list[int],
        found: dict[int, list[Any]],
    ) -> None:
        """From the messages' headers. missing: places in the rows."""
        by_uid = {rows.uids[place]: place for place in missing}
        want = Want.HEADER | Want.SENT
        for read in self._store.messages(account, mailbox, UIDSet.of(by_uid), want):
            for row in read:
                keys = _keys(row)
                for number, column in found.items():
                    column[by_uid[row.uid]] = keys[number]


def _keys(row: MessageRow) -> Keys:
    assert row.header is not None, "the row was read with Want.HEADER"
    return keys_of(row.header, row.sent or 0)


class _Source:
    """The blocks of one account. wanted: numbers of the columns that are asked for."""

    def __init__(self, blocks: BlockReader, account: int, facets: Facet, wanted: list[int]) -> None:
        self._blocks = blocks
        self._account = account
        self._facets = facets
        self._wanted = wanted
        self._layout = dict(blocks.layout(account))
        self._block_of: dict[int, int] = {}
        for block, heaps in self._layout.items():
            self._block_of.update(dict.fromkeys(heaps, block))

    def columns(self, heaps: Sequence[int]) -> tuple[dict[int, list[Any]], list[int]]:
        """The columns of messages with these contents, and which of them are in no block."""
        count = len(heaps)
        found: dict[int, list[Any]] = {
            number: [_DEFAULTS[number]] * count for number in self._wanted
        }
        by_block: dict[int, list[int]] = {}
        for place, number in enumerate(map(self._block_of.get, heaps, repeat(0))):
            if number in by_block:
                by_block[number].append(place)
            else:
                by_block[number] = [place]
        missing = by_block.pop(0, [])
        for number, octets in self._blocks.sections(self._account, Section.KEYS, sorted(by_block)):
            if number not in by_block:
                continue
            held = self._layout[number]
            try:
                columns = unpack_keys(octets, len(held), self._facets)
            except DamagedBlock:
                continue
            _fill(found, columns, heaps, by_block.pop(number), held)
        for places in by_block.values():
            missing += places
        return found, missing


def _fill(
    found: dict[int, list[Any]],
    columns: list[list[Any] | None],
    heaps: Sequence[int],
    places: list[int],
    held: array[int],
) -> None:
    """Takes what one block knows of the messages at some places."""
    start, stop = places[0], places[-1] + 1
    is_whole = list(heaps[start:stop]) == held.tolist()
    inside = () if is_whole else _inside(held, [heaps[place] for place in places])
    for number, column in found.items():
        known = columns[number]
        assert known is not None, "the facet was asked for"
        if is_whole:
            column[start:stop] = known
        else:
            for place, at in zip(places, inside, strict=True):
                column[place] = known[at]


def _inside(held: array[int], heaps: list[int]) -> list[int]:
    at = {heap: place for place, heap in enumerate(held)}
    return [at[heap] for heap in heaps]
