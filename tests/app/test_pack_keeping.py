"""What the server does for its packs by itself: each of it once an hour, none stops another."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from postroad.app import pack_keeping
from postroad.app.config import Storage
from postroad.app.pack_keeping import (
    AccountConverted,
    DictionaryTrained,
    PackKeeper,
    PackKeepingFailed,
    PacksCompacted,
    RecordDamaged,
)
from postroad.database.packs import pack_path
from postroad.mail.secret import Secret
from postroad.store import recoding, training
from postroad.store.compaction import packs_held
from postroad.store.keys import Keys
from postroad.store.upkeep import Encrypt
from postroad.trace import Event
from support.state import BOB, NOW, State, opened

KEY = b"ab" * 32


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_keeping, "GRACE_S", 0.0)
    monkeypatch.setattr(pack_keeping, "SETTLE_S", 0.0)
    monkeypatch.setattr(training, "MESSAGES_MIN", 30)


def storage(tmp_path: Path, **more: object) -> Storage:
    (tmp_path / "master.key").write_bytes(KEY)
    return Storage(master_key=str(tmp_path / "master.key"), **more)  # type: ignore[arg-type]


async def filled(state: State) -> None:
    """A pack of which a fifth is live, that nobody has touched for two hours."""
    dice = random.Random(1)
    for _ in range(40):
        await state.append(dice.randbytes(2000))
    state.local._writer._connection.execute("DELETE FROM message WHERE uid % 5")
    state.local._writer._connection.execute("DELETE FROM content WHERE heap % 5")
    state.local._writer._connection.execute(
        "UPDATE mailbox SET messages = (SELECT count(*) FROM message), unseen = messages,"
        " size = (SELECT coalesce(sum(size), 0) FROM message) WHERE messages > 0"
    )
    state.local._writer._connection.execute(
        "UPDATE mailbox SET unseen = messages WHERE messages > 0"
    )
    state.local._writer._connection.execute(
        "UPDATE counter SET messages = (SELECT count(*) FROM message),"
        " octets = (SELECT sum(size) FROM message)"
    )
    state.blobs.close()
    old = time.time() - 7200
    os.utime(pack_path(state.data_dir, 1), (old, old))
    pack_path(state.data_dir, 2).touch()


def test_packs_are_compacted_and_what_is_damaged_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        events: list[Event] = []
        async with opened("local", tmp_path) as state:
            await filled(state)
            keeper = PackKeeper(state.local, storage(tmp_path, dictionary=False), events.append)
            with packs_held(tmp_path):
                await keeper.once()
            assert events == [], "somebody copies the packs: it waits for the next hour"
            await keeper.once()
            first, second = events
            assert isinstance(first, PacksCompacted) and first.records == 8
            assert isinstance(second, PacksCompacted) and second.removed == 1
            assert not pack_path(tmp_path, 1).exists()
            await keeper.once()
            assert len(events) == 2
            keeper._compactor.close()

    asyncio.run(run())


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        events: list[Event] = []
        async with opened("local", tmp_path) as state:
            await filled(state)
            path = pack_path(tmp_path, 1)
            octets = bytearray(path.read_bytes())
            octets[4 * 2048 + 99] ^= 1
            path.write_bytes(octets)
            old = time.time() - 7200
            os.utime(path, (old, old))
            keeper = PackKeeper(state.local, storage(tmp_path, dictionary=False), events.append)
            await keeper.once()
            assert [type(event) for event in events] == [RecordDamaged, PacksCompacted]
            octets[4 * 2048 + 99] ^= 1
            path.write_bytes(octets)
            keeper._compactor.close()

    asyncio.run(run())


def test_it_learns_once_and_says_what_came_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        events: list[Event] = []
        async with opened("local", tmp_path) as state:
            for number in range(40):
                await state.append(b"Subject: %d\r\n\r\nhello hello hello\r\n" % number * 5)
            keeper = PackKeeper(state.local, storage(tmp_path), events.append)
            await keeper.once()
            (failed,) = events
            assert isinstance(failed, PackKeepingFailed) and failed.doing == "dictionary"
            await keeper.once()
            assert len(events) == 1, "it is not tried every hour"
            for number in range(1000):
                await state.append(b"Subject: %d\r\n\r\nhello hello hello\r\n" % number * 5)
            keeper = PackKeeper(state.local, storage(tmp_path), events.append)
            await keeper.once()
            trained = events[1]
            assert isinstance(trained, DictionaryTrained) and trained.number in (0, 1)
            off = PackKeeper(state.local, storage(tmp_path, dictionary=False), events.append)
            await off.once()
            assert len(events) == 2
            keeper._compactor.close()

    asyncio.run(run())


def test_a_conversion_that_was_cut_short_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recoding, "ROWS", 2)

    async def run() -> None:
        events: list[Event] = []
        async with opened("local", tmp_path) as state:
            for number in range(7):
                await state.append(b"%d hello" % number * 99)
            keys = Keys(Secret(bytes.fromhex(KEY.decode())), state.database)
            await state.database.submit(
                Encrypt(account=BOB, sealed=True, wrapped=keys.new_key(BOB), now=NOW)
            )
            wrong = Storage(master_key=str(tmp_path / "none"))
            await PackKeeper(state.local, wrong, events.append).once()
            (failed,) = events
            assert isinstance(failed, PackKeepingFailed) and failed.doing == "encryption"
            keeper = PackKeeper(state.local, storage(tmp_path), events.append)
            await keeper.once()
            assert events[1] == AccountConverted(account=BOB, rows=7)
            await keeper.once()
            assert len(events) == 2
            keeper._compactor.close()

    asyncio.run(run())
