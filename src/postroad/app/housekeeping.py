"""What the server clears away while it runs: what has outlived its use, and octets unnamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from postroad.database.backfill import finish
from postroad.database.local import LocalDatabase
from postroad.database.snapshots import prune
from postroad.directory.leaving import clear_leaving
from postroad.mail.errors import StateError, Unavailable
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


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFinished(Event):
    """What the newest tables needed of every account has been made while the server ran."""

    steps: int


async def keep_house(
    database: LocalDatabase, trace: Trace, keep_removed_days: Callable[[], int]
) -> None:
    """Runs until cancelled."""
    await _finish_upgrade(database, trace)
    await asyncio.sleep(FIRST_S)
    while True:
        try:
            now = datetime.now(UTC)
            await asyncio.to_thread(prune, database.data_dir, now.timestamp())
            before = int((now - timedelta(days=keep_removed_days())).timestamp())
            await clear_leaving(database, pause_s=FORGET_PAUSE_S)
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


async def _finish_upgrade(database: LocalDatabase, trace: Trace) -> None:
    """What migrations left to be done while the server runs."""
    while True:
        try:
            steps = await finish(database)
            break
        except (Unavailable, StateError) as error:
            trace(SweepFailed(why=f"upgrade: {error}"))
        await asyncio.sleep(FIRST_S)
    if steps:
        trace(UpgradeFinished(steps=steps))
