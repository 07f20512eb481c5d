"""What the server clears away while it runs: what has outlived its use, and octets unnamed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from postroad.database.local import LocalDatabase
from postroad.mail.errors import Unavailable
from postroad.queue.sweep import sweep
from postroad.trace import Event, Trace

FIRST_S = 60.0
"""After the start: nobody shall wait for it."""
EVERY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(Event):
    """rows: of old history. octets: freed. drafts: left behind by a crash, and removed."""

    rows: int
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
            found = await sweep(database, database.data_dir, datetime.now(UTC))
            if found.rows or found.octets or found.drafts:
                trace(Swept(rows=found.rows, octets=found.octets, drafts=found.drafts))
        except (Unavailable, OSError) as error:
            trace(SweepFailed(why=str(error)))
        await asyncio.sleep(EVERY_S)
