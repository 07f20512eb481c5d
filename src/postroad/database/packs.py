"""Where octets are on disk: the reference to a blob, the record in a pack, the check of it.

A blob of up to 256 KiB is a record in an append-only pack, `packs/NNNNNNNN.pack`; a greater one is
a file of its own, `files/ab/<sha256>-<n>`. A record is a header of 48 octets (kind, CRC-32 of all
that follows, lengths, SHA-256 of the octets) and the stored octets. Records are found by
reference only; what no row names is garbage, a torn tail included.
Knows layout and checksums, neither compression nor what a blob is for (`store.blobs`).
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

HEADER = struct.Struct("<4sIII32s")
"""kind, CRC-32 of kind and all that follows, octets stored, octets, SHA-256.

In records of 0.1 the CRC does not cover the kind, which is RAW or ZSTD there.
"""
RAW = b"PRr1"
ZSTD = b"PRz1"
DICTIONARY = b"PRd1"
"""zstd with a dictionary of this server's, which the frame names."""
SEALED = b"PRs1"
"""Octets of one account, sealed with its key; SHA-256 is of the stored octets, not of what they
hold: nobody without the key may compare."""
_FIRST_KINDS = frozenset((RAW, ZSTD))
"""Those of 0.1. One taken for the other is found out by its lengths, or cannot be unpacked."""
KINDS = frozenset((RAW, ZSTD, DICTIONARY, SEALED))
RECORD_OCTETS_MAX = 1 << 20
"""No record is longer: the bound of a blob in a pack is 256 KiB."""


class Damaged(Exception):
    """Octets on disk are not what was written. The text names the blob and the fault."""


class PackRef(msgspec.Struct, frozen=True):
    """`p<pack>:<offset>:<octets on disk, header included>:<octets>`."""

    pack: int
    offset: int
    stored: int
    size: int

    def __str__(self) -> str:
        return f"p{self.pack}:{self.offset}:{self.stored}:{self.size}"


@dataclass(frozen=True, slots=True)
class FileRef:
    """`f<sha256 hex>-<n>:<octets of the file>`, or `-<n>.sealed` for a sealed one."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"f{self.name}:{self.size}"


def parse_ref(blob: str) -> PackRef | FileRef:
    """Raises: Damaged for a text that no reference has."""
    try:
        if blob[:1] == "p":
            pack, offset, stored, size = blob[1:].split(":")
            return PackRef(int(pack), int(offset), int(stored), int(size))
        if blob[:1] == "f":
            name, octets = blob[1:].split(":")
            number = name[65:].removesuffix(".sealed")
            if name[:64].isalnum() and name[64:65] == "-" and number.isdigit():
                return FileRef(name, int(octets))
    except ValueError:
        pass
    raise Damaged(f"{blob!r} is not a reference to a blob")


def pack_path(data_dir: Path, pack: int) -> Path:
    return data_dir / "packs" / f"{pack:08d}.pack"


def file_path(data_dir: Path, name: str) -> Path:
    return data_dir / "files" / name[:2] / name


def render_header(kind: bytes, stored: bytes | memoryview, size: int, sha256: bytes) -> bytes:
    """The header of a record that holds `stored`."""
    tail = HEADER.pack(kind, 0, len(stored), size, sha256)[8:]
    crc = zlib.crc32(stored, zlib.crc32(tail, zlib.crc32(kind)))
    return HEADER.pack(kind, crc, len(stored), size, sha256)


def check_record(record: bytes | memoryview, ref: PackRef) -> tuple[bytes, memoryview, bytes]:
    """(kind, stored octets, SHA-256) of a whole record. Raises: Damaged."""
    view = memoryview(record)
    if len(view) != ref.stored or len(view) < HEADER.size:
        raise Damaged(f"blob {ref}: {len(view)} octets of {ref.stored} are there")
    kind, crc, stored, size, sha256 = HEADER.unpack_from(view)
    if kind not in KINDS or stored + HEADER.size != ref.stored or size != ref.size:
        raise Damaged(f"blob {ref}: there is no record of this length here")
    if zlib.crc32(view[8:], zlib.crc32(kind)) != crc and not (
        kind in _FIRST_KINDS and zlib.crc32(view[8:]) == crc
    ):
        raise Damaged(f"blob {ref}: checksum differs")
    if kind == RAW and stored != size:
        raise Damaged(f"blob {ref}: its record is of another kind")
    return kind, view[HEADER.size :], sha256


def check_blob(data_dir: Path, blob: str) -> None:
    """Whether the blob is wholly there: a record by its checksum, a file by its length.

    Raises: Damaged, OSError.
    """
    ref = parse_ref(blob)
    try:
        if isinstance(ref, FileRef):
            found = file_path(data_dir, ref.name).stat().st_size
            if found != ref.size:
                raise Damaged(f"blob {blob}: {found} octets of {ref.size} are there")
            return
        with pack_path(data_dir, ref.pack).open("rb") as pack:
            check_record(os.pread(pack.fileno(), ref.stored, ref.offset), ref)
    except FileNotFoundError as error:
        raise Damaged(f"blob {blob}: its file is missing") from error


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
