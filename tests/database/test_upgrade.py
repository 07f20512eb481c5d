"""Data of every earlier version of the tables is upgraded whole, or stays as it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from postroad.database import backfill, schema, snapshots
from postroad.database.connection import DATABASE_NAME, open_writer
from postroad.database.local import LocalDatabase, take_lock
from postroad.directory.reading import MailDirectory
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.queue.reading import MailQueue
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.operations import Append
from postroad.store.sweep import remove_unnamed_files
from postroad.store.values import Want
from postroad.store.verify import verify
from support.state import NOW, content_for

VECTORS = Path(__file__).parent / "vectors"
BOB, ANN = 77, 78
NEWEST = len(schema.migrations())
EARLIER = range(1, NEWEST)
ALL = UIDSet(((1, 1 << 31),))


def make(data_dir: Path, version: int = 1) -> Path:
    """The rows of version 1, in tables of some version."""
    (data_dir / "packs").mkdir(parents=True)
    (data_dir / "files").mkdir()
    shutil.copy(VECTORS / "tables-0001.pack", data_dir / "packs" / "00000001.pack")
    connection = open_writer(data_dir)
    first, *later = schema.migrations()[:version]
    schema.apply_migration(connection, *first)
    connection.execute("DELETE FROM durable")
    connection.execute((VECTORS / "tables-0001.sql").read_text())
    for number, sql in later:
        schema.apply_migration(connection, number, sql)
    connection.close()
    return data_dir


def dump(path: Path) -> list[tuple[str, Any]]:
    """Every row of every table."""
    connection = apsw.Connection(str(path))
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    ).fetchall()
    found = [
        (str(name), row)
        for (name,) in tables
        for row in connection.execute(f"SELECT * FROM {name}").fetchall()
    ]
    connection.close()
    return found


def version(data_dir: Path) -> int:
    connection = apsw.Connection(str(data_dir / DATABASE_NAME))
    found = schema.version_of(connection)
    connection.close()
    return found


def check(data_dir: Path) -> None:
    """What the old program had put there is there, and counted."""

    async def main() -> None:
        database = LocalDatabase.open(data_dir)
        blobs = BlobStore.open(data_dir)
        store = MailStore(database, blobs)
        try:
            inbox = store.mailbox(BOB, "INBOX")
            assert inbox is not None and (inbox.messages, inbox.uidnext) == (4, 7)
            (rows,) = store.messages(BOB, inbox.mailbox, ALL, Want.OCTETS)
            assert [row.uid for row in rows] == [1, 2, 4, 5]
            assert all(b"hello" in store.octets(row) for row in rows)
            assert rows[2].keywords == (b"$Work",) and rows[1].flags == Flag.SEEN
            changes = store.changes(BOB, inbox.mailbox, 0)
            assert changes is not None and list(changes.vanished) == [3, 6]
            box = store.mailbox(BOB, "Work/Old")
            assert box is not None and (box.messages, box.subscribed) == (2, True)
            quota = store.quota(BOB)
            assert quota is not None and quota.octets_max is None
            assert (quota.messages, quota.mailboxes) == (7, 8)
            assert quota.octets == sum(item.size for item in store.mailboxes(BOB)) > 0
            ann = store.quota(ANN)
            assert ann is not None and (ann.messages, ann.mailboxes) == (1, 6)
            directory = MailDirectory(database, "mx.two.example")
            assert directory.account("bob@two.example") is not None
            assert len(directory.aliases("two.example")) == 1
            assert MailQueue(database).message("mq") is not None
        finally:
            await database.close()
            blobs.close()

    asyncio.run(main())
    assert list(verify(data_dir)) == []


@pytest.mark.parametrize("have", [*EARLIER, NEWEST])
def test_every_version_is_upgraded(tmp_path: Path, have: int) -> None:
    data_dir = make(tmp_path / "data", have)
    assert version(data_dir) == have
    check(data_dir)
    assert version(data_dir) == NEWEST
    kept = snapshots.snapshots(data_dir)
    assert [item.version for item in kept] == ([have] if have < NEWEST else [])


def test_a_new_server_needs_no_snapshot(tmp_path: Path) -> None:
    asyncio.run(_open_and_close(tmp_path))
    assert snapshots.snapshots(tmp_path) == []
    assert not snapshots.are_kept(tmp_path)


async def _open_and_close(data_dir: Path) -> None:
    await LocalDatabase.open(data_dir).close()


@pytest.mark.parametrize("have", EARLIER)
def test_there_is_a_way_back(tmp_path: Path, have: int) -> None:
    data_dir = make(tmp_path, have)
    before = dump(data_dir / DATABASE_NAME)
    check(data_dir)
    asyncio.run(_deliver(data_dir))
    done = snapshots.roll_back(data_dir)
    assert (done.version, done.lost) == (have, 1)
    assert dump(data_dir / DATABASE_NAME) == before
    assert done.kept.name == f"after-{NEWEST:04d}.db"
    check(data_dir)
    assert snapshots.roll_back(data_dir).kept.name == f"after-{NEWEST:04d}-1.db"


async def _deliver(data_dir: Path) -> None:
    database = LocalDatabase.open(data_dir)
    blobs = BlobStore.open(data_dir)
    content = content_for(blobs.append(b"later"), b"", 5)
    await database.submit(Append(account=BOB, mailbox=1, content=content, internal_date=NOW))
    await database.close()
    blobs.close()


def test_no_way_back_where_there_is_none(tmp_path: Path) -> None:
    asyncio.run(_open_and_close(tmp_path))
    with pytest.raises(StateError) as caught:
        snapshots.roll_back(tmp_path)
    assert caught.value.fault is Fault.NONEXISTENT
    data_dir = make(tmp_path / "data")
    check(data_dir)
    (snapshot,) = snapshots.snapshots(data_dir)
    octets = bytearray(snapshot.path.read_bytes())
    octets[8192 * 3 : 8192 * 3 + 400] = b"\xff" * 400
    snapshot.path.write_bytes(octets)
    before = dump(data_dir / DATABASE_NAME)
    with pytest.raises((StateError, apsw.CorruptError)):
        snapshots.roll_back(data_dir)
    assert dump(data_dir / DATABASE_NAME) == before


def test_a_full_disk_stops_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = make(tmp_path)
    before = dump(data_dir / DATABASE_NAME)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(
            shutil, "disk_usage", lambda path: type(usage)(usage.total, usage.used, 1000)
        )
        with pytest.raises(Unavailable, match="MB are free"):
            LocalDatabase.open(data_dir)
    assert version(data_dir) == 1
    assert dump(data_dir / DATABASE_NAME) == before
    os.close(take_lock(data_dir))
    check(data_dir)


def test_the_data_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    asyncio.run(_open_and_close(tmp_path))
    connection = open_writer(tmp_path)
    connection.pragma("user_version", NEWEST + 1)
    connection.close()
    with pytest.raises(StateError, match="newer Postroad") as caught:
        LocalDatabase.open(tmp_path)
    assert caught.value.fault is Fault.CONFLICT


KILLER = """
import os, signal, sys
from pathlib import Path
from postroad.database import backfill, schema, snapshots
from postroad.database.local import LocalDatabase

