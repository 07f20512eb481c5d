"""Kills a process with an operation on the store at every statement, and looks what is left.

`python -m support.killing NAME DIRECTORY` goes through all kill points of one operation: the data
is copied, a child process applies the operation and is killed (SIGKILL) before its nth statement;
the parent checks that all is whole and that the tables are as before or as after, nothing between.
It ends with exit code 0 when the child has come to the end once. One process, no threads but in
the children: so it can fork, which is what makes some hundred kills a matter of seconds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw

from postroad.database.connection import open_writer
from postroad.database.contract import Operation
from postroad.database.local import LocalDatabase
from postroad.database.transaction import WriteTransaction
from postroad.directory.leaving import clear_leaving
from postroad.directory.operations import AddAccount, RemoveAccount
from postroad.mail.flags import Flag
from postroad.queue.operations import Enqueue, QueuedPath
from postroad.store import slices
from postroad.store.blobs import BlobStore
from postroad.store.operations import (
    Append,
    ClaimRecent,
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    Move,
    RenameMailbox,
    SetQuota,
    StoreFlags,
    Subscribe,
)
from postroad.store.removed import forget_removed
from postroad.store.sharing import SetRights
from postroad.store.undelete import removed_messages, steps
from postroad.store.upkeep import Relocate
from postroad.store.values import FlagMode
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, State, content_for, opened

ANN = 78
WORK = 7
POINTS_MAX = 400
NOT_COMPARED = {"durable", "sqlite_sequence"}
"""What is written behind a group's back."""

Work = Callable[[LocalDatabase, BlobStore], Awaitable[None]]


async def prepare(data_dir: Path) -> None:
    """Bob has twelve messages of all kinds, some shared, some removed; Ann sees his INBOX."""
    async with opened("local", data_dir) as state:
        await state.database.submit(
            AddAccount(account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s",
                       now=NOW)
        )  # fmt: skip
        for number in range(8):
            flags = Flag.DELETED if number % 2 else Flag.SEEN
            await state.append(b"%d " % number * 40, flags=flags, keywords=(b"$Work",))
        await state.append(os.urandom(300_000))
        await _more(state)


async def _more(state: State) -> None:
    submit = state.database.submit
    await submit(CreateMailbox(account=BOB, name="Work/Old", special_use="\\Flagged", now=NOW))
    await submit(
        Subscribe(account=BOB, name="Work/Old", subscribed=True),
        Copy(account=BOB, mailbox=INBOX, uids=[(1, 3), (9, 9)], to=WORK + 1),
        Move(account=BOB, mailbox=INBOX, uids=[(4, 4)], to=WORK),
        Expunge(account=BOB, mailbox=INBOX, uids=[(5, 6)], only_deleted=False, now=NOW),
        SetRights(account=BOB, mailbox=INBOX, grantee=ANN, rights="lrswite"),
        StoreFlags(account=BOB, mailbox=INBOX, uids=[(1, 8)], mode=FlagMode.ADD, flags=1,
                   reader=ANN),
    )  # fmt: skip


def one(*operations: Operation[Any]) -> Work:
    async def work(database: LocalDatabase, blobs: BlobStore) -> None:
        await database.submit(*operations)

    return work


def sliced(operation: Operation[Any]) -> Work:
    async def work(database: LocalDatabase, blobs: BlobStore) -> None:
        slices.SLICE = slices.SLICE_ACROSS = 2
        await slices.submit(database, operation)

    return work


async def append(database: LocalDatabase, blobs: BlobStore) -> None:
    """To two accounts and the queue: what one message does."""
    octets = b"new " * 100
    blob = blobs.append(octets)
    content = content_for(blob, b"Received: now\r\n", len(octets))
    await database.submit(
        *(
            Append(account=account, mailbox=0, content=content, internal_date=NOW,
                   keywords=(b"$New",), delivery_id="m-new", enforce_quota=True)
            for account in (BOB, ANN)
        ),
        Enqueue(message="m-new", blob=blob, head=b"", size=len(octets), reverse_path="",
                recipients=(QueuedPath(path="x@y.example", domain="y.example"),), accepted=NOW,
                expires=NOW),
    )  # fmt: skip


async def undelete(database: LocalDatabase, blobs: BlobStore) -> None:
    units = list(steps(list(removed_messages(database, BOB)), "Back/again", BOB, NOW))
    await database.submit(*units)


async def forget(database: LocalDatabase, blobs: BlobStore) -> None:
    await forget_removed(database, NOW + 1)


async def leave(database: LocalDatabase, blobs: BlobStore) -> None:
    await database.submit(RemoveAccount(account=BOB))
    await clear_leaving(database)


async def relocate(database: LocalDatabase, blobs: BlobStore) -> None:
    """What compaction does with a record that is still named."""
    row = database.first("SELECT blob FROM content WHERE heap = 1")
    assert row is not None
    again = blobs.append(blobs.read(row[0]))
    await database.submit(Relocate(moves=((row[0], again),)))


