"""Which session was the first to be told of a message: there it is \\Recent, and nowhere else.

The mailbox's own mark is moved when a session opens it, and when one leaves. What arrives while
sessions have it open belongs to the one that is told first. That is remembered here and costs no
commit: in the process, or, where several workers serve, in a file that all of them map.
Source: RFC 3501 §2.3.2.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary

from postroad.mail.errors import Unavailable
from postroad.store.contract import Store

Key: TypeAlias = tuple[int, int, int]
"""account, mailbox, UIDVALIDITY: no later mailbox has it."""

MAILBOXES_MAX = 10_000
"""Some 200 octets each. Of a mailbox that falls out, two sessions may see a message as new."""
SLOTS = 1 << 16
"""Of the file, which is 1.5 MB, mostly holes. Two mailboxes of one slot push each other out."""
_SLOT = struct.Struct("<QIIQ")


class Marks(Protocol):
    def told(self, key: Key) -> int: ...
    def claim(self, key: Key, last: int) -> int: ...


class OwnMarks:
    """For the sessions of one process."""

    def __init__(self) -> None:
        self._last: OrderedDict[Key, int] = OrderedDict()

    def told(self, key: Key) -> int:
        return self._last.get(key, 0)

    def claim(self, key: Key, last: int) -> int:
        before = self._last.get(key, 0)
        self._last[key] = max(before, last)
        self._last.move_to_end(key)
        if len(self._last) > MAILBOXES_MAX:
            self._last.popitem(last=False)
        return before


class SharedMarks:
    """For all processes that map the same file; each slot is read and written under its lock."""

    def __init__(self, path: Path) -> None:
        """Raises: Unavailable."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._fd, SLOTS * _SLOT.size)
            self._slots = mmap.mmap(self._fd, SLOTS * _SLOT.size)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error

    def told(self, key: Key) -> int:
        return self._look(key, 0)

    def claim(self, key: Key, last: int) -> int:
        return self._look(key, last)

    def _look(self, key: Key, last: int) -> int:
        """The mark before; `last` is the new one where it is higher."""
        at = hash(key) % SLOTS * _SLOT.size  # of numbers: the same in every process
        fcntl.lockf(self._fd, fcntl.LOCK_EX, _SLOT.size, at)
        try:
            *known, uid = _SLOT.unpack_from(self._slots, at)
            before: int = uid if tuple(known) == key else 0
            if last > before:
                _SLOT.pack_into(self._slots, at, *key, last)
            return before
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, _SLOT.size, at)


_marks: WeakKeyDictionary[Store, Marks] = WeakKeyDictionary()


def share(store: Store, path: Path) -> None:
    """From now on the marks of this store are those of all processes that name the same file.

    Raises: Unavailable.
    """
    _marks[store] = SharedMarks(path)


def _of(store: Store) -> Marks:
    marks = _marks.get(store)
    if marks is None:
        marks = _marks[store] = OwnMarks()
    return marks


def told(store: Store, key: Key) -> int:
    """The highest UID that a session was told of as \\Recent; 0: none."""
    return _of(store).told(key)


def claim(store: Store, key: Key, last: int) -> int:
    """A session is told of all up to this UID; what others were told of before stays theirs: up to
    the UID that is returned."""
    return _of(store).claim(key, last)