place, data_dir = sys.argv[1], Path(sys.argv[2])
def die(): os.kill(os.getpid(), signal.SIGKILL)
kind, _, number = place.partition(" ")

if kind == "copying":
    snapshots._keep_newest = lambda data_dir: die()
    rename = Path.rename
    Path.rename = lambda path, target: die() if path.suffix == ".part" else rename(path, target)
if kind == "copied":
    snapshots._keep_newest = lambda data_dir: die()
apply = schema.apply_migration
def applied(connection, at, sql):
    if kind == "within" and at == int(number):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(sql)
        connection.pragma("user_version", at)
        connection.cache_flush()
        die()
    apply(connection, at, sql)
    if kind == "after" and at == int(number):
        die()
schema.apply_migration = applied
if kind == "filling":
    step = backfill.STEPS[2]
    def half(tx, after):
        found = step(tx, after)
        if after:
            die()
        return found
    backfill.STEPS[2] = half
    backfill.ACCOUNTS_AT_ONCE = 1
LocalDatabase.open(data_dir)
"""
PLACES = [
    "copying",
    "copied",
    *(f"within {number}" for number in range(2, NEWEST + 1)),
    *(f"after {number}" for number in range(2, NEWEST + 1)),
    "filling",
]


@pytest.mark.parametrize("place", PLACES)
def test_killed_anywhere_it_goes_on(tmp_path: Path, place: str) -> None:
    data_dir = make(tmp_path)
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", KILLER, place, data_dir], check=False)
        if ended.returncode == 0:
            break  # it had come further by the second time
        assert ended.returncode == -signal.SIGKILL
    check(data_dir)
    assert not list((data_dir / snapshots.FOLDER).glob("*.part*"))
    assert 1 in [item.version for item in snapshots.snapshots(data_dir)]


def test_a_large_server_is_counted_while_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "AT_OPEN_STEPS_MAX", 0)
    monkeypatch.setattr(backfill, "ACCOUNTS_AT_ONCE", 1)

    async def main() -> None:
        database = LocalDatabase.open(data_dir)
        blobs = BlobStore.open(data_dir)
        content = content_for(blobs.append(b"later"), b"", 5)
        for account in (BOB, ANN):
            append = Append(account=account, mailbox=1, content=content, internal_date=NOW)
            await database.submit(append)
        assert list(verify(data_dir)) == [], "what is not counted yet is no fault"
        (more,) = await database.submit(backfill.ContinueBackfill())
        assert more
        for account in (BOB, ANN):
            append = Append(account=account, mailbox=1, content=content, internal_date=NOW)
            await database.submit(append)
        assert await backfill.finish(database) == 2
        assert await backfill.finish(database) == 0
        quota = MailStore(database, blobs).quota(BOB)
        assert quota is not None and quota.messages == 9
        await database.close()
        blobs.close()

    data_dir = make(tmp_path)
    asyncio.run(main())
    assert list(verify(data_dir)) == []


def test_snapshots_are_kept_for_a_time_and_hold_the_octets(tmp_path: Path) -> None:
    data_dir = make(tmp_path)
    check(data_dir)
    (kept,) = snapshots.snapshots(data_dir)
    unnamed = data_dir / "files" / "ab" / ("ab" * 32 + "-0")
    unnamed.parent.mkdir()
    unnamed.write_bytes(b"x")
    os.utime(unnamed, (0, 0))

    async def sweep() -> int:
        database = LocalDatabase.open(data_dir)
        try:
            return remove_unnamed_files(database, data_dir, kept.made)
        finally:
            await database.close()

    assert asyncio.run(sweep()) == 0 and unnamed.exists()
    assert snapshots.prune(data_dir, kept.made + 60) == 0
    assert snapshots.prune(data_dir, kept.made + snapshots.KEPT_S + 1) == 1
    assert asyncio.run(sweep()) == 1 and not unnamed.exists()


def test_no_more_than_two_are_kept(tmp_path: Path) -> None:
    make(tmp_path)
    connection = open_writer(tmp_path)
    for number in (1, 2, 3):
        path = snapshots.take_snapshot(connection, tmp_path, number)
        os.utime(path, (number, number))
    connection.close()
    assert [item.version for item in snapshots.snapshots(tmp_path)] == [3, 2]
