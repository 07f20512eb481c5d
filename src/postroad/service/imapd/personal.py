"""\\Seen of one's own in another's mailbox: messages are shown as this reader has seen them.

Source: RFC 4314 §5.2 (\\Seen need not be a shared flag), RFC 3501 §2.3.2.
"""

from __future__ import annotations

from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.service.imapd.view import View
from postroad.store.contract import Store
from postroad.store.selected import Digest
from postroad.store.values import MessageRow

_SEEN = int(Flag.SEEN)


def as_read(store: Store, view: View, rows: list[MessageRow]) -> list[MessageRow]:
    """Ascending rows with the \\Seen that counts for the view's reader."""
    if not view.reader or not rows:
        return rows
    seen = _seen(store, view, rows[0].uid, rows[-1].uid)
    for row in rows:
        row.flags = (row.flags & ~Flag.SEEN) | (Flag.SEEN if row.uid in seen else Flag(0))
    return rows


def digest_as_read(store: Store, view: View, digest: Digest) -> Digest:
    """The same for messages by columns."""
    if not view.reader or not digest.packed:
        return digest
    seen = _seen(store, view, digest.packed[0] >> 6, digest.packed[-1] >> 6)
    packed = [value | _SEEN if value >> 6 in seen else value & ~_SEEN for value in digest.packed]
    return Digest(packed, digest.modseqs, digest.words)


def _seen(store: Store, view: View, low: int, high: int) -> UIDSet:
    return store.seen(view.account, view.mailbox, view.reader, UIDSet(((low, high),)))
