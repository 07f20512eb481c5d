"""Packs that are open for reading: a bounded number of descriptors, shared by all threads.

A descriptor is closed only when nobody reads with it: its number would be given to another file at
once, and a read under way would come from there.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from postroad.database.packs import pack_path

OPEN_PACKS_MAX = 64
AHEAD_OCTETS = 64 << 10
"""Read at once by who reads record after record: some thirty messages of 4 KB, compressed. A read
costs 2 us and more with its lock, whatever it reads, and gives other threads the interpreter."""


class _Pack:
    __slots__ = ("fd", "is_dropped", "readers")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.readers = 0
        self.is_dropped = False


class _Ahead(NamedTuple):
    """Octets that were read last, and where they begin."""

    pack: int
    start: int
    octets: bytes


_NOTHING = _Ahead(-1, 0, b"")


class OpenPacks:
    """Safe to use from several threads."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._mutex = threading.Lock()
        self._packs: OrderedDict[int, _Pack] = OrderedDict()
        self._ahead = _NOTHING

    def read(self, pack: int, count: int, offset: int) -> bytes:
        """Up to `count` octets: fewer only at the end of the file. Raises: OSError."""
        with self._mutex:
            found = self._packs.get(pack)
            if found is None:
                found = self._open(pack)
            else:
                self._packs.move_to_end(pack)
            found.readers += 1
        try:
            return read_at(found.fd, count, offset)
        finally:
            with self._mutex:
                found.readers -= 1
                if found.is_dropped and not found.readers:
                    os.close(found.fd)

    def read_ahead(self, pack: int, count: int, offset: int) -> bytes:
        """The same, for who may want what follows next: a read where the last one ended takes
        more than it was asked for, and the next ones find it here. It may be as old as the last
        read: what was put right in the file since then is seen after `let_go`."""
        ahead = self._ahead
        at = offset - ahead.start
        if pack == ahead.pack and 0 <= at <= len(ahead.octets):
            octets = ahead.octets[at : at + count]
            if len(octets) == count:
                return octets
            octets = self.read(pack, max(count, AHEAD_OCTETS), offset)
        else:
            octets = self.read(pack, count, offset)
        self._ahead = _Ahead(pack, offset, octets)
        return octets[:count]

    def _open(self, pack: int) -> _Pack:
        fd = os.open(pack_path(self._data_dir, pack), os.O_RDONLY | os.O_CLOEXEC)
        found = self._packs[pack] = _Pack(fd)
        # A pack that was compacted away takes its space until nobody has it open.
        for number, other in list(self._packs.items()):
            if os.fstat(other.fd).st_nlink == 0:
                self._drop(number)
        if len(self._packs) > OPEN_PACKS_MAX:
            self._drop(next(iter(self._packs)))
        return found

    def _drop(self, pack: int) -> None:
        found = self._packs.pop(pack)
        found.is_dropped = True
        if not found.readers:
            os.close(found.fd)

    def let_go(self, pack: int) -> None:
        """The next read opens the pack anew."""
        self._ahead = _NOTHING
        with self._mutex:
            if pack in self._packs:
                self._drop(pack)

    def close(self) -> None:
        self._ahead = _NOTHING
        with self._mutex:
            for pack in list(self._packs):
                self._drop(pack)


def read_at(fd: int, count: int, offset: int) -> bytes:
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
