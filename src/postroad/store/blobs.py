"""Octets of messages: compressed records in packs, greater ones in files of their own.

Knows neither messages nor accounts. Every process has one `BlobStore`: it appends to its own
pack, and reads all. What comes from disk is checked before anybody sees it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import threading
from collections import OrderedDict
from pathlib import Path

from postroad.database.packs import (
    RAW,
    ZSTD,
    Damaged,
    FileRef,
    PackRef,
    check_record,
    file_path,
    pack_path,
    parse_ref,
)
from postroad.mail.errors import Unavailable
from postroad.store.appending import PackAppender
from postroad.store.drafts import BlobDraft
from postroad.store.values import BlobRef

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_LEVEL = 1
"""4 KB in 13 us to half its size; level 3 takes twice the time for 3 % less."""
COMPRESSED_OCTETS_MIN = 128
OPEN_PACKS_MAX = 64


class BlobStore:
    """Implements `store.contract.Blobs`. Safe to use from several threads."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._appender = PackAppender(data_dir)
        self._compressor = zstd.ZstdCompressor(level=ZSTD_LEVEL)
        self._compressing = threading.Lock()
        self._packs: OrderedDict[int, int] = OrderedDict()
        self._packs_mutex = threading.Lock()
        self._last: tuple[BlobRef, bytes] = ("", b"")
        self._temporary = itertools.count()

    @classmethod
    def open(cls, data_dir: Path) -> BlobStore:
        """Creates the directories that are missing. Raises: Unavailable."""
        try:
            for name in ("packs", "files", "tmp"):
                (data_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"blobs in {data_dir}: {error}") from error
        return cls(data_dir)

    def temporary_path(self) -> Path:
        return self.data_dir / "tmp" / f"{os.getpid()}-{id(self):x}-{next(self._temporary)}"

    def draft(self) -> BlobDraft:
        return BlobDraft(self)

    def append(self, octets: bytes | bytearray | memoryview) -> BlobRef:
        """A record in this process's pack. Raises: Unavailable."""
        size = len(octets)
        sha256 = hashlib.sha256(octets).digest()
        kind, stored = RAW, bytes(octets)
        if size >= COMPRESSED_OCTETS_MIN:
            with self._compressing:
                compressed = self._compressor.compress(octets, self._compressor.FLUSH_FRAME)
            if len(compressed) < size:
                kind, stored = ZSTD, compressed
        return str(self._appender.append(kind, stored, size, sha256))

    # -- reading ------------------------------------------------------------------------------

    def read(self, blob: BlobRef) -> bytes:
        known, octets = self._last
        if known == blob:
            return octets
        try:
            ref = parse_ref(blob)
            if isinstance(ref, FileRef):
                return self._read_file(ref)
            octets, _ = self.read_with_checksum(ref)
        except (Damaged, OSError) as error:
            raise Unavailable(f"blob {blob}: {error}") from error
        self._last = (blob, octets)
        return octets

    def read_range(self, blob: BlobRef, start: int, stop: int) -> bytes:
        if blob[:1] == "p":
            return self.read(blob)[start:stop]
        try:
            ref = parse_ref(blob)
            assert isinstance(ref, FileRef)
            stop = min(stop, ref.size)
            with file_path(self.data_dir, ref.name).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != ref.size:
                    raise Damaged(f"blob {blob}: its file has another length")
                return _pread(file.fileno(), max(stop - start, 0), start)
        except (Damaged, OSError) as error:
            raise Unavailable(f"blob {blob}: {error}") from error

    def _read_file(self, ref: FileRef) -> bytes:
        with file_path(self.data_dir, ref.name).open("rb", buffering=0) as file:
            octets = _pread(file.fileno(), ref.size + 1, 0)
        if len(octets) != ref.size or hashlib.sha256(octets).hexdigest() != ref.name[:64]:
            raise Damaged("its octets have changed")
        return octets

    def read_with_checksum(self, ref: PackRef) -> tuple[bytes, bytes]:
        """The octets of a record and the SHA-256 it was written with. Raises: Damaged, OSError."""
        record = _pread(self._pack(ref.pack), ref.stored, ref.offset)
        kind, stored, sha256 = check_record(record, ref)
        if kind == RAW:
            return bytes(stored), sha256
        try:
            octets = zstd.decompress(stored)
        except zstd.ZstdError as error:
            raise Damaged(str(error)) from error
        if len(octets) != ref.size:
            raise Damaged("its record unpacks to another length")
        return octets, sha256

    def _pack(self, pack: int) -> int:
        """A descriptor of the pack; the least used are closed."""
        with self._packs_mutex:
            fd = self._packs.get(pack)
            if fd is None:
                fd = os.open(pack_path(self.data_dir, pack), os.O_RDONLY | os.O_CLOEXEC)
                self._packs[pack] = fd
                if len(self._packs) > OPEN_PACKS_MAX:
                    os.close(self._packs.popitem(last=False)[1])
            else:
                self._packs.move_to_end(pack)
            return fd

    def close(self) -> None:
        self._appender.close()
        with self._packs_mutex:
            while self._packs:
                os.close(self._packs.popitem()[1])


def _pread(fd: int, count: int, offset: int) -> bytes:
    """Up to `count` octets: fewer only at the end of the file."""
    octets = os.pread(fd, count, offset)
    if len(octets) == count or not octets:
        return octets
    parts = [octets]
    got = len(octets)
    while got < count and (more := os.pread(fd, count - got, offset + got)):
        parts.append(more)
        got += len(more)
    return b"".join(parts)
