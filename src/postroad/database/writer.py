"""The one writer: units of work become groups, a group is one commit.

Units that come while a commit runs wait; then all of them (to a bound) are applied, each in a
savepoint of one transaction, and committed together. Beside the commit, the packs that they name
are synced; a unit is answered when both are done. So the cost of a sync is shared by all who
wait, and a lone unit waits for nobody.

Short units are applied on the loop's thread, long ones on the writer's; commits and syncs run on
threads always. A thread that applied every statement itself would need the interpreter lock
twenty times for each unit, and wait 5 ms for it each time while the loop is busy (decision 5).

Four instants of a unit: *waiting*, *applied* (in the open transaction; a crash forgets it),
*committed* (in the WAL, its octets perhaps not durable: recovery removes it if they are not),
*answered*. What was answered stays.
Source: https://sqlite.org/wal.html.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw

from postroad.database import recovery
from postroad.database.checkpoint import Checkpointer
from postroad.database.contract import Notice, Operation
from postroad.database.packs import Damaged, PackRef, pack_path, parse_ref
from postroad.database.threads import Threads
from postroad.database.transaction import WriteTransaction
from postroad.mail.errors import StateError, Unavailable

GROUP_UNITS_MAX = 64
"""Applied on the loop in one go: some 4 ms."""
GROUP_OPERATIONS_MAX = 256
UNIT_OPERATIONS_SHORT = 32
"""A unit of more operations is applied on the writer's thread."""
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
"""Called on the loop with the units of one group, all settled, and its notices."""


class Unit:
    """Operations that are applied together, and then what came of them."""

    __slots__ = ("blobs", "client", "error", "operations", "results")

    def __init__(self, operations: Sequence[Operation[Any]], client: object) -> None:
        self.operations = operations
        self.client = client
        self.results: list[Any] = []
        self.error: BaseException | None = None
        self.blobs: list[str] = []


class _Group:
    """Units on their way through one transaction."""

    __slots__ = ("error", "failed", "left", "tx", "units")

    def __init__(self, units: list[Unit], tx: WriteTransaction) -> None:
        self.units = units
        self.tx = tx
        self.left = 0
        """Of commit and syncs, how many have not ended."""
        self.error: Exception | None = None
        self.failed: dict[int, Exception] = {}
        """Packs that did not sync."""