ACROSS = {"to": INBOX, "to_account": ANN, "now": NOW}
WORKS: dict[str, Work] = {
    "append": append,
    "create": one(CreateMailbox(account=BOB, name="a/b/c", now=NOW)),
    "flags": one(
        StoreFlags(account=BOB, mailbox=INBOX, uids=[(1, 9)], mode=FlagMode.REPLACE, flags=4,
                   keywords=(b"other",))
    ),
    "flags of a reader": one(
        StoreFlags(account=BOB, mailbox=INBOX, uids=[(2, 9)], mode=FlagMode.REMOVE, flags=1,
                   reader=ANN)
    ),
    "copy": one(Copy(account=BOB, mailbox=INBOX, uids=[(1, 9)], to=2, now=NOW)),
    "copy across": one(Copy(account=BOB, mailbox=INBOX, uids=[(1, 9)], **ACROSS)),
    "move": one(Move(account=BOB, mailbox=INBOX, uids=[(1, 3), (8, 9)], to=2, now=NOW)),
    "move across": one(Move(account=BOB, mailbox=INBOX, uids=[(1, 9)], **ACROSS)),
    "expunge": one(Expunge(account=BOB, mailbox=INBOX, now=NOW)),
    "rename": one(RenameMailbox(account=BOB, name="Work", to="x/y", now=NOW)),
    "rename inbox": one(RenameMailbox(account=BOB, name="INBOX", to="x/y", now=NOW)),
    "delete": one(DeleteMailbox(account=BOB, name="Work/Old", now=NOW)),
    "recent": one(ClaimRecent(account=BOB, mailbox=INBOX)),
    "quota": one(SetQuota(account=BOB, octets_max=5)),
    "undelete": undelete,
    "relocate": relocate,
    "forget": forget,
    "remove account": leave,
    "sliced flags": sliced(
        StoreFlags(account=BOB, mailbox=INBOX, uids=[(1, 9)], mode=FlagMode.ADD, flags=4)
    ),
    "sliced copy": sliced(Copy(account=BOB, mailbox=INBOX, uids=[(1, 9)], **ACROSS)),
    "sliced move": sliced(Move(account=BOB, mailbox=INBOX, uids=[(1, 9)], **ACROSS)),
    "sliced expunge": sliced(
        Expunge(account=BOB, mailbox=INBOX, only_deleted=False, now=NOW)
    ),
    "sliced delete": sliced(DeleteMailbox(account=BOB, name="Work/Old", now=NOW)),
}  # fmt: skip
IN_STEPS = {"forget", "remove account", *(name for name in WORKS if name.startswith("sliced"))}
"""Several units of work: a kill may leave some of them done."""


class _Killer:
    """SIGKILL before the nth statement, COMMIT included."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._count = 0

    def __call__(self) -> None:
        self._count += 1
        if self._count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def _arm(killer: _Killer) -> None:
    execute, first = WriteTransaction.execute, WriteTransaction.first
    writer_execute = sys.modules["postroad.database.writer"]._execute  # type: ignore[attr-defined]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any) -> Any:
            killer()
            return call(*arguments)

        return around

    WriteTransaction.execute = counted(execute)  # type: ignore[method-assign]
    WriteTransaction.first = counted(first)  # type: ignore[method-assign]

    def commit(connection: apsw.Connection, sql: str) -> None:
        killer()
        writer_execute(connection, sql)
        killer()

    sys.modules["postroad.database.writer"]._execute = commit  # type: ignore[attr-defined]


async def _apply(data_dir: Path, work: Work, killer: _Killer | None) -> None:
    database = LocalDatabase.open(data_dir)
    blobs = BlobStore.open(data_dir)
    if killer is not None:
        _arm(killer)
    await work(database, blobs)
    await database.close()
    blobs.close()


def dump(data_dir: Path) -> dict[str, list[Any]]:
    connection = open_writer(data_dir)
    try:
        names = [
            str(name)
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in names
            if name not in NOT_COMPARED
        }
    finally:
        connection.close()


def _child(data_dir: Path, work: Work, at: int) -> int:
    """The exit status of a process that is killed at this point, or comes to the end."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            asyncio.run(_apply(data_dir, work, _Killer(at)))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def check_left(data_dir: Path, before: Any, after: Any, name: str, at: int) -> None:
    """Whole as it is, whole after a start, and one of the two states."""
    found = list(verify(data_dir))
    assert not found, f"{name}, point {at}: {found}"
    if name not in IN_STEPS:
        state = dump(data_dir)
        assert state in (before, after), f"{name}, point {at}: something between"
    asyncio.run(_open(data_dir))
    found = list(verify(data_dir))
    assert not found, f"{name}, point {at}, after the next start: {found}"


async def _open(data_dir: Path) -> None:
    database = LocalDatabase.open(data_dir)
    assert database.recovered.missing == 0
    await database.close()


def kill_everywhere(name: str, directory: Path) -> int:
    """Returns the number of kills."""
    work = WORKS[name]
    prepared = directory / "prepared"
    asyncio.run(prepare(prepared))
    whole = directory / "whole"
    shutil.copytree(prepared, whole)
    asyncio.run(_apply(whole, work, None))
    before, after = dump(prepared), dump(whole)
    assert before != after, "the operation does nothing here"
    for at in range(1, POINTS_MAX):
        data_dir = directory / "killed"
        shutil.rmtree(data_dir, ignore_errors=True)
        shutil.copytree(prepared, data_dir)
        status = _child(data_dir, work, at)
        check_left(data_dir, before, after, name, at)
        if status == 0:
            assert dump(data_dir) == after or name in IN_STEPS
            return at - 1
        assert status == -signal.SIGKILL, f"{name}, point {at}: exit {status}"
    raise AssertionError(f"{name}: more than {POINTS_MAX} points")


if __name__ == "__main__":
    print(kill_everywhere(sys.argv[1], Path(sys.argv[2])))
