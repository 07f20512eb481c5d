"""Up to which content everything was answered: kept outside the database, to know what it lacks.

A write-ahead log that was cut off, or an older database put in the place of a newer one, look
whole to SQLite: the last commits are simply not there. So the number of the newest content that
was answered stands in a small file of its own. It is memory of the kernel, written by no system
call and synced never: a crash of ours keeps it, and after a power failure it may say less than the
truth, which accuses nobody.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

NAME = "acknowledged"
MISSING_NAME = "acknowledged.missing"
"""What a start found to be missing, until a repair has looked at it."""
_NUMBER = struct.Struct(">Q")


class Acknowledged:
    """One in the process that writes. Raises: OSError on opening only."""

    def __init__(self, data_dir: Path) -> None:
        fd = os.open(data_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _NUMBER.size)
            self._map = mmap.mmap(fd, _NUMBER.size)
        finally:
            os.close(fd)

    def write(self, content: int) -> None:
        _NUMBER.pack_into(self._map, 0, content)

    def close(self) -> None:
        self._map.close()


def _read(path: Path) -> int:
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        return 0
    return int(_NUMBER.unpack(octets)[0]) if len(octets) == _NUMBER.size else 0


def missing(data_dir: Path, newest: int) -> tuple[int, int] | None:
    """(first, last) content that was answered and that a database which ends at `newest` lacks."""
    noted = data_dir / MISSING_NAME
    if noted.exists():
        try:
            first, last = map(int, noted.read_text("ascii").split())
        except ValueError:
            return newest + 1, newest + 1  # somebody wrote into it: say that something is missing
        return first, last
    last = _read(data_dir / NAME)
    return (newest + 1, last) if last > newest else None


def note_missing(data_dir: Path, first: int, last: int) -> None:
    """So that it is still known when new contents have taken the numbers."""
    path = data_dir / MISSING_NAME
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(f"{first} {last}\n", "ascii")
        part.rename(path)


def forget(data_dir: Path) -> None:
    """After a repair, or when an older database is put in place on purpose."""
    for name in (NAME, MISSING_NAME):
        (data_dir / name).unlink(missing_ok=True)
