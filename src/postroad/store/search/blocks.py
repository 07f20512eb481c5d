"""Blocks of the index: the text of some 64 messages, and their sort keys, as octets.

A block is a row for each section. Sections of text are one string of folded text in UTF-8, NUL
before each piece, behind a table of where each message begins; so one search of octets looks
through all messages, and no needle (which holds no NUL) matches across two pieces. Beside the long
ones stands a filter (`filters`) that tells of most needles that they are not there. Texts and keys
are zstd frames with a checksum, lists and filters have a CRC; all are sealed where the account's
mail is. A block never changes: what replaces it has another number.
Knows no table. Input: what this module made, perhaps damaged by the disk.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from postroad.store.search.contract import Facet
from postroad.store.search.digesting import Keys
from postroad.store.search.filters import filter_of
from postroad.store.search.text import SearchText

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_MESSAGES_MAX = 64
BLOCK_OCTETS_MAX = 1 << 20
"""Of text: looking through it keeps the interpreter for less than a millisecond."""
BODY_OCTETS_MAX = 1 << 20
"""Of one message's folded text: a longer one is read whenever a body is searched."""
HEADER_OCTETS_MAX = 256 << 10
"""Of one message's header: with a longer one, the message is not indexed."""
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}
_CRC_OCTETS = 4


class Section(IntEnum):
    HEAPS = 0
    """Addresses of the messages' contents, in the order of all other sections."""
    BRIEF = 1
    """From, To, Cc, Bcc and Subject."""
    HEADER = 2
    """The other fields."""
    BODY = 3
    KEYS = 4
    BODYLESS = 5
    """Addresses of those whose body was too long; most often missing."""
    HEADER_FILTER = 6
    BODY_FILTER = 7


FILTERS = {Section.HEADER: Section.HEADER_FILTER, Section.BODY: Section.BODY_FILTER}

_BRIEF_NAMES = frozenset(("from", "to", "cc", "bcc", "subject"))
COLUMN_FACETS = (
    Facet.SENT,
    Facet.SUBJECT,
    Facet.SUBJECT,
    Facet.FROM,
    Facet.TO,
    Facet.CC,
    Facet.DISPLAY_FROM,
    Facet.DISPLAY_TO,
    Facet.THREAD,
    Facet.THREAD,
)
"""Of the columns of `Keys`."""
_COLUMN_BITS = tuple(map(int, COLUMN_FACETS))
"""Without the enum's own arithmetic, which takes longer than the rest of a small block."""


class DamagedBlock(Exception):
    """Its octets are not what was written: what it covered is read instead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, ready for a block. body: None when it is too long."""

    heap: int
    brief: bytes
    header: bytes
    body: bytes | None
    keys: Keys

    @property
    def octets(self) -> int:
        return len(self.brief) + len(self.header) + len(self.body or b"")


def entry(heap: int, text: SearchText, keys: Keys, *, has_body: bool) -> Entry | None:
    """The message as a block holds it; None when its header is too long to be indexed."""
    brief, rest = [""], [""]
    for line in text.header:
        name = line.partition(":")[0].rstrip(" \t")
        (brief if name in _BRIEF_NAMES else rest).append(line)
    packed_brief, packed_rest = _utf8(brief), _utf8(rest)
    if len(packed_brief) + len(packed_rest) > HEADER_OCTETS_MAX:
        return None
    body = _utf8(["", *text.body]) if has_body else None
    if body is not None and len(body) > BODY_OCTETS_MAX:
        body = None
    return Entry(heap, packed_brief, packed_rest, body, keys)


def _utf8(pieces: list[str]) -> bytes:
    return "\0".join(pieces).encode("utf-8", "surrogatepass")


# -- packing ----------------------------------------------------------------------------------

_ENCODER = msgspec.msgpack.Encoder()
_COLUMNS = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])
_COLUMN_DECODERS: tuple[msgspec.msgpack.Decoder[Any], ...] = (
    msgspec.msgpack.Decoder(list[int]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[bool]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[bytes]),
    msgspec.msgpack.Decoder(list[tuple[bytes, ...]]),
)


def pack_addresses(heaps: Iterable[int]) -> bytes:
    return _checked(_little(array("Q", heaps)).tobytes())


def unpack_addresses(octets: bytes) -> array[int]:
    """Raises: DamagedBlock."""
    body = _unchecked(octets)
    if len(body) % 8:
        raise DamagedBlock("a list of addresses is not whole")
    heaps = array("Q")
    heaps.frombytes(body)
    return _little(heaps)


def unpack_filter(octets: bytes) -> bytes:
    """For `Runs.may_be_in`. Raises: DamagedBlock."""
    body = _unchecked(octets)
    if not body:
        raise DamagedBlock("a filter is empty")
    return body


def _checked(octets: bytes) -> bytes:
    return zlib.crc32(octets).to_bytes(_CRC_OCTETS, "little") + octets


