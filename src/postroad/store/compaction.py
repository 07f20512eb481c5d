"""Packs give back what nobody names, while the server serves.

A pack that nobody adds to and that has not changed for an hour is *sealed*. If less than a share of
it is live, its live records are copied, octet for octet and checked, to the end of the compactor's
own pack; `Relocate` lets the rows name the copies; and when for some minutes nobody can hold an old
reference any more, and no row does, the file goes.

At every instant each row names a record that is there: copies are durable before rows name them,
and the old file goes after. A crash leaves copies that nobody names, or a pack that is all garbage:
both are seen to by the next round. A record that does not pass its checksum stays where it is, and
its pack with it. The highest number stays too, so that no number is given out again.

Units of work under way may name a record that no row names yet. They last minutes at most, and the
pack that they name was being added to: it is no candidate for an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from postroad.database import snapshots
from postroad.database.contract import Database
from postroad.database.packs import (
    Damaged,
    PackRef,
    check_record,
    pack_path,
    parse_ref,
    sync_directory,
)
from postroad.mail.errors import Unavailable
from postroad.store.appending import PackAppender
from postroad.store.upkeep import MOVES_MAX, Relocate

LOCK = "compaction.lock"
PAGE_ROWS = 2000
LOOKED_AT_MAX = 64
"""Packs whose rows are counted in one round: of 256 MB each some 100 ms; the next round goes on."""
BATCH_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """live_share: a pack that is live to a smaller share is rewritten. octets_per_second: of
    reading and writing together."""

    live_share: float = 0.6
    octets_per_second: int = 8 << 20
    age_s: float = 3600.0
    grace_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackStatus:
    """in_use: a process adds to it. live, records: octets and number of what rows name."""

    pack: int
    octets: int
    live: int
    records: int
    in_use: bool
    age_s: float


@dataclass(slots=True)
class Compacted:
    """What a round did. damaged: (reference, fault) of records that stayed where they are.
    held: nothing was done, since a copy of the database from before an upgrade names old packs."""

    packs: int = 0
    records: int = 0
    copied: int = 0
    removed: int = 0
    freed: int = 0
    held: bool = False
    damaged: list[tuple[str, str]] = field(default_factory=list)


class Busy(Unavailable):
    """Another process compacts, or holds the packs still."""


@contextlib.contextmanager
def packs_held(data_dir: Path) -> Iterator[None]:
    """While this is held no pack is removed: whoever copies them needs it. Blocks for as long as
    a compactor is at work; several may hold it. Raises: OSError."""
    fd = os.open(data_dir / "packs" / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Raises: Busy, OSError."""
    fd = os.open(data_dir / "packs" / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy("another process compacts the packs, or copies them") from error
        yield
    finally:
        os.close(fd)


class Reads(Protocol):
    def execute(self, sql: str, params: Any = ()) -> Iterator[tuple[Any, ...]]: ...


def pack_numbers(data_dir: Path) -> list[int]:
    """Ascending."""
    return sorted(
        int(path.name[:-5])
        for path in (data_dir / "packs").glob("*.pack")
        if path.name[:-5].isdigit()
    )


def live_records(database: Reads, pack: int) -> Iterator[list[str]]:
    """References to records of the pack that rows name, each once, some thousand at a time."""
    after, end = f"p{pack}:", f"p{pack};"
    while True:
        rows = [
            blob
            for (blob,) in database.execute(
                "SELECT blob FROM content WHERE blob > ?1 AND blob < ?2"
                " UNION SELECT blob FROM queue_message WHERE blob > ?1 AND blob < ?2"
                " ORDER BY blob LIMIT ?3",
                (after, end, PAGE_ROWS),
            )
        ]
        if rows:
            yield rows
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1]


def status_of(database: Reads, data_dir: Path, pack: int, now: float) -> PackStatus | None:
    """None when the pack is not there. Blocks. Raises: OSError, Unavailable."""
    path = pack_path(data_dir, pack)
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    live = records = 0
    for blobs in live_records(database, pack):
        records += len(blobs)
        for blob in blobs:
            with contextlib.suppress(Damaged):
                ref = parse_ref(blob)
                live += ref.stored if isinstance(ref, PackRef) else 0
    return PackStatus(
        pack=pack,
        octets=found.st_size,
        live=live,
        records=records,
        in_use=not _is_free(path),
        age_s=now - found.st_mtime,
    )