class PackFiles:
    """Descriptors of the packs that were named last."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fds: dict[int, int] = {}

    def fd(self, pack: int) -> int:
        """Raises: OSError."""
        fd = self._fds.pop(pack, -1)
        if fd < 0:
            fd = os.open(pack_path(self._data_dir, pack), os.O_RDWR | os.O_CLOEXEC)
            self._drop_removed()
        self._fds[pack] = fd
        return fd

    def _drop_removed(self) -> None:
        """Packs that were compacted away: they take their space until nobody has them open."""
        for pack, fd in list(self._fds.items()):
            if os.fstat(fd).st_nlink == 0:
                os.close(self._fds.pop(pack))

    def trim(self) -> None:
        """While nothing is being synced."""
        while len(self._fds) > PACK_FDS_MAX:
            os.close(self._fds.pop(next(iter(self._fds))))

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class Writer:
    """Owns the writing connection. All methods are called on the loop's thread; the connection
    is used by one thread at a time, the loop's or the writer's."""

    def __init__(self, data_dir: Path, connection: apsw.Connection, answer: Answer) -> None:
        self._connection = connection
        self._answer = answer
        self._waiting: deque[Unit] = deque()
        self._busy = False
        self._idle = asyncio.Event()
        self._packs = PackFiles(data_dir)
        self._doubtful: dict[int, int] = {}
        """Packs of which a sync failed, and up to where: the kernel may have dropped what it could
        not write and calls it clean, so a later sync that succeeds says nothing about it."""
        self._marks = recovery.Marks(connection, data_dir)
        self._checkpointer = Checkpointer(data_dir, connection)
        self._thread = Threads(1, "postroad-writer")
        self._sync_threads = Threads(SYNC_THREADS, "postroad-sync")

    def submit(self, unit: Unit) -> None:
        """The unit comes back through `answer`."""
        self._waiting.append(unit)
        if not self._busy:
            self._busy = True
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._begin)

    def waiting(self) -> int:
        return len(self._waiting)

    async def close(self) -> None:
        """Finishes what waits, then stops."""
        while self._busy:
            await self._idle.wait()
        self._marks.write_at_close()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.close()
        self._sync_threads.close()
        self._checkpointer.close()
        self._checkpointer.finish()
        self._packs.close()
        self._connection.close()

    # -- one group ----------------------------------------------------------------------------

    def _begin(self) -> None:
        """Takes what waits and applies it, here or on the writer's thread."""
        group = _Group([], WriteTransaction(self._connection))
        count = 0
        is_long = False
        while self._waiting and len(group.units) < GROUP_UNITS_MAX:
            operations = self._waiting[0].operations
            count += len(operations)
            if group.units and count > GROUP_OPERATIONS_MAX:
                break
            is_long = (
                is_long
                or len(operations) > UNIT_OPERATIONS_SHORT
                or any(operation.is_long() for operation in operations)
            )
            group.units.append(self._waiting.popleft())
        if not group.units:
            self._busy = False
            self._idle.set()
        elif is_long:
            self._thread.run(lambda: self._apply_all(group), lambda error: self._commit(group))
        else:
            self._apply_all(group)
            self._commit(group)

    def _apply_all(self, group: _Group) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for unit in group.units:
                self._apply(group.tx, unit)
            self._marks.write()
        except Exception as error:
            group.error = error

    def _apply(self, tx: WriteTransaction, unit: Unit) -> None:
        mark = tx.mark()
        try:
            for operation in unit.operations:
                unit.results.append(operation.apply(tx))
            unit.blobs = tx.blobs[mark[1] :]
            self._check_packs(unit.blobs)
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

    def _check_packs(self, blobs: list[str]) -> None:
        """Raises: Damaged (no reference), Unavailable (octets that may never reach the disk)."""
        for blob in blobs:
            ref = parse_ref(blob)
            if isinstance(ref, PackRef) and ref.offset < self._doubtful.get(ref.pack, 0):
                raise Unavailable(f"pack {ref.pack} did not sync: the message must be stored anew")

    def _commit(self, group: _Group) -> None:
        """Starts the commit and the syncs beside it."""
        if group.error is not None:
            self._give_up(group)
            return
        packs: dict[int, int] = {}
        for ref in _pack_refs(group.tx.blobs):
            if ref.pack not in packs and ref.pack not in group.failed:
                try:
                    packs[ref.pack] = self._packs.fd(ref.pack)
                except OSError as error:
                    group.failed[ref.pack] = error
        irrevocable = any(map(_is_irrevocable, group.units))
        if irrevocable and group.failed:
            group.error = next(iter(group.failed.values()))
            self._give_up(group)
            return
        commits_last = irrevocable and bool(packs)
        group.left = len(packs) + (not commits_last)

        def committed(error: Exception | None) -> None:
            group.error = error
            self._part_done(group)

        def commit() -> None:
            self._thread.run(lambda: _execute(self._connection, "COMMIT"), committed)

        def synced(pack: int, error: Exception | None) -> None:
            if error is not None:
                group.failed[pack] = error
                self._doubtful[pack] = os.fstat(packs[pack]).st_size
            if commits_last and group.left == 1:
                self._syncs_done(group, commit)
            else:
                self._part_done(group)

        for pack, fd in packs.items():
            self._sync_threads.run(_sync(fd), _for_pack(synced, pack))
        if not commits_last:
            commit()

    def _syncs_done(self, group: _Group, commit: Callable[[], None]) -> None:
        """Of a group that commits after its syncs: all of it, or, if one failed, nothing."""
        if group.failed:
            group.left = 0
            group.error = next(iter(group.failed.values()))
            self._give_up(group)
        else:
            commit()  # counts down the last part when it is done

    def _part_done(self, group: _Group) -> None:
        group.left -= 1
        if group.left:
            return
        self._packs.trim()
        if group.error is not None:
            self._give_up(group)
        elif group.failed:
            self._thread.run(lambda: self._withdraw(group), lambda error: self._settle(group))
        else:
            self._marks.advance()
            self._settle(group)

    def _give_up(self, group: _Group) -> None:
        """The transaction cannot be committed: nothing of the group is done."""
        self._roll_back()
        self._marks.forget()
        error = group.error
        assert error is not None
        known = isinstance(error, apsw.Error | OSError)
        for unit in group.units:
            unit.results = []
            if not isinstance(unit.error, StateError):
                unit.error = Unavailable(f"database: {error}") if known else error
        group.tx.notices.clear()
        self._settle(group)

    def _settle(self, group: _Group) -> None:
        """Answers the group and goes on."""
        try:
            self._answer(group.units, _newest_of_each(group.tx.notices))
        finally:
            if self._checkpointer.wants_restart():
                self._thread.run(self._checkpointer.restart, lambda error: self._begin())
            else:
                asyncio.get_running_loop().call_soon(self._begin)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error:
                # SQLite has rolled back by itself, as it does when the disk fails in a statement.
                assert not self._connection.in_transaction

    def _withdraw(self, group: _Group) -> None:
        """The commit stands, octets of some units may not: takes those units' mail out again."""
        lost: set[str] = set()
        for unit in group.units:
            for ref in _pack_refs(unit.blobs):
                if ref.pack in group.failed:
                    unit.error = Unavailable(f"pack {ref.pack}: {group.failed[ref.pack]}")
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
        else:
            self._marks.advance()
            group.tx.notices += tx.notices


def _is_irrevocable(unit: Unit) -> bool:
    """Whether it names octets and does something that taking its mail out again leaves done."""
    return bool(unit.blobs) and any(item.is_irrevocable() for item in unit.operations)


def _execute(connection: apsw.Connection, sql: str) -> None:
    connection.execute(sql)


def _for_pack(
    synced: Callable[[int, Exception | None], None], pack: int
) -> Callable[[Exception | None], None]:
    return lambda error: synced(pack, error)


def _sync(fd: int) -> Callable[[], None]:
    return lambda: os.fdatasync(fd)


def _newest_of_each(notices: list[Notice]) -> list[Notice]:
    """One notice of a kind is enough of a group."""
    newest = {(item.topic, item.account, item.mailbox, item.subject): item for item in notices}
    return list(newest.values())


def _pack_refs(blobs: Iterable[str]) -> Iterable[PackRef]:
    for blob in blobs:
        ref = parse_ref(blob)
        if isinstance(ref, PackRef):
            yield ref
