"""BINARY: a part with its transfer encoding undone, measured once and written piece by piece.

The size must be known before the first octet is written, so a large part is decoded twice: once to
be measured, which is remembered, and once to be sent; it is never held whole.
Source: RFC 3516 §4.2-4.3; RFC 9051 §6.4.5.1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from postroad.message.section import part_at
from postroad.message.structure import Kind, unpack
from postroad.message.transfer import Decoder, decoder
from postroad.service.imapd.turns import turn
from postroad.store.contract import Store
from postroad.store.values import MessageRow

PIECE_OCTETS = 128 << 10
"""Encoded octets that are decoded at once, in some tenths of a millisecond."""
KEPT_OCTETS_MAX = 256 << 10
"""A decoded part up to here is kept between measuring and sending."""
MEASURES_MAX = 8192
"""Parts whose size is remembered, some 200 octets each: clients ask for sizes again and again."""


class UnknownEncoding(Exception):
    """The part's transfer encoding is none that we know."""


@dataclass(frozen=True, slots=True)
class Measure:
    octets: int
    has_nul: bool


_Key = tuple[int, tuple[int, ...]]
"""The content's address, which is never given out again, and the part's number."""
_Measures = OrderedDict[_Key, Measure]
_by_store: WeakKeyDictionary[Store, _Measures] = WeakKeyDictionary()


class Decoded:
    """One part of one message. read: gives octets [start, stop) of the message."""

    __slots__ = ("_encoding", "_kept", "_key", "_measures", "_read", "_start", "_stop")

    def __init__(
        self,
        measures: _Measures,
        key: _Key,
        span: tuple[int, int],
        encoding: bytes,
        read: Callable[[int, int], bytes],
    ) -> None:
        self._measures = measures
        self._key = key
        self._start, self._stop = span
        self._encoding = encoding
        self._read = read
        self._kept: bytes | None = None

    @classmethod
    def of(
        cls, store: Store, row: MessageRow, path: tuple[int, ...], read: Callable[[int, int], bytes]
    ) -> Decoded | None:
        """None: there is no such part. Raises: UnknownEncoding.

        The message itself, and parts that hold others, have no encoding that could be undone
        (RFC 2045 §6.4).
        """
        assert row.structure is not None, "the row was read with Want.OCTETS"
        node = part_at(unpack(row.structure), path)
        if node is None:
            return None
        encoding = b"" if not path or node.kind != Kind.LEAF else node.encoding
        if decoder(encoding) is None:
            raise UnknownEncoding
        start = node.body if path else 0
        stop = node.stop if path else row.size
        measures = _by_store.setdefault(store, OrderedDict())
        return cls(measures, (row.heap, path), (start, stop), encoding, read)

    def _decoder(self) -> Decoder:
        found = decoder(self._encoding)
        assert found is not None, "`of` has seen to it"
        return found

    def _pieces(self) -> Iterator[bytes]:
        """All of it, cut at the same places each time; between two the loop may turn."""
        undo = self._decoder()
        for start in range(self._start, self._stop, PIECE_OCTETS):
            yield undo.feed(self._read(start, min(start + PIECE_OCTETS, self._stop)))
        yield undo.finish()

    async def measure(self) -> Measure:
        measures = self._measures
        found = measures.get(self._key)
        if found is not None:
            measures.move_to_end(self._key)
            return found
        octets = 0
        has_nul = False
        kept: list[bytes] | None = []
        for piece in self._pieces():
            octets += len(piece)
            has_nul = has_nul or b"\0" in piece
            if kept is not None:
                kept.append(piece)
                if octets > KEPT_OCTETS_MAX:
                    kept = None
            if octets > KEPT_OCTETS_MAX:
                await turn()
        if kept is not None:
            self._kept = b"".join(kept)
        found = measures[self._key] = Measure(octets, has_nul)
        while len(measures) > MEASURES_MAX:
            measures.popitem(last=False)
        return found

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Decoded octets [start, stop)."""
        if self._kept is not None:
            yield self._kept[start:stop]
            return
        at = 0
        for piece in self._pieces():
            if at + len(piece) > start and at < stop:
                yield piece[max(start - at, 0) : stop - at]
            at += len(piece)
            if at >= stop:
                return
            await turn()
