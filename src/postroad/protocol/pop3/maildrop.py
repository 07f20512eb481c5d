"""The maildrop of one session: numbers, sizes, unique ids, and the marks of DELE.

A snapshot taken at login; numbers never change (RFC 1939 §4). Sixteen octets a message.
Source: RFC 1939 §5, §6 (marks are undone by RSET and by an end without QUIT), §7 (UIDL).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from postroad.mail.uidset import UIDSet


class Maildrop:
    """uids: ascending; sizes: of each, in octets. Numbers are from 1."""

    def __init__(self, uidvalidity: int, uids: array[int], sizes: array[int]) -> None:
        assert len(uids) == len(sizes)
        self._uidvalidity = uidvalidity
        self._uids = uids
        self._sizes = sizes
        self._total = sum(sizes)
        self._deleted: set[int] = set()

    @property
    def count(self) -> int:
        """Without those marked."""
        return len(self._uids) - len(self._deleted)

    @property
    def last(self) -> int:
        """The highest number, marked or not."""
        return len(self._uids)

    @property
    def size(self) -> int:
        """Octets, without those marked."""
        return self._total - sum(self._sizes[number - 1] for number in self._deleted)

    @property
    def marked(self) -> UIDSet:
        return UIDSet.of(self._uids[number - 1] for number in self._deleted)

    def fault(self, number: int) -> str | None:
        """Why there is no such message, or None."""
        if number > len(self._uids):
            return f"no such message, there are {len(self._uids)}"
        if number in self._deleted:
            return f"message {number} is marked for deletion"
        return None

    def uid(self, number: int) -> int:
        return self._uids[number - 1]

    def octets(self, number: int) -> int:
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> str:
        """RFC 1939 §7: 1 to 70 visible characters, never given to another message."""
        return f"{self._uidvalidity}.{self._uids[number - 1]}"

    def mark(self, number: int) -> None:
        self._deleted.add(number)

    def unmark_all(self) -> None:
        self._deleted.clear()

    def numbers(self) -> Iterator[int]:
        deleted = self._deleted
        return (n for n in range(1, len(self._uids) + 1) if n not in deleted)

    def scan_listing(self) -> Iterator[bytes]:
        return (b"%d %d" % (number, self._sizes[number - 1]) for number in self.numbers())

    def unique_id_listing(self) -> Iterator[bytes]:
        head = b"%d." % self._uidvalidity
        return (b"%d %b%d" % (number, head, self._uids[number - 1]) for number in self.numbers())