def _unchecked(octets: bytes) -> bytes:
    body = octets[_CRC_OCTETS:]
    if int.from_bytes(octets[:_CRC_OCTETS], "little") != zlib.crc32(body):
        raise DamagedBlock("a list of addresses or a filter has changed")
    return body


def _little(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def pack_block(entries: Sequence[Entry]) -> dict[Section, bytes]:
    """The sections of a block, not sealed. Compresses: call it where blocking does no harm."""
    columns = zip(*(item.keys for item in entries), strict=True)
    keys = tuple([msgspec.Raw(_ENCODER.encode(column)) for column in columns])
    header = [item.header for item in entries]
    body = [item.body or b"" for item in entries]
    sections = {
        Section.HEAPS: pack_addresses(item.heap for item in entries),
        Section.BRIEF: _pack_text([item.brief for item in entries]),
        Section.HEADER: _pack_text(header),
        Section.HEADER_FILTER: _checked(filter_of(b"".join(header))),
        Section.BODY: _pack_text(body),
        Section.BODY_FILTER: _checked(filter_of(b"".join(body))),
        Section.KEYS: zstd.compress(_ENCODER.encode(keys), options=_OPTIONS),
    }
    bodyless = [item.heap for item in entries if item.body is None]
    if bodyless:
        sections[Section.BODYLESS] = pack_addresses(bodyless)
    return sections


def _pack_text(texts: list[bytes]) -> bytes:
    starts = array("I", [len(texts)])
    at = 0
    for text in texts:
        starts.append(at)
        at += len(text)
    table = _little(starts).tobytes()
    return zstd.compress(b"".join([table, *texts]), options=_OPTIONS)


def _decompress(octets: bytes) -> bytes:
    try:
        return zstd.decompress(octets)
    except zstd.ZstdError as error:
        raise DamagedBlock(str(error)) from error


class Text:
    """A section of text. starts: where each message begins in `octets`, and the end of all."""

    __slots__ = ("octets", "starts")

    def __init__(self, packed: bytes, count: int) -> None:
        """count: of the block's messages. Raises: DamagedBlock."""
        octets = _decompress(packed)
        head = 4 * (count + 1)
        table = array("I")
        table.frombytes(octets[: head if len(octets) >= head else 0])
        starts = _little(table)
        if len(starts) != count + 1 or starts[0] != count:
            raise DamagedBlock("a section of text does not fit its list of addresses")
        self.octets = octets
        self.starts = [head + start for start in starts[1:]]
        self.starts.append(len(octets))

    def of(self, place: int) -> bytes:
        return self.octets[self.starts[place] : self.starts[place + 1]]


def _check_filter(packed: bytes, text: Text) -> None:
    """Raises: DamagedBlock when it is of another text: it would hide what is there."""
    if unpack_filter(packed) != filter_of(text.octets[text.starts[0] :]):
        raise DamagedBlock("a filter does not fit its text")


def unpack_keys(packed: bytes, count: int, facets: Facet) -> list[list[Any] | None]:
    """The columns of `Keys`; None for those that were not asked for. Raises: DamagedBlock."""
    asked = int(facets)
    try:
        raws = _COLUMNS.decode(_decompress(packed))
        columns = [
            decoder.decode(raw) if asked & bit else None
            for raw, decoder, bit in zip(raws, _COLUMN_DECODERS, _COLUMN_BITS, strict=True)
        ]
    except (msgspec.MsgspecError, ValueError) as error:
        raise DamagedBlock(str(error)) from error
    if any(column is not None and len(column) != count for column in columns):
        raise DamagedBlock("sort keys do not fit their list of addresses")
    return columns


def unpack_block(sections: dict[Section, bytes]) -> list[Entry]:
    """What `pack_block` packed. Raises: DamagedBlock."""
    try:
        heaps = unpack_addresses(sections[Section.HEAPS])
        count = len(heaps)
        brief = Text(sections[Section.BRIEF], count)
        header = Text(sections[Section.HEADER], count)
        body = Text(sections[Section.BODY], count)
        columns = unpack_keys(sections[Section.KEYS], count, ~Facet.NONE)
        _check_filter(sections[Section.HEADER_FILTER], header)
        _check_filter(sections[Section.BODY_FILTER], body)
        bodyless = frozenset(
            unpack_addresses(sections[Section.BODYLESS]) if Section.BODYLESS in sections else ()
        )
    except KeyError as error:
        raise DamagedBlock(f"section {error} is missing") from error
    rows = zip(*[column for column in columns if column is not None], strict=True)
    return [
        Entry(
            heap,
            brief.of(place),
            header.of(place),
            None if heap in bodyless else body.of(place),
            Keys(*row),
        )
        for place, (heap, row) in enumerate(zip(heaps, rows, strict=True))
    ]
