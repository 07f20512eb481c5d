"""Flags as FETCH tells them, \\Recent included; each combination is rendered once.

Source: RFC 3501 §2.3.2, §7.4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.store.values import MessageRow

_PLAIN = tuple(render.flags(bits) for bits in range(32))
_PLAIN_RECENT = tuple(render.flags(bits, recent=True) for bits in range(32))


class FlagRenderer:
    """first_recent, theirs: UIDs from the first on are \\Recent, apart from these."""

    __slots__ = ("_known", "first_recent", "theirs")

    def __init__(self, first_recent: int, theirs: UIDSet) -> None:
        self.first_recent = first_recent
        self.theirs = theirs
        self._known: dict[tuple[int, tuple[bytes, ...], bool], bytes] = {}

    def __call__(self, row: MessageRow) -> bytes:
        recent = self.is_recent(row.uid)
        if not row.keywords:
            return (_PLAIN_RECENT if recent else _PLAIN)[row.flags]
        return self.worded(int(row.flags), row.keywords, recent)

    def is_recent(self, uid: int) -> bool:
        return uid >= self.first_recent and uid not in self.theirs

    def is_mixed(self, low: int, high: int) -> bool:
        """Whether some UIDs of a range may be recent, and others not."""
        return low < self.first_recent <= high or (bool(self.theirs) and high >= self.first_recent)

    def worded(self, flags: int, keywords: tuple[bytes, ...], recent: bool) -> bytes:
        key = (flags, keywords, recent)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = render.flags(*key)
        return found

    def table(self, recent: bool) -> tuple[bytes, ...]:
        """By the bits of the system flags, for messages without keywords."""
        return _PLAIN_RECENT if recent else _PLAIN

    def column(self, rows: Sequence[MessageRow]) -> list[bytes]:
        """The same for many ascending rows, most of which have no keywords."""
        if not rows or self.is_mixed(rows[0].uid, rows[-1].uid):
            return [self(row) for row in rows]
        plain = _PLAIN_RECENT if rows[0].uid >= self.first_recent else _PLAIN
        return [self(row) if row.keywords else plain[row.flags] for row in rows]
