"""Groups of units: what fails alone, what fails together, and what the disk does to them."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from postroad.database.contract import Operation, Transaction
from postroad.database.local import LocalDatabase
from postroad.database.schema import migrations
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.uidset import UIDSet
from postroad.queue.operations import Enqueue, QueuedPath, Remember
from postroad.store.operations import Append
from postroad.store.values import Want
from support.state import BOB, INBOX, NOW, State, opened

ALL = UIDSet(((1, 1 << 32),))


def run(data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened("local", data_dir) as state:
            await scenario(state)

    asyncio.run(main())


class Broken(Operation[None], frozen=True):
    """A bug of ours."""

    sql: str = ""

    def apply(self, tx: Transaction) -> None:
        if self.sql:
            tx.execute(self.sql)
        raise ZeroDivisionError("a bug")


class Full(Operation[None], frozen=True):
    """From here on the database cannot grow."""

    pages: int

    def apply(self, tx: Transaction) -> None:
        tx.execute(f"PRAGMA max_page_count = {self.pages}")


def remember(text: str) -> Remember:
    return Remember(message=text, records=((1.0, b"{}"),))


@contextmanager
def failing_sync() -> Iterator[None]:
    real = os.fdatasync

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    os.fdatasync = fail
    try:
        yield
    finally:
        os.fdatasync = real


def test_a_unit_that_fails_fails_alone(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        submit = state.database.submit
        outcomes = await asyncio.gather(
            submit(remember("a")),
            submit(remember("b"), Broken()),
            submit(remember("c"), Broken("INSERT INTO domain VALUES ('two.example', 't', 1)")),
            submit(remember("d"), Broken("SELECT no such column")),
            submit(Append(account=5, mailbox=0, content=state.content(), internal_date=NOW)),
            submit(remember("e")),
            return_exceptions=True,
        )
        kinds = [type(outcome).__name__ for outcome in outcomes]
        assert kinds == [
            "list",
            "ZeroDivisionError",
            "ConstraintError",
            "SQLError",
            "StateError",
            "list",
        ]
        kept = {name for name in "abcde" if state.queue.history(name)}
        assert kept == {"a", "e"}

    run(tmp_path, scenario)


def test_a_full_disk_defers_and_nothing_is_half_done(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        before = state.store.mailboxes(BOB)
        await state.database.submit(Full(1))
        big = b"x" * 200_000
        with pytest.raises(Unavailable):
            await state.database.submit(Remember(message="m", records=((1.0, big),)))
        assert state.store.mailboxes(BOB) == before and state.queue.history("m") == []
        await state.database.submit(Full(1 << 30))
        await state.database.submit(Remember(message="m", records=((1.0, big),)))
        assert (await state.append()).uid == 1

    run(tmp_path, scenario)


def test_a_disk_that_takes_no_more_octets_defers_and_the_server_goes_on(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"first")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        wal = (state.data_dir / "postroad.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal, limit[1]))
        try:
            outcomes = await asyncio.gather(
                *(state.append(b"%d" % number) for number in range(5)), return_exceptions=True
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert (await state.append(b"second")).uid == 2
        (rows,) = state.store.messages(BOB, INBOX, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"first", b"second"]

    run(tmp_path, scenario)


def test_a_pack_that_does_not_sync_takes_its_mail_back(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"first")
        content = state.content(b"lost")
        unit = (
            Append(account=BOB, mailbox=0, content=content, internal_date=NOW, delivery_id="m1"),
            Enqueue(
                message="m1",
                blob=content.blob,
                head=b"",
                size=4,
                reverse_path="",
                recipients=(QueuedPath(path="x@y.example", domain="y.example"),),
                accepted=NOW,
                expires=NOW,
            ),
        )
        with failing_sync():
            lost, kept = await asyncio.gather(
                state.database.submit(*unit),
                state.database.submit(remember("m2")),
                return_exceptions=True,
            )
        assert isinstance(lost, Unavailable) and kept == [None]
        assert list(state.queue.messages()) == [] and state.queue.history("m2")
        changes = state.store.changes(BOB, INBOX, 0)
        assert changes is not None
        assert [row.uid for row in changes.changed] == [1] and list(changes.vanished) == [2]
        with pytest.raises(Unavailable, match="stored anew"):
            await state.database.submit(*unit)  # its octets may be gone, whatever a sync now says
        blob = state.content(b"lost").blob
        fresh = (
            msgspec.structs.replace(unit[0], content=state.content(b"lost")),
            msgspec.structs.replace(unit[1], blob=blob),
        )
        done, _ = await state.database.submit(*fresh)
        assert done.uid == 3, "the same delivery, tried again, is done"
        assert [item.message for item in state.queue.messages()] == ["m1"]

    run(tmp_path, scenario)


def test_octets_written_before_a_failed_sync_are_not_believed_after_it(tmp_path: Path) -> None:
    """The kernel reports a failed write-back once and then calls the pages clean."""

    async def scenario(state: State) -> None:
        early = state.content(b"appended before, submitted after")
        with failing_sync(), pytest.raises(Unavailable):
            await state.append(b"meets the failure")
        with pytest.raises(Unavailable, match="stored anew"):
            await state.database.submit(
                Append(account=BOB, mailbox=0, content=early, internal_date=NOW)
            )
        assert (await state.append(b"appended after")).uid > 0
        (rows,) = state.store.messages(BOB, INBOX, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"appended after"]

    run(tmp_path, scenario)


def test_units_are_applied_in_order_and_callers_may_leave(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        gone = asyncio.create_task(state.append(b"gone"))
        await asyncio.sleep(0)
        gone.cancel()
        rest = await asyncio.gather(*(state.append(b"%d" % number) for number in range(10)))
        assert [done.uid for done in rest] == list(range(2, 12))
        with pytest.raises(asyncio.CancelledError):
            await gone

    run(tmp_path, scenario)


def test_a_subscriber_with_a_bug_keeps_nobody_from_an_answer(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: reported.append(context["exception"])
        )

        def broken(notice: object) -> None:
            raise ZeroDivisionError

        state.database.subscribe(BOB, broken)
        assert [(await state.append()).uid for _ in range(2)] == [1, 2]
        assert [type(error) for error in reported] == [ZeroDivisionError] * 2

    run(tmp_path, scenario)


def test_a_snapshot_sees_one_commit(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        def count() -> int:
            row = state.database.first("SELECT count(*) FROM message")
            assert row is not None
            return int(row[0])

        with state.database.snapshot():
            assert count() == 0
            pending = asyncio.ensure_future(state.append())
            await pending
            with state.database.snapshot():
                assert count() == 0
        assert count() == 1

    run(tmp_path, scenario)


def test_threads_read_on_connections_of_their_own(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()

        def read() -> int:
            ((row,),) = state.store.messages(BOB, INBOX, ALL)
            return row.uid

        found = await asyncio.gather(*(asyncio.to_thread(read) for _ in range(8)))
        assert found == [1] * 8
        with pytest.raises(Exception, match="readonly"):
            state.database.execute("DELETE FROM message")

    run(tmp_path, scenario)


def test_one_process_writes(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        with pytest.raises(StateError, match=str(os.getpid())) as caught:
            LocalDatabase.open(state.data_dir)
        assert caught.value.fault is Fault.INUSE

    run(tmp_path, scenario)
    threads = [item.name for item in threading.enumerate() if item.name.startswith("postroad")]
    assert threads == []


def test_everything_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"

    async def scenario(state: State) -> None:
        await state.append()
        for path in (data_dir, *data_dir.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path

    run(data_dir, scenario)


def test_a_closed_database_defers(tmp_path: Path) -> None:
    async def main() -> None:
        database = LocalDatabase.open(tmp_path)
        await database.close()
        await database.close()
        with pytest.raises(Unavailable):
            await database.submit(remember("m"))
        with pytest.raises(Unavailable):
            database.first("SELECT 1")

    asyncio.run(main())


def test_data_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        database = LocalDatabase.open(tmp_path)
        assert database.first("PRAGMA user_version") == (len(migrations()),)
        await database.close()

    asyncio.run(main())
    import apsw

    connection = apsw.Connection(str(tmp_path / "postroad.db"))
    connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    connection.close()
    with pytest.raises(StateError, match="newer") as caught:
        LocalDatabase.open(tmp_path)
    assert caught.value.fault is Fault.CONFLICT
    with pytest.raises(StateError, match="newer"):
        LocalDatabase.open(tmp_path)


def test_a_stopped_database_is_one_file(tmp_path: Path) -> None:
    """Whoever copies the file of a stopped server has everything, though readers were open."""

    async def main() -> None:
        database = LocalDatabase.open(tmp_path)
        database.first("SELECT 1 FROM account")
        await database.close()

    asyncio.run(main())
    wal = tmp_path / "postroad.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0
