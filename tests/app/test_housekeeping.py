"""The sweep that the server runs by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroad.app import housekeeping
from postroad.database.local import LocalDatabase
from postroad.queue.operations import Remember
from postroad.queue.reading import MailQueue
from postroad.trace import Event


def test_old_history_goes_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "FIRST_S", 0.0)
    told: list[Event] = []

    async def scenario() -> None:
        database = LocalDatabase.open(tmp_path / "data")
        queue = MailQueue(database)
        await database.submit(Remember(message="0old", records=((1000.0, b"{}"),)))
        keeping = asyncio.create_task(housekeeping.keep_house(database, told.append, lambda: 14))
        while not told:
            await asyncio.sleep(0)
        keeping.cancel()
        assert queue.history("0old") == []
        await database.close()

    asyncio.run(scenario())
    assert isinstance(told[0], housekeeping.Swept) and told[0].rows == 1
