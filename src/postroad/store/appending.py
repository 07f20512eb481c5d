"""Where this process puts new blobs: its own pack, or a file each past a bound.

A process appends to a pack that it alone has locked. A pack that another process left is taken
over when it is whole to its end; it is never cut: what looks like a torn tail might be mail
behind a rotten header, and octets that nothing names cost only space.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from pathlib import Path

from postroad.database.packs import (
    HEADER,
    KINDS,
    RECORD_OCTETS_MAX,
    FileRef,
    PackRef,
    file_path,
    pack_path,
    render_header,
    sync_directory,
)
from postroad.mail.errors import Unavailable

PACK_OCTETS_MAX = 256 << 20
"""Then a new pack: big enough to keep few files, small enough to rewrite one some day."""
COMPARED_OCTETS = 1 << 20
"""Of two big files at a time."""
PACK_REUSED_OCTETS_MAX = 32 << 20
"""A pack left by another process is walked before it is taken over: some 10 ms up to here."""


def is_whole(fd: int, size: int) -> bool:
    """Whether the file is records from its first octet to its last, by their headers."""
    if size == 0:
        return True
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as octets:
        at = 0
        while at + HEADER.size <= size:
            kind, _, stored, _, _ = HEADER.unpack_from(octets, at)
            if kind not in KINDS or stored > RECORD_OCTETS_MAX:
                return False
            at += HEADER.size + stored
    return at == size


class PackAppender:
    """Safe to use from several threads. `append` gives octets to the kernel, durable or not."""

    def __init__(self, data_dir: Path, *, reuse: bool = True) -> None:
        """reuse: whether a pack that another process left may be taken over."""
        self._data_dir = data_dir
        self._reuse = reuse
        self._mutex = threading.Lock()
        self._pack = 0
        self._fd = -1
        self._end = 0

    @property
    def pack(self) -> int:
        """The pack that is being added to, which nobody else touches; 0: none yet."""
        return self._pack if self._fd >= 0 else 0

    def append(self, kind: bytes, stored: bytes | memoryview, size: int, sha256: bytes) -> PackRef:
        """Raises: Unavailable; then nothing was added."""
        header = render_header(kind, stored, size, sha256)
        octets = len(header) + len(stored)
        with self._mutex:
            try:
                if self._fd < 0 or self._end + octets > PACK_OCTETS_MAX:
                    self._next()
                written = os.pwritev(self._fd, (header, stored), self._end)
                while written < octets:
                    rest = (header + bytes(stored))[written:]
                    written += os.pwrite(self._fd, rest, self._end + written)
            except OSError as error:
                self._undo()
                raise Unavailable(f"pack {self._pack}: {error}") from error
            ref = PackRef(self._pack, self._end, octets, size)
            self._end += octets
        return ref

    def _undo(self) -> None:
        """After a failed write: cuts what it left, or leaves the pack for a new one."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, self._end)
            except OSError:
                os.close(self._fd)
                self._fd = -1

    def _next(self) -> None:
        """Takes over a pack with room, or makes one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        folder = self._data_dir / "packs"
        numbers = sorted(
            (int(item.name[:8]) for item in folder.iterdir() if item.name.endswith(".pack")),
            reverse=True,
        )
        for number in numbers[:16] if self._reuse and self._pack == 0 else ():
            if self._take_over(number):
                return
        number = max(numbers, default=0)
        while True:
            number += 1
            path = pack_path(self._data_dir, number)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # somebody saw it first: a status that looks, or an appender
                os.close(fd)
        try:
            sync_directory(folder)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._pack, self._end = fd, number, 0

    def _take_over(self, number: int) -> bool:
        try:
            fd = os.open(pack_path(self._data_dir, number), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(fd).st_size
            usable = size <= PACK_REUSED_OCTETS_MAX and is_whole(fd, size)
        except OSError:
            usable = False
        if not usable:
            os.close(fd)
            return False
        self._fd, self._pack, self._end = fd, number, size
        return True

    def close(self) -> None:
        with self._mutex:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def keep_file(
    data_dir: Path, path: Path, fd: int, sha256: str, size: int, suffix: str = ""
) -> FileRef:
    """Gives the finished temporary file its name among the files; durable when it returns.

    Where the same octets are kept already, the new name leads to those, which are compared first.
    Raises: OSError.
    """
    number = 0
    synced = False
    source = path
    while True:
        name = f"{sha256}-{number}{suffix}"
        target = file_path(data_dir, name)
        try:
            target.parent.mkdir(mode=0o700)
            sync_directory(target.parent.parent)
        except FileExistsError:
            pass
        if target.exists():
            if source is path and _same_octets(fd, size, target):
                source = target
            number += 1
            continue
        if source is path and not synced:
            os.fdatasync(fd)
            synced = True
        try:
            _link(source, target)
            break
        except FileExistsError:
            number += 1
        except OSError:
            if source is path:
                raise
            source = path  # the twin went, or has as many names as the disk allows
    sync_directory(target.parent)
    path.unlink()
    return FileRef(name, size)


def _link(source: Path, target: Path) -> None:
    """A name that the sweep takes for new, whatever it leads to."""
    os.utime(source)
    target.hardlink_to(source)


def _same_octets(fd: int, size: int, other: Path) -> bool:
    """Whether a file that was named, and so is durable, holds what the new one does."""
    try:
        with other.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            at = 0
            while at < size:
                mine = os.pread(fd, COMPARED_OCTETS, at)
                if not mine or os.pread(file.fileno(), len(mine), at) != mine:
                    return False
                at += len(mine)
    except OSError:
        return False
    return True
