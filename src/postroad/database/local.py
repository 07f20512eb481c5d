"""The database in the process that writes it.

Whoever holds the lock on `data_dir/lock` is the writer; there is one. Opening migrates the
tables, removes what a crash left without octets, and starts the writer's thread.
Reads run on the caller's thread, on a connection of that thread; writes go to `writer.Writer`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from postroad.database.connection import open_writer, prepare_directory
from postroad.database.contract import Notice, Operation, Row, SQLValue, Unsubscribe
from postroad.database.packs import sync_directory
from postroad.database.reading import Reader, Snapshot
from postroad.database.recovery import Recovered, recover
from postroad.database.schema import migrate
from postroad.database.subscribers import Subscribers
from postroad.database.writer import Unit, Writer
from postroad.mail.errors import Fault, StateError, Unavailable

LOCK_NAME = "lock"
WAITING_UNITS_MAX = 20_000
"""Past this a new unit is answered Unavailable: the disk has stopped, and callers defer."""


def take_lock(data_dir: Path) -> int:
    """The descriptor that holds the lock. Raises: StateError(INUSE) naming the holder."""
    fd = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StateError(
            Fault.INUSE, f"{data_dir} is in use by process {holder}: stop it first"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


class LocalDatabase:
    """Implements `contract.Database`. Made anywhere, then used on one loop."""

    def __init__(
        self, data_dir: Path, lock: int, connection: apsw.Connection, recovered: Recovered
    ) -> None:
        self.data_dir = data_dir
        self.recovered = recovered
        self._lock = lock
        self._reader = Reader(data_dir)
        self._subscribers = Subscribers()
        self._listeners: list[Callable[[list[Notice]], None]] = []
        self._closed = False
        self._writer = Writer(data_dir, connection, self._answer)

    @classmethod
    def open(cls, data_dir: Path) -> LocalDatabase:
        """Takes the lock, migrates, recovers, starts the writer. Blocks.

        Raises: StateError (INUSE; CONFLICT for a newer version's data), Unavailable (the disk; no
        room for the copy that is made before tables are upgraded).
        """
        prepare_directory(data_dir)
        lock = take_lock(data_dir)
        connection: apsw.Connection | None = None
        try:
            connection = open_writer(data_dir)
            sync_directory(data_dir)
            migrate(connection, data_dir)
            recovered = recover(connection, data_dir)
            return cls(data_dir, lock, connection, recovered)
        except BaseException as error:
            if connection is not None:
                connection.close()
            os.close(lock)
            if isinstance(error, apsw.Error | OSError):
                raise Unavailable(f"database in {data_dir}: {error}") from error
            raise

    async def close(self) -> None:
        """Answers what waits, copies the WAL, gives the lock back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        self._reader.close()
        os.close(self._lock)

    # -- reads --------------------------------------------------------------------------------

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        return self._reader.execute(sql, params)

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None:
        return self._reader.first(sql, params)

    def snapshot(self) -> Snapshot:
        return self._reader.snapshot()

    def subscribe(self, account: int, callback: Callable[[Notice], None]) -> Unsubscribe:
        return self._subscribers.subscribe(account, callback)

    # -- writes -------------------------------------------------------------------------------

    async def submit(self, *operations: Operation[Any]) -> list[Any]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.submit_unit(Unit(operations, future))
        return await future

    def submit_unit(self, unit: Unit) -> None:
        """`unit.client` is a future, or is called with the unit, on the loop, when it is settled.

        Raises: Unavailable when closed or overrun.
        """
        if self._closed:
            raise Unavailable("the database is closed")
        if self._writer.waiting() > WAITING_UNITS_MAX:
            raise Unavailable("too many units of work wait for the disk")
        self._writer.submit(unit)

    def listen(self, listener: Callable[[list[Notice]], None]) -> None:
        """Called on the loop with all notices of a group, before its units are answered."""
        self._listeners.append(listener)

    def _answer(self, group: list[Unit], notices: list[Notice]) -> None:
        for listener in self._listeners:
            listener(notices)
        self._subscribers.send(notices)
        for unit in group:
            client = unit.client
            if not isinstance(client, asyncio.Future):
                assert callable(client)
                client(unit)
            elif not client.done():  # its caller may have been cancelled
                if unit.error is None:
                    client.set_result(unit.results)
                else:
                    client.set_exception(unit.error)
