"""What the server clears away while it runs: octets that nothing names any more."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from postroad.database.local import LocalDatabase
from postroad.mail.errors import Unavailable
from postroad.store.sweep import remove_stale_drafts, remove_unnamed_files
from postroad.trace import Event, Trace

FIRST_S = 60.0
"""After the start: nobody shall wait for it."""
EVERY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(Event):
    """octets: freed. drafts: left behind by a crash, and removed."""

    octets: int
    drafts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFailed(Event):
    why: str


async def keep_house(database: LocalDatabase, trace: Trace) -> None:
    """Runs until cancelled."""
    await asyncio.sleep(FIRST_S)
    while True:
        try:
            swept = await asyncio.to_thread(sweep, database, time.time())
            if swept.octets or swept.drafts:
                trace(swept)
        except (Unavailable, OSError) as error:
            trace(SweepFailed(why=str(error)))
        await asyncio.sleep(EVERY_S)


def sweep(database: LocalDatabase, now: float) -> Swept:
    """Raises: Unavailable, OSError."""
    drafts = remove_stale_drafts(database.data_dir, now)
    return Swept(octets=remove_unnamed_files(database, database.data_dir, now), drafts=drafts)