def _is_free(path: Path) -> bool:
    """Whether no process adds to the pack."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class Compactor:
    """One in a process, used by one task. Its pack stays open between rounds."""

    def __init__(self, database: Database, data_dir: Path, rules: Rules) -> None:
        self._database = database
        self._data_dir = data_dir
        self.rules = rules
        self._appender = PackAppender(data_dir, reuse=False)
        self._emptied: dict[int, float] = {}
        """Packs that no row names, and when that was first seen."""
        self._next = 0

    def close(self) -> None:
        self._appender.close()

    @property
    def waits(self) -> bool:
        """Whether there are emptied packs to remove once the grace has passed."""
        return bool(self._emptied)

    async def round(self, now: float, *, packs_max: int = LOOKED_AT_MAX) -> Compacted:
        """Removes what was emptied long enough ago, then rewrites what is worth it.

        Raises: Busy, Unavailable, OSError; what was done until then stands.
        """
        done = Compacted()
        if snapshots.are_kept(self._data_dir):
            done.held = True
            return done
        with _alone(self._data_dir):
            await asyncio.to_thread(self._remove_emptied, now, done)
            for pack in await asyncio.to_thread(self._turn, packs_max):
                status = await asyncio.to_thread(
                    status_of, self._database, self._data_dir, pack, now
                )
                if status is not None and self._is_worth(status):
                    await self._rewrite(status, now, done)
        return done

    async def retire(self, now: float) -> Compacted:
        """Only removes what was emptied at least a grace ago. Raises: as `round`."""
        done = Compacted()
        if snapshots.are_kept(self._data_dir):
            return done
        with _alone(self._data_dir):
            await asyncio.to_thread(self._remove_emptied, now, done)
        return done

    def _turn(self, packs_max: int) -> list[int]:
        """The packs whose turn it is, all but the highest."""
        numbers = pack_numbers(self._data_dir)[:-1]
        own = self._appender.pack
        numbers = [pack for pack in numbers if pack != own and pack not in self._emptied]
        numbers = [pack for pack in numbers if pack >= self._next] + [
            pack for pack in numbers if pack < self._next
        ]
        chosen = numbers[:packs_max]
        self._next = chosen[-1] + 1 if chosen else 0
        return chosen

    def _is_worth(self, status: PackStatus) -> bool:
        if status.in_use or status.age_s < self.rules.age_s:
            return False
        return not status.live or status.live < status.octets * self.rules.live_share

    # -- rewriting ----------------------------------------------------------------------------

    async def _rewrite(self, status: PackStatus, now: float, done: Compacted) -> None:
        damaged = len(done.damaged)
        path = pack_path(self._data_dir, status.pack)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Held until all is moved: nobody takes the pack over meanwhile.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_mtime > now - self.rules.age_s:
                return  # somebody had it for a moment
            refs = await asyncio.to_thread(self._live, status.pack, done)
            done.packs += 1
            at = 0
            while at < len(refs):
                octets = 0
                begin = at
                while at < len(refs) and at - begin < MOVES_MAX and octets < BATCH_OCTETS:
                    octets += refs[at].stored
                    at += 1
                await self._move(fd, refs[begin:at], done)
                await asyncio.sleep(2 * octets / self.rules.octets_per_second)
        except BlockingIOError:
            return  # somebody took it over just now
        finally:
            os.close(fd)
        if len(done.damaged) == damaged:
            self._emptied[status.pack] = now

    def _live(self, pack: int, done: Compacted) -> list[PackRef]:
        """The live records in the order of the file."""
        refs = []
        for blobs in live_records(self._database, pack):
            for blob in blobs:
                try:
                    ref = parse_ref(blob)
                except Damaged as error:
                    done.damaged.append((blob, str(error)))
                    continue
                if isinstance(ref, PackRef):
                    refs.append(ref)
        refs.sort(key=lambda ref: ref.offset)
        return refs

    async def _move(self, fd: int, refs: list[PackRef], done: Compacted) -> None:
        moves = await asyncio.to_thread(self._copy, fd, refs, done)
        if moves:
            await self._database.submit(Relocate(moves=tuple(moves)))
            done.records += len(moves)

    def _copy(self, fd: int, refs: list[PackRef], done: Compacted) -> list[tuple[str, str]]:
        moves = []
        for ref in refs:
            try:
                record = os.pread(fd, ref.stored, ref.offset)
                kind, stored, sha256 = check_record(record, ref)
            except (Damaged, OSError) as error:
                done.damaged.append((str(ref), str(error)))
                continue
            new = self._appender.append(kind, stored, ref.size, sha256)
            moves.append((str(ref), str(new)))
            done.copied += ref.stored
        return moves

    # -- removing -----------------------------------------------------------------------------

    def _remove_emptied(self, now: float, done: Compacted) -> None:
        for pack, since in list(self._emptied.items()):
            if now < since + self.rules.grace_s:
                continue
            del self._emptied[pack]
            self._remove(pack, now, done)

    def _remove(self, pack: int, now: float, done: Compacted) -> None:
        """Looks once more: what has come to name the pack meanwhile keeps it for another round."""
        if pack >= max(pack_numbers(self._data_dir), default=0):
            return
        path = pack_path(self._data_dir, pack)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(fd)
            if found.st_mtime > now - self.rules.age_s:
                return
            if next(live_records(self._database, pack), None) is not None:
                return
            path.unlink()
            sync_directory(path.parent)
            done.removed += 1
            done.freed += found.st_size
        except BlockingIOError:
            return  # taken over: it is no candidate for an hour
        finally:
            os.close(fd)
