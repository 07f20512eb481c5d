"""What was worked out about sets of messages that never change: their order, their threads.

A UID of a mailbox stands for one message for ever, and a message for one content; so what a set of
UIDs was once answered stays right. Only what is made of UIDs, contents, arrival and size may be
kept here: nothing that flags or other messages have a say in. Least recently used goes first.
Each process has its own. Safe to use from several threads.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from threading import Lock

OCTETS_MAX = 16 << 20
"""Of one process: the order of four million messages."""
_ENTRY_OCTETS = 400
"""What an entry takes beside its octets."""


class Remembered:
    """Octets by key. A set of UIDs is known by its hash, which nobody can make two sets share."""

    def __init__(self, octets_max: int = OCTETS_MAX) -> None:
        self._octets_max = octets_max
        self._octets = 0
        self._kept: OrderedDict[tuple[Hashable, bytes], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[Hashable, bytes]) -> bytes | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: tuple[Hashable, bytes], octets: bytes) -> None:
        size = len(octets) + _ENTRY_OCTETS
        if size > self._octets_max // 4:
            return  # it would drive out what others use
        with self._lock:
            before = self._kept.pop(key, None)
            if before is not None:
                self._octets -= len(before) + _ENTRY_OCTETS
            self._kept[key] = octets
            self._octets += size
            while self._octets > self._octets_max:
                _, gone = self._kept.popitem(last=False)
                self._octets -= len(gone) + _ENTRY_OCTETS


def set_key(what: Hashable, uids: Sequence[int]) -> tuple[Hashable, bytes]:
    """what: the mailbox, and what is asked of the set."""
    return what, blake2b(array("I", uids).tobytes(), digest_size=20).digest()
