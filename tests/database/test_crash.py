"""What was answered survives a kill and a power cut at every disk operation, exactly once.

A child of this process delivers in rounds and kills itself at the k-th disk operation. Then the
disk is made worse, as a power cut may: what was not synced when the last round was answered is cut
off. After reopening, every answered message is there once, and everything verifies.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from postroad.database.checkpoint import Checkpointer
from postroad.database.connection import open_writer
from postroad.database.local import LocalDatabase
from postroad.mail.uidset import UIDSet
from postroad.queue.operations import Enqueue, QueuedPath
from postroad.queue.reading import MailQueue
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.operations import Append
from postroad.store.values import Want
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, add_bob, content_for

ROUNDS = 3
UNITS = 4
CUTS = ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.6, 0.3))
"""What a power cut leaves of the packs and of the WAL beyond what was synced."""
ALL = UIDSet(((1, 1 << 32),))


def octets_of(name: str) -> bytes:
    return f"Subject: {name}\r\n\r\n".encode() + name.encode() * 97


class Killer:
    """Counts disk operations, kills this process before the k-th, and reports what is synced."""

    def __init__(self, at: int, data_dir: Path, report: int) -> None:
        self.left = at
        self.wal = data_dir / "postroad.db-wal"
        self.report = report

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, **what: object) -> None:
        os.write(self.report, json.dumps(what).encode() + b"\n")

    def install(self) -> None:
        fdatasync, pwritev, grew = os.fdatasync, os.pwritev, Checkpointer._wal_grew

        def sync(fd: int) -> None:
            size = os.fstat(fd).st_size
            self.count()
            fdatasync(fd)
            self.tell(pack=os.path.basename(os.readlink(f"/proc/self/fd/{fd}")), size=size)
            self.count()

        def write(fd: int, parts: list[bytes], offset: int) -> int:
            self.count()
            return pwritev(fd, parts, offset)

        def after_commit(*args: object) -> int:
            self.tell(wal=self.wal.stat().st_size)
            self.count()
            return grew(*args)  # type: ignore[arg-type]

        os.fdatasync = sync
        os.pwritev = write  # type: ignore[assignment]
        Checkpointer._wal_grew = after_commit  # type: ignore[method-assign, assignment]


async def deliver(data_dir: Path, at: int, report: int) -> None:
    killer = Killer(at, data_dir, report)
    killer.install()
    database = LocalDatabase.open(data_dir)
    database._writer._connection.set_commit_hook(lambda: bool(killer.count()))
    blobs = BlobStore.open(data_dir)

    async def one(name: str) -> str:
        blob = blobs.append(octets_of(name))
        content = content_for(blob, b"", len(octets_of(name)))
        await database.submit(
            Append(account=BOB, mailbox=0, content=content, internal_date=NOW, delivery_id=name),
            Enqueue(
                message=name,
                blob=blob,
                head=b"",
                size=content.size,
                reverse_path="",
                recipients=(QueuedPath(path="x@y.example", domain="y.example"),),
                accepted=NOW,
                expires=NOW,
            ),
        )
        return name

    for number in range(ROUNDS):
        names = await asyncio.gather(*(one(f"m{number}-{unit}") for unit in range(UNITS)))
        killer.tell(answered=names)
    await database.close()


class Disk:
    """What a child reported until it died."""

    def __init__(self, lines: list[dict]) -> None:
        self.answered = [name for line in lines for name in line.get("answered", ())]
        self.packs: dict[str, int] = {}
        self.wal = 0
        for line in lines:
            if "pack" in line:
                known = self.packs.get(line["pack"], 0)
                self.packs[line["pack"]] = max(known, line["size"])
            self.wal = line.get("wal", self.wal)

    def cut(self, data_dir: Path, packs_share: float, wal_share: float) -> None:
        """Cuts what was written and not synced, keeping a share of it."""
        for path in (data_dir / "packs").iterdir():
            kept = self.packs.get(path.name, 0)
            os.truncate(path, kept + int((path.stat().st_size - kept) * packs_share))
        wal = data_dir / "postroad.db-wal"
        if wal.exists() and wal.stat().st_size > self.wal:
            os.truncate(wal, self.wal + int((wal.stat().st_size - self.wal) * wal_share))


def run_child(data_dir: Path, at: int) -> tuple[Disk, bool]:
    """(what it reported; whether it was killed)"""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            asyncio.run(deliver(data_dir, at, writing))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.WEXITSTATUS(status) == 0
    return Disk(lines), killed


async def check(data_dir: Path, answered: list[str]) -> None:
    database = LocalDatabase.open(data_dir)
    blobs = BlobStore.open(data_dir)
    store = MailStore(database, blobs)
    found: list[bytes] = []
    uids: list[int] = []
    for rows in store.messages(BOB, INBOX, ALL, Want.OCTETS):
        found += [store.octets(row) for row in rows]
        uids += [row.uid for row in rows]
    queued = [message.message for message in MailQueue(database).messages()]
    assert len(found) == len(set(found)) and len(queued) == len(set(queued))
    for name in answered:
        assert octets_of(name) in found, f"{name} was answered and is lost"
        assert name in queued
    box = store.mailbox_by_id(BOB, INBOX)
    assert box is not None and box.uidnext > max(uids, default=0)
    content = content_for(blobs.append(b"after"), b"", 5)
    (more,) = await database.submit(
        Append(account=BOB, mailbox=INBOX, content=content, internal_date=NOW)
    )
    changes = store.changes(BOB, INBOX, 0)
    assert changes is not None
    assert more.uid == box.uidnext and more.uid not in changes.vanished
    await database.close()
    blobs.close()
    assert list(verify(data_dir)) == []


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    async def make(data_dir: Path) -> None:
        database = LocalDatabase.open(data_dir)
        await add_bob(database)
        await database.close()
        BlobStore.open(data_dir).close()

    data_dir = tmp_path_factory.mktemp("fresh") / "data"
    asyncio.run(make(data_dir))
    return data_dir


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("first", range(0, 40, 8))
def test_a_crash_at_any_disk_operation_loses_nothing_answered(
    fresh: Path, tmp_path: Path, first: int
) -> None:
    for at in range(first, first + 8):
        work = tmp_path / f"at{at}"
        shutil.copytree(fresh, work)
        disk, killed = run_child(work, at)
        assert killed or len(disk.answered) == ROUNDS * UNITS
        for number, shares in enumerate(CUTS):
            copy = tmp_path / f"at{at}-{number}"
            shutil.copytree(work, copy)
            disk.cut(copy, *shares)
            asyncio.run(check(copy, disk.answered))


def test_octets_that_were_lost_take_their_rows_along(fresh: Path, tmp_path: Path) -> None:
    """The commit was durable, the pack was not: never answered, so it goes; its UID stays burnt."""
    work = tmp_path / "data"
    shutil.copytree(fresh, work)

    async def before() -> tuple[int, int]:
        database = LocalDatabase.open(work)
        blobs = BlobStore.open(work)
        for number in range(3):
            name = f"m{number}"
            content = content_for(blobs.append(octets_of(name)), b"", len(octets_of(name)))
            (done,) = await database.submit(
                Append(account=BOB, mailbox=0, content=content, internal_date=NOW, delivery_id=name)
            )
        await database.close()
        blobs.close()
        return done.uid, done.modseq

    uid, modseq = asyncio.run(before())
    (pack,) = (work / "packs").iterdir()
    os.truncate(pack, pack.stat().st_size - 1)
    # As after a power cut in the last group: the mark of the group before it is what is there.
    connection = open_writer(work)
    connection.execute("UPDATE durable SET content = content - 1")
    connection.close()

    async def after() -> None:
        database = LocalDatabase.open(work)
        assert database.recovered.messages == [(BOB, INBOX, uid)]
        assert database.recovered.checked == 1
        blobs = BlobStore.open(work)
        store = MailStore(database, blobs)
        box = store.mailbox_by_id(BOB, INBOX)
        assert box is not None
        assert (box.messages, box.uidnext) == (2, uid + 1) and box.highestmodseq > modseq
        changes = store.changes(BOB, INBOX, modseq)
        assert changes is not None and list(changes.vanished) == [uid]
        content = content_for(blobs.append(b"again"), b"", 5)
        (done,) = await database.submit(
            Append(account=BOB, mailbox=0, content=content, internal_date=NOW, delivery_id="m2")
        )
        assert done.uid == uid + 1, "the delivery that was lost is done anew"
        await database.close()
        blobs.close()
        assert list(verify(work)) == []

    asyncio.run(after())
