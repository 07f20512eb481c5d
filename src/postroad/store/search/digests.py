"""What SORT and THREAD need of many messages, from the blocks or from the messages themselves.

Implements `search.contract.Digests`.
Source: RFC 5256 §2.2, §3; RFC 5957 §3.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

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
KEPT_BLOCKS_MAX = 2048
"""Unpacked blocks of one call: some 20 MB, for mailboxes whose messages lie far apart."""
_FIELDS = (
    "sent",
    "subject",
    "is_reply",
    "author",
    "to",
    "cc",
    "display_from",
    "display_to",
    "message_id",
    "references",
)
"""Of `Digest`, in the order of the columns."""
_Column = tuple[int, str]


class MailDigests:
    def __init__(self, blocks: BlockReader, store: Store) -> None:
        self._blocks = blocks
        self._store = store

    def __call__(
        self, account: int, mailbox: int, uids: UIDSet, facets: Facet
    ) -> Iterator[list[Digest]]:
        source = _Source(self._blocks, account, facets) if facets else None
        for rows in self._store.messages(account, mailbox, uids, Want.BASE, SLICE):
            digests = [Digest(row.uid, row.internal_date, row.size, row.heap) for row in rows]
            if source is not None:
                missing = source.fill(digests)
                if missing:
                    self._read(account, mailbox, missing, facets)
                if facets & Facet.SENT:
                    for digest in digests:
                        digest.sent = digest.sent or digest.arrival
            yield digests

    def _read(self, account: int, mailbox: int, missing: list[Digest], facets: Facet) -> None:
        """From the messages' headers."""
        by_uid = {digest.uid: digest for digest in missing}
        want = Want.HEADER | Want.SENT
        for rows in self._store.messages(account, mailbox, UIDSet.of(by_uid), want):
            for row in rows:
                _set(by_uid[row.uid], _keys(row), _columns(facets))


def _keys(row: MessageRow) -> Keys:
    assert row.header is not None, "the row was read with Want.HEADER"
    return keys_of(row.header, row.sent or 0)


def _columns(facets: Facet) -> list[_Column]:
    return [
        (number, name)
        for number, (name, facet) in enumerate(zip(_FIELDS, COLUMN_FACETS, strict=True))
        if facets & facet
    ]


def _set(digest: Digest, keys: Keys, columns: list[_Column]) -> None:
    for number, name in columns:
        setattr(digest, name, keys[number])


class _Block:
    """Columns of one block. places: where in them the keys of a content are."""

    __slots__ = ("columns", "places")

    def __init__(self, heaps: array[int], columns: list[list[Any] | None]) -> None:
        self.places = {heap: place for place, heap in enumerate(heaps)}
        self.columns = columns


class _Source:
    """The blocks of one account, unpacked as they are asked for."""

    def __init__(self, blocks: BlockReader, account: int, facets: Facet) -> None:
        self._blocks = blocks
        self._account = account
        self._facets = facets
        self._columns = _columns(facets)
        self._layout = dict(blocks.layout(account))
        self._block_of: dict[int, int] = {}
        for block, heaps in self._layout.items():
            self._block_of.update(dict.fromkeys(heaps, block))
        self._kept: OrderedDict[int, _Block] = OrderedDict()

    def fill(self, digests: list[Digest]) -> list[Digest]:
        """Sets the fields; returns those that are in no block."""
        by_block: dict[int, list[Digest]] = {}
        missing = []
        for digest in digests:
            number = self._block_of.get(digest.heap)
            if number is None:
                missing.append(digest)
            else:
                by_block.setdefault(number, []).append(digest)
        fresh = [number for number in by_block if number not in self._kept]
        self._load(fresh)
        for number, group in by_block.items():
            block = self._kept.get(number)
            if block is None:
                missing += group
            else:
                self._fill_from(block, group)
        while len(self._kept) > KEPT_BLOCKS_MAX:
            self._kept.popitem(last=False)
        return missing

    def _load(self, numbers: list[int]) -> None:
        for number, octets in self._blocks.sections(self._account, Section.KEYS, numbers):
            heaps = self._layout.get(number)
            if heaps is None:
                continue
            try:
                columns = unpack_keys(octets, len(heaps), self._facets)
            except DamagedBlock:
                continue
            self._kept[number] = _Block(heaps, columns)

    def _fill_from(self, block: _Block, group: list[Digest]) -> None:
        places = [block.places[digest.heap] for digest in group]
        for number, name in self._columns:
            column = block.columns[number]
            assert column is not None, "the facet was asked for"
            for digest, place in zip(group, places, strict=True):
                setattr(digest, name, column[place])
