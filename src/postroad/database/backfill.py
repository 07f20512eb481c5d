"""What a migration leaves to be done while the server runs: in steps, each a unit of work.

A migration that would have to touch every row writes a row into `backfill` instead; a step then
takes up where the last one stopped, so a crash repeats one step at most. Everything must be right
at every moment in between: a step may only make what it makes from what is exact already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from postroad.database.contract import Database, Operation, Transaction
from postroad.mail.errors import Fault, StateError

Step = Callable[[Transaction, int], int | None]
"""From the transaction and where the last step stopped (0: nowhere yet) to where this one did, or
None when there is nothing left."""

ACCOUNTS_AT_ONCE = 200
AT_OPEN_STEPS_MAX = 20
"""Done before anything is served: some 100 ms, enough for a server of 4000 accounts."""


def recount_use(tx: Transaction, after: int) -> int | None:
    """What accounts use, from the counters of their mailboxes, which are exact (0002)."""
    accounts = list(
        tx.execute(
            "SELECT account FROM counter WHERE account > ? ORDER BY account LIMIT ?",
            (after, ACCOUNTS_AT_ONCE),
        )
    )
    if not accounts:
        return None
    last = int(accounts[-1][0])
    tx.execute(
        "UPDATE counter SET (octets, messages, mailboxes) = (SELECT coalesce(sum(m.size), 0),"
        " coalesce(sum(m.messages), 0), count(*) FROM mailbox AS m"
        " WHERE m.account = counter.account) WHERE account > ? AND account <= ?",
        (after, last),
    )
    return last


STEPS: dict[int, Step] = {2: recount_use}
"""By the number of the migration that asks for it."""


class ContinueBackfill(Operation[bool], frozen=True, kw_only=True):
    """Does one step of the oldest backfill; returns whether there is more to do."""

    Result: ClassVar[type] = bool

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> bool:
        row = tx.first("SELECT migration, position FROM backfill ORDER BY migration LIMIT 1")
        if row is None:
            return False
        number, position = row
        if number not in STEPS:
            raise StateError(Fault.CONFLICT, f"this version knows no backfill {number}")
        position = STEPS[number](tx, position)
        if position is None:
            tx.execute("DELETE FROM backfill WHERE migration = ?", (number,))
        else:
            tx.execute("UPDATE backfill SET position = ? WHERE migration = ?", (position, number))
        return True


async def finish(database: Database) -> int:
    """All that migrations have left to do, others coming between; returns the number of steps.

    Raises: Unavailable; it goes on from there the next time.
    """
    steps = 0
    while True:
        (more,) = await database.submit(ContinueBackfill())
        if not more:
            return steps
        steps += 1
