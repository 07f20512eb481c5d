"""Which session was the first to be told of a message: there it is \\Recent, and nowhere else.

The mailbox's own mark is moved when a session opens it, and when one leaves. What arrives while
sessions have it open belongs to the one that is told first; that is remembered here, for the
sessions of this process, and costs no write.
Source: RFC 3501 §2.3.2.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

from postroad.store.contract import Store

MAILBOXES_MAX = 10_000
"""Some 200 octets each. Of a mailbox that falls out, two sessions may see a message as new."""

_told: WeakKeyDictionary[Store, OrderedDict[tuple[int, int], int]] = WeakKeyDictionary()


def told(store: Store, account: int, mailbox: int) -> int:
    """The highest UID that a session here was told of as \\Recent; 0: none."""
    known = _told.get(store)
    return 0 if known is None else known.get((account, mailbox), 0)


def claim(store: Store, account: int, mailbox: int, last: int) -> None:
    """A session is told of all up to this UID; what others were told of before stays theirs."""
    known = _told.setdefault(store, OrderedDict())
    key = (account, mailbox)
    known[key] = max(known.get(key, 0), last)
    known.move_to_end(key)
    if len(known) > MAILBOXES_MAX:
        known.popitem(last=False)
