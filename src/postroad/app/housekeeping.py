"""What the server clears away while it runs: what has outlived its use, and octets unnamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from postroad.database.local import LocalDatabase
from postroad.mail.errors import Unavailable
from postroad.queue.sweep import sweep
from postroad.store.removed import forget_removed
from postroad.trace import Event, Trace

FIRST_S = 60.0
"""After the start: nobody shall wait for it."""
EVERY_S = 6 * 3600.0
FORGET_PAUSE_S = 0.02
"""Between two steps of forgetting removed mail: others write meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(Event):
    """rows: of old history. removed: messages whose time to be brought back is over. octets:
    freed. drafts: left behind by a crash, and removed."""

    rows: int
    removed: int
    octets: int
    drafts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFailed(Event):
    why: str


async def keep_house(
    database: LocalDatabase, trace: Trace, keep_removed_days: Callable[[], int]
) -> None:
    """Runs until cancelled."""
    await asyncio.sleep(FIRST_S)
    while True:
        try:
            now = datetime.now(UTC)
            before = int((now - timedelta(days=keep_removed_days())).timestamp())
            removed = await forget_removed(database, before, pause_s=FORGET_PAUSE_S)
            found = await sweep(database, database.data_dir, now)
            if found.rows or removed or found.octets or found.drafts:
                trace(
                    Swept(
                        rows=found.rows,
                        removed=removed,
                        octets=found.octets,
                        drafts=found.drafts,
                    )
                )
        except (Unavailable, OSError) as error:
            trace(SweepFailed(why=str(error)))
        await asyncio.sleep(EVERY_S)
