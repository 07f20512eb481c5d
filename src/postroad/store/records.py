"""What a record in a pack holds: octets, compressed, and sealed where they are an encrypted
account's; and back.

Knows no file and no row. What it unpacks has passed its checksum; still it never grows past the
length that the record names.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from pathlib import Path

from postroad.database.packs import DICTIONARY, RAW, SEALED, ZSTD, Damaged
from postroad.store.dictionary import LEVEL, Dictionaries
from postroad.store.keys import Cipher, Keys, NoKey

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_LEVEL = 1
"""4 KB in 13 us to half its size; level 3 takes twice the time for 3 % less."""
COMPRESSED_OCTETS_MIN = 128
DICTIONARY_OCTETS_MAX = 8192
"""Of a message: on longer ones a dictionary gains little and costs more (see docs/storage.md)."""


class Records:
    """Safe to use from several threads. keys: None where nothing sealed is to be opened."""

    def __init__(self, data_dir: Path, *, keys: Keys | None = None, learnt: bool = True) -> None:
        self.dictionaries = Dictionaries(data_dir)
        self.keys = keys
        self._learnt = learnt
        self._compressor = zstd.ZstdCompressor(level=ZSTD_LEVEL)
        self._with: tuple[zstd.ZstdDict, zstd.ZstdCompressor] | None = None
        self._compressing = threading.Lock()

    def pack(self, octets: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
        """(kind, stored octets)"""
        size = len(octets)
        if size < COMPRESSED_OCTETS_MIN:
            return RAW, bytes(octets)
        with self._compressing:
            kind, compressor = ZSTD, self._compressor
            if self._learnt and size <= DICTIONARY_OCTETS_MAX:
                dictionary = self.dictionaries.newest()
                if dictionary is not None:
                    kind, compressor = DICTIONARY, self._compressor_with(dictionary)
            stored = compressor.compress(octets, compressor.FLUSH_FRAME)
        return (kind, stored) if len(stored) < size else (RAW, bytes(octets))

    def _compressor_with(self, dictionary: zstd.ZstdDict) -> zstd.ZstdCompressor:
        if self._with is None or self._with[0] is not dictionary:
            self._with = dictionary, zstd.ZstdCompressor(level=LEVEL, zstd_dict=dictionary)
        return self._with[1]

    def seal(
        self, octets: bytes | bytearray | memoryview, cipher: Cipher
    ) -> tuple[bytes, bytes, bytes]:
        """(kind, stored octets, SHA-256 of them)"""
        kind, stored = self.pack(octets)
        sealed = cipher.seal_record(kind + stored)
        return SEALED, sealed, hashlib.sha256(sealed).digest()

    def unpack(self, kind: bytes, stored: memoryview | bytes, size: int) -> bytes:
        """Raises: Damaged, OSError, NoKey, Unavailable."""
        if kind == SEALED:
            if self.keys is None:
                raise NoKey("it is sealed, and there is no key")
            opened = self.keys.open_record(stored)
            kind, stored = opened[:4], memoryview(opened)[4:]
        try:
            if kind == RAW:
                octets = bytes(stored)
            elif kind == ZSTD:
                octets = zstd.ZstdDecompressor().decompress(stored, max_length=size + 1)
            elif kind == DICTIONARY:
                dictionary = self.dictionaries.find(zstd.get_frame_info(stored).dictionary_id)
                octets = zstd.ZstdDecompressor(dictionary).decompress(stored, max_length=size + 1)
            else:
                raise Damaged(f"nothing is known of records {kind!r}")
        except zstd.ZstdError as error:
            raise Damaged(str(error)) from error
        if len(octets) != size:
            raise Damaged("its record unpacks to another length")
        return octets
