"""The one writer: units of work become groups, a group is one commit.

The writer's thread takes every unit that waits (to a bound), applies each in a savepoint of one
transaction, and commits. Beside the commit, the packs that the units name are synced; a unit is
answered when both are done. So the cost of a sync is shared by all who wait, and a lone unit
waits for nobody.

Four instants of a unit: *waiting* (in `_waiting`), *applied* (in the open transaction; a crash
forgets it), *committed* (in the WAL, its octets perhaps not durable: recovery removes it if they
are not), *answered*. What was answered stays.
Source: https://sqlite.org/wal.html; decision 0101.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import apsw

from postroad.database import recovery
from postroad.database.checkpoint import Checkpointer
from postroad.database.contract import Notice, Operation
from postroad.database.packs import Damaged, PackRef, pack_path, parse_ref
from postroad.database.transaction import WriteTransaction
from postroad.mail.errors import StateError, Unavailable

GROUP_UNITS_MAX = 256
"""Bounds the wait of the first unit of a group: some 20 ms of work."""
GROUP_OPERATIONS_MAX = 2_000
"""A unit may be long by itself; a group does not gather many such."""
PACK_FDS_MAX = 64
SYNC_THREADS = 4

DISK_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.InterruptError,
    apsw.PermissionsError,
    apsw.ProtocolError,
)
"""These say something of the disk, not of the operation: the whole group is given up."""

Answer = Callable[[list["Unit"], list[Notice]], None]
"""Called on the writer's thread with the units of one group, all settled, and its notices."""


class Unit:
    """Operations that are applied together, and then what came of them."""

    __slots__ = ("blobs", "client", "error", "operations", "results")

    def __init__(self, operations: Sequence[Operation[Any]], client: object) -> None:
        self.operations = operations
        self.client = client
        self.results: list[Any] = []
        self.error: BaseException | None = None
        self.blobs: list[str] = []


class PackSyncer:
    """Makes the octets of packs durable, several packs at once, on helper threads."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fds: dict[int, int] = {}
        self._threads = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="postroad-sync")

    def _sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def begin(self, packs: Iterable[int]) -> dict[int, Future[None]]:
        """Starts one sync for each pack. A file of its own is durable since `Draft.commit`."""
        started: dict[int, Future[None]] = {}
        for pack in packs:
            fd = self._fds.pop(pack, -1)
            if fd < 0:
                try:
                    fd = os.open(pack_path(self._data_dir, pack), os.O_RDWR | os.O_CLOEXEC)
                except OSError as error:
                    failed: Future[None] = Future()
                    failed.set_exception(error)
                    started[pack] = failed
                    continue
            self._fds[pack] = fd
            started[pack] = self._threads.submit(self._sync, fd)
        return started

    def finish(self, started: dict[int, Future[None]]) -> dict[int, OSError]:
        """Waits for all; which packs failed, and why."""
        failed: dict[int, OSError] = {}
        for pack, future in started.items():
            try:
                future.result()
            except OSError as error:
                failed[pack] = error
        while len(self._fds) > PACK_FDS_MAX:
            os.close(self._fds.pop(next(iter(self._fds))))
        return failed

    def close(self) -> None:
        self._threads.shutdown()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class Writer:
    """Owns the writing connection and the thread that uses it."""

    def __init__(self, data_dir: Path, connection: apsw.Connection, answer: Answer) -> None:
        self._connection = connection
        self._answer = answer
        self._waiting: SimpleQueue[Unit | None] = SimpleQueue()
        self._syncer = PackSyncer(data_dir)
        self._marks = recovery.Marks(connection)
        self._checkpointer = Checkpointer(data_dir, connection)
        self._thread = Thread(target=self._run, name="postroad-writer", daemon=True)
        self._thread.start()

    def submit(self, unit: Unit) -> None:
        """From any thread. The unit comes back through `answer`."""
        self._waiting.put(unit)

    def waiting(self) -> int:
        return self._waiting.qsize()

    def close(self) -> None:
        """Finishes what waits, then stops. Blocks."""
        self._waiting.put(None)
        self._thread.join()

    # -- the writer's thread ------------------------------------------------------------------

    def _run(self) -> None:
        stopping = False
        while not stopping:
            first = self._waiting.get()
            group: list[Unit] = []
            count = 0
            while True:
                if first is None:
                    stopping = True
                    break
                group.append(first)
                count += len(first.operations)
                if len(group) >= GROUP_UNITS_MAX or count >= GROUP_OPERATIONS_MAX:
                    break
                try:
                    first = self._waiting.get_nowait()
                except Empty:
                    break
            if group:
                self._answer(group, self._serve(group))
                self._checkpointer.after_commit()
        self._marks.write_at_close()
        self._checkpointer.close()
        self._syncer.close()
        self._connection.close()

    def _serve(self, group: list[Unit]) -> list[Notice]:
        """Applies and commits one group; afterwards each unit has results or an error."""
        tx = WriteTransaction(self._connection)
        started: dict[int, Future[None]] = {}
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for unit in group:
                self._apply(tx, unit)
            self._marks.write()
            started = self._syncer.begin({ref.pack for ref in _pack_refs(tx.blobs)})
            self._connection.execute("COMMIT")
        except Exception as error:
            self._syncer.finish(started)
            self._roll_back()
            self._marks.forget()
            known = isinstance(error, apsw.Error)
            for unit in group:
                if not isinstance(unit.error, StateError):
                    unit.error = Unavailable(f"database: {error}") if known else error
            return []
        failed = self._syncer.finish(started)
        if failed:
            return _newest_of_each(tx.notices + self._withdraw(group, failed))
        self._marks.advance()
        return _newest_of_each(tx.notices)

    def _apply(self, tx: WriteTransaction, unit: Unit) -> None:
        mark = tx.mark()
        try:
            for operation in unit.operations:
                unit.results.append(operation.apply(tx))
            unit.blobs = tx.blobs[mark[1] :]
            for blob in unit.blobs:
                parse_ref(blob)
        except DISK_ERRORS:
            raise
        except Damaged as error:
            unit.error = Unavailable(str(error))
        except Exception as error:
            unit.error = error  # refused (StateError), or a bug that its caller shall see
        if unit.error is None:
            tx.keep()
        else:
            tx.back_to(mark)
            unit.results = []

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error:
                # SQLite has rolled back by itself, as it does when the disk fails in a statement.
                assert not self._connection.in_transaction

    def _withdraw(self, group: list[Unit], failed: dict[int, OSError]) -> list[Notice]:
        """The commit stands, octets of some units may not: takes those units' mail out again."""
        lost: set[str] = set()
        for unit in group:
            for ref in _pack_refs(unit.blobs):
                if ref.pack in failed:
                    unit.error = Unavailable(f"pack {ref.pack}: {failed[ref.pack]}")
                    unit.results = []
                    lost.update(unit.blobs)
        tx = WriteTransaction(self._connection)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            recovery.remove_lost(tx, self._marks.known, lost)
            self._connection.execute("COMMIT")
        except apsw.Error:
            # The disk is failing altogether. The mark stays where it is, so the next start looks
            # at these rows again and removes them.
            self._roll_back()
            self._marks.stop()
            return []
        self._marks.advance()
        return tx.notices


def _newest_of_each(notices: list[Notice]) -> list[Notice]:
    """One notice of a kind is enough of a group."""
    newest = {(item.topic, item.account, item.mailbox, item.subject): item for item in notices}
    return list(newest.values())


def _pack_refs(blobs: Iterable[str]) -> Iterable[PackRef]:
    for blob in blobs:
        ref = parse_ref(blob)
        if isinstance(ref, PackRef):
            yield ref
