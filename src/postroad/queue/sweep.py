"""The daily sweep: what has outlived its use goes, in small units that let others in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from postroad.database.contract import Database
from postroad.mail.ids import message_id
from postroad.queue.operations import Forget
from postroad.store.sweep import remove_stale_drafts, remove_unnamed_files

HISTORY_DAYS = 30
"""An operator is asked about mail of the last weeks."""
DELIVERY_DAYS = 2
"""A unit that is sent again after a lost answer comes within seconds."""


@dataclass(frozen=True, slots=True)
class Swept:
    rows: int
    octets: int
    drafts: int


async def sweep(database: Database, data_dir: Path, now: datetime) -> Swept:
    """Raises: Unavailable; what was done until then stays done."""
    rows = 0
    forget = Forget(
        before=(now - timedelta(days=HISTORY_DAYS)).timestamp(),
        message=message_id(now - timedelta(days=DELIVERY_DAYS), 0),
    )
    while True:
        (count,) = await database.submit(forget)
        if not count:
            break
        rows += count
    moment = now.timestamp()
    octets = await asyncio.to_thread(remove_unnamed_files, database, data_dir, moment)
    drafts = await asyncio.to_thread(remove_stale_drafts, data_dir, moment)
    return Swept(rows, octets, drafts)
