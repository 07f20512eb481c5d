"""Every change to the search index, as operations for the one writer.

Blocks come packed and, where they must be, sealed: the writer only puts them down.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from postroad.database.contract import Notice, Operation, Topic, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.store.search.blocks import Section


class Advance(msgspec.Struct, frozen=True, array_like=True):
    """Messages of the mailbox above `since` and up to `uid` have been looked at."""

    mailbox: int
    since: int
    uid: int


class WriteBlock(Operation[None], frozen=True, kw_only=True):
    """Puts a block in the place of others, and notes how far each mailbox was looked at.

    sections {}: there is no block, only what was looked at and what goes. Refuses with CONFLICT
    when somebody else went on from the same place, and with NONEXISTENT when a block it replaces
    is gone: whoever builds begins anew from what is there.
    """

    account: int
    sections: dict[int, bytes] = {}
    sealed: bool = False
    """Whether the sections are; refused with CONFLICT when they should not, or should be."""
    replaces: list[int] = []
    advances: list[Advance] = []

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        if tx.first("SELECT 1 FROM account WHERE account = ?", (self.account,)) is None:
            raise StateError(Fault.NONEXISTENT, f"account {self.account} does not exist")
        for advance in self.advances:
            self._advance(tx, advance)
        for block in self.replaces:
            self._remove(tx, block)
        if self.sections:
            key = tx.first("SELECT sealed FROM account_key WHERE account = ?", (self.account,))
            if (key is not None and bool(key[0])) is not self.sealed:
                raise StateError(Fault.CONFLICT, f"account {self.account} was sealed or opened")
            number = _next_number(tx, self.account)
            for section, octets in self.sections.items():
                tx.execute(
                    "INSERT INTO search_block VALUES (?, ?, ?, ?)",
                    (self.account, section, number, octets),
                )

    def _advance(self, tx: Transaction, advance: Advance) -> None:
        key = (self.account, advance.mailbox)
        row = tx.first("SELECT uid FROM search_mark WHERE account = ? AND mailbox = ?", key)
        if (0 if row is None else row[0]) != advance.since:
            raise StateError(Fault.CONFLICT, f"mailbox {advance.mailbox} was indexed by another")
        there = tx.first("SELECT 1 FROM mailbox WHERE account = ? AND mailbox = ?", key)
        if there is not None:
            tx.execute(
                "INSERT INTO search_mark VALUES (?, ?, ?)"
                " ON CONFLICT (account, mailbox) DO UPDATE SET uid = excluded.uid",
                (*key, advance.uid),
            )

    def _remove(self, tx: Transaction, block: int) -> None:
        removed = 0
        for section in Section:
            tx.execute(
                "DELETE FROM search_block WHERE account = ? AND section = ? AND block = ?",
                (self.account, int(section), block),
            )
            removed += tx.changes()
        if not removed:
            raise StateError(Fault.NONEXISTENT, f"block {block} is not there any more")


def _next_number(tx: Transaction, account: int) -> int:
    """A number that no block of the account ever had."""
    tx.execute(
        "INSERT INTO search_account VALUES (?, 1)"
        " ON CONFLICT (account) DO UPDATE SET block = search_account.block + 1",
        (account,),
    )
    row = tx.first("SELECT block FROM search_account WHERE account = ?", (account,))
    assert row is not None
    return int(row[0])


def forget_index(tx: Transaction, account: int) -> None:
    """All of an account's index at once. It is built anew, unless nobody builds."""
    tx.execute("DELETE FROM search_mark WHERE account = ?", (account,))
    tx.execute("DELETE FROM search_block WHERE account = ?", (account,))
    tx.notify(Notice(Topic.SEARCH, account))


class DropIndex(Operation[bool], frozen=True, kw_only=True):
    """Removes what is indexed of an account, some blocks at a time; True when there is no more.

    Where its messages were looked at is forgotten first, so that what is built meanwhile by
    somebody who knew the old places is refused.
    """

    Result: ClassVar[type] = bool
    account: int
    rows: int = 64

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> bool:
        tx.execute("DELETE FROM search_mark WHERE account = ?", (self.account,))
        tx.execute(
            "DELETE FROM search_block WHERE account = ?1 AND (section, block) IN"
            " (SELECT section, block FROM search_block WHERE account = ?1 LIMIT ?2)",
            (self.account, self.rows),
        )
        return tx.changes() < self.rows


class AskForIndex(Operation[None], frozen=True, kw_only=True):
    """Tells whoever builds that somebody searches this account: it comes first."""

    account: int

    def apply(self, tx: Transaction) -> None:
        tx.notify(Notice(Topic.SEARCH, self.account))


__all__ = ["Advance", "AskForIndex", "DropIndex", "WriteBlock", "forget_index"]
