"""What was expunged and can still be brought back: kept for a time, then forgotten.

A row of `removed` names its content as a row of `message` does, so nothing is copied or released
when a message is expunged; that is left to the sweep, in steps that others can come between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar

from postroad.database.contract import Database, Operation, Transaction
from postroad.store.tree import release_contents

FORGOTTEN_AT_ONCE = 500
"""Messages in one unit of work: some 10 ms, since each content is a row of 2 KB."""


class ForgetRemoved(Operation[int], frozen=True, kw_only=True):
    """Forgets for good the oldest of what the account removed before a moment.

    before: unix seconds. Returns how many messages went; 0: there is nothing left to do.
    """

    Result: ClassVar[type] = int
    account: int
    before: int
    count: int = FORGOTTEN_AT_ONCE

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> int:
        rows = list(
            tx.execute(
                "SELECT removed_at, mailbox, uid, size FROM removed WHERE account = ?"
                " AND removed_at < ? ORDER BY removed_at, mailbox, uid LIMIT ?",
                (self.account, self.before, self.count),
            )
        )
        if rows:
            _forget(tx, self.account, rows[-1][:3])
            tx.execute(
                "UPDATE counter SET removed_messages = removed_messages - ?,"
                " removed_octets = removed_octets - ? WHERE account = ?",
                (len(rows), sum(row[3] for row in rows), self.account),
            )
        if len(rows) < self.count:
            tx.execute(
                "DELETE FROM removed_mailbox WHERE account = ? AND removed_at < ?",
                (self.account, self.before),
            )
        return len(rows)


def _forget(tx: Transaction, account: int, last: tuple[int, int, int]) -> None:
    """All up to and with `last`, in the order of the key."""
    where = " FROM removed WHERE account = ? AND (removed_at, mailbox, uid) <= (?, ?, ?)"
    release_contents(tx, account, f"SELECT heap{where}", (account, *last))
    tx.execute(f"DELETE{where}", (account, *last))


def accounts_with_removed(database: Database, before: int) -> Iterator[int]:
    """Those that removed something before a moment, ascending; a read for each of them."""
    account = 0
    while True:
        row = database.first(
            "SELECT min(account) FROM (SELECT min(account) AS account FROM removed"
            " WHERE account > ?1 UNION ALL SELECT min(account) FROM removed_mailbox"
            " WHERE account > ?1)",
            (account,),
        )
        if row is None or row[0] is None:
            return
        account = int(row[0])
        due = database.first(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM removed WHERE account = ?1 AND removed_at < ?2)"
            " OR EXISTS (SELECT 1 FROM removed_mailbox WHERE account = ?1 AND removed_at < ?2)",
            (account, before),
        )
        if due is not None:
            yield account


async def forget_removed(database: Database, before: int, *, pause_s: float = 0.0) -> int:
    """All that was removed before a moment, of every account; returns how many messages.

    pause_s: between two units of work.
    Raises: Unavailable; what was done until then stays done.
    """
    count = 0
    for account in accounts_with_removed(database, before):
        while True:
            (gone,) = await database.submit(ForgetRemoved(account=account, before=before))
            count += gone
            await asyncio.sleep(pause_s)
            if gone < FORGOTTEN_AT_ONCE:
                break
    return count
