"""What a client was last told of the mailboxes that it watches: a few numbers each, in columns.

Knows no session. Some 70 octets for each mailbox: account ids are too wide to share 64 bits with
a mailbox's number.
Source: RFC 5465 §5.1-5.3.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from postroad.store.values import Mailbox

_MAILBOX_BITS = 32


def key_of(account: int, mailbox: int) -> int:
    return account << _MAILBOX_BITS | mailbox


def account_of(key: int) -> int:
    return key >> _MAILBOX_BITS


def mailbox_of(key: int) -> int:
    return key & (1 << _MAILBOX_BITS) - 1


@dataclass(frozen=True, slots=True)
class Difference:
    """counted: messages came or went. unseen: so many others are unseen. changed: anything."""

    counted: bool
    unseen: bool
    changed: bool


class Counters:
    __slots__ = ("_keys", "_messages", "_modseqs", "_uidnexts", "_unseens")

    def __init__(self, keys: Iterable[int] = ()) -> None:
        """Of each mailbox nothing is known: whatever it holds is new."""
        self._keys = sorted(keys)
        count = len(self._keys)
        self._uidnexts = array("I", [1]) * count
        self._messages = array("I", [0]) * count
        self._unseens = array("I", [0]) * count
        self._modseqs = array("Q", [0]) * count

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __contains__(self, key: int) -> bool:
        at = bisect_left(self._keys, key)
        return at < len(self._keys) and self._keys[at] == key

    def update(self, mailbox: Mailbox) -> Difference:
        """Keeps what it holds now; says what differs from before."""
        at = self._at(mailbox)
        before = (self._uidnexts[at], self._messages[at])
        difference = Difference(
            before != (mailbox.uidnext, mailbox.messages),
            self._unseens[at] != mailbox.unseen,
            self._modseqs[at] != mailbox.highestmodseq,
        )
        self._uidnexts[at] = mailbox.uidnext
        self._messages[at] = mailbox.messages
        self._unseens[at] = mailbox.unseen
        self._modseqs[at] = mailbox.highestmodseq
        return difference

    def added(self, mailbox: Mailbox, count: int, uidnext: int) -> None:
        """The client itself added messages: no news, unless others did something too."""
        at = self._at(mailbox)
        if (mailbox.uidnext, mailbox.messages) == (uidnext, self._messages[at] + count):
            self.update(mailbox)

    def take_over(self, before: Counters) -> None:
        """What was known before of mailboxes that are in both."""
        for old, key in enumerate(before._keys):
            at = bisect_left(self._keys, key)
            if at < len(self._keys) and self._keys[at] == key:
                self._uidnexts[at] = before._uidnexts[old]
                self._messages[at] = before._messages[old]
                self._unseens[at] = before._unseens[old]
                self._modseqs[at] = before._modseqs[old]

    def _at(self, mailbox: Mailbox) -> int:
        return bisect_left(self._keys, key_of(mailbox.account, mailbox.mailbox))
