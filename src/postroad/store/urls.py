"""Keys of IMAP URLs: one for each user and mailbox, with which tokens are made.

A key is secret and random, and comes from the caller. It goes with the mailbox, with its owner, and
with the user whose key it is.
Source: RFC 4467 §2.2, §7 (RESETKEY).
"""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Database, Notice, Operation, Topic, Transaction
from postroad.store.tree import no_mailbox

KEY_BITS = 256
"""RFC 4467 §2.2 wants 128."""


class KeepURLKey(Operation[bytes], frozen=True, kw_only=True):
    """Gives the user `reader` a key for a mailbox of `account`; returns the one there is then.

    anew: a key that is there is replaced, and all URLs made with it are void.
    """

    Result: ClassVar[type] = bytes
    account: int
    mailbox: int
    reader: int
    key: bytes
    anew: bool = False

    def apply(self, tx: Transaction) -> bytes:
        where = (self.account, self.mailbox)
        if tx.first("SELECT 1 FROM mailbox WHERE account = ? AND mailbox = ?", where) is None:
            raise no_mailbox(self.mailbox)
        verb = "UPDATE SET key = excluded.key" if self.anew else "NOTHING"
        tx.execute(
            "INSERT INTO url_key (account, mailbox, reader, key) VALUES (?, ?, ?, ?)"
            f" ON CONFLICT (account, mailbox, reader) DO {verb}",
            (*where, self.reader, self.key),
        )
        row = tx.first(
            "SELECT key FROM url_key WHERE account = ? AND mailbox = ? AND reader = ?",
            (*where, self.reader),
        )
        assert row is not None, "it was written just now"
        if self.anew:
            tx.notify(Notice(Topic.URL_KEYS, *where, subject=str(self.reader)))
        return bytes(row[0])


class ForgetURLKeys(Operation[None], frozen=True, kw_only=True):
    """Removes all keys of a user, and so makes all his URLs void."""

    reader: int

    def apply(self, tx: Transaction) -> None:
        tx.execute("DELETE FROM url_key WHERE reader = ?", (self.reader,))


def url_key(database: Database, account: int, mailbox: int, reader: int) -> bytes | None:
    row = database.first(
        "SELECT key FROM url_key WHERE account = ? AND mailbox = ? AND reader = ?",
        (account, mailbox, reader),
    )
    return None if row is None else bytes(row[0])
