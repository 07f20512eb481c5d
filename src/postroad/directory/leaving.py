"""Accounts that were removed: their mail goes in steps, so that nobody waits behind it.

With the account go at once its name, its credentials, its key and its mailboxes, so nobody can
reach anything of it any more. Messages and their contents, some 2 KB each, are left for later
units of work; until the last one the account's number stands in `leaving`.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from postroad.database.contract import Database, Operation, Transaction
from postroad.database.schema import LATER_TABLES

CLEARED_AT_ONCE = 500
"""Rows in one unit of work: some 10 ms."""
_CLEARED_AT_ONCE = {"search_block": 32}
"""Of rows that are large: some 20 KB each."""


def clear_step(tx: Transaction, account: int, count: int = CLEARED_AT_ONCE) -> bool:
    """Removes some rows of an account that is leaving; returns whether there may be more."""
    for table, key in LATER_TABLES.items():
        some = f"SELECT {key} FROM {table} WHERE account = ? ORDER BY {key} LIMIT ?"
        rows = list(tx.execute(some, (account, min(count, _CLEARED_AT_ONCE.get(table, count)))))
        if not rows:
            continue
        marks = ", ".join("?" * len(rows[0]))
        where = f"account = ? AND ({key}) <= ({marks})"
        bound = (account, *rows[-1])
        if table in ("message", "removed"):
            tx.execute(
                "DELETE FROM content WHERE account = ? AND heap IN"
                f" (SELECT heap FROM {table} WHERE {where})",
                (account, *bound),
            )
        tx.execute(f"DELETE FROM {table} WHERE {where}", bound)
        return True
    tx.execute("DELETE FROM leaving WHERE account = ?", (account,))
    return False


class ClearAccount(Operation[bool], frozen=True, kw_only=True):
    """One step for the first account that is leaving; returns whether there may be more to do."""

    Result: ClassVar[type] = bool

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> bool:
        row = tx.first("SELECT min(account) FROM leaving")
        if row is None or row[0] is None:
            return False
        clear_step(tx, row[0])
        return True


async def clear_leaving(database: Database, *, pause_s: float = 0.0) -> None:
    """All that accounts which were removed have left. pause_s: between two units of work.

    Raises: Unavailable; what was done until then stays done.
    """
    while True:
        (more,) = await database.submit(ClearAccount())
        if not more:
            return
        await asyncio.sleep(pause_s)
