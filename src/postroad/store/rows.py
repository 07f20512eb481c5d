"""Rows of the message table as values."""

from __future__ import annotations

from postroad.mail.flags import Flag
from postroad.store import keywords as words
from postroad.store.values import MessageRow

_FLAGS = tuple(Flag(bits) for bits in range(32))

COLUMNS = ("uid", "modseq", "flags", "keywords", "internal_date", "size", "heap", "saved")


def message_row(
    uid: int,
    modseq: int,
    flags: int,
    packed: bytes,
    date: int,
    size: int,
    heap: int,
    saved: int,
    *rest: object,
) -> MessageRow:
    """From COLUMNS, and those of the content heap in the order of `MessageRow`'s fields."""
    keywords = words.unpack(packed) if packed else ()
    return MessageRow(uid, modseq, _FLAGS[flags], keywords, date, size, heap, saved, *rest)  # type: ignore[arg-type]  # the columns, in order
