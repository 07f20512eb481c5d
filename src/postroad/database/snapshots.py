"""A copy of the database from before an upgrade, and the way back to it.

A migration is one transaction, so a crash leaves the old tables or the new ones, never something
between. The snapshot is for the operator who wants the old program back: its tables, as they were.
Message octets are not in it; while a snapshot is kept, nothing that it names is removed from the
packs and files, which is why it is kept for some days only.
Source: https://sqlite.org/backup.html.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from postroad.database import acknowledged
from postroad.database.connection import DATABASE_NAME, PAGE_OCTETS
from postroad.database.packs import sync_directory
from postroad.mail.errors import Fault, StateError, Unavailable

FOLDER = "snapshots"
SNAPSHOTS_KEPT = 2
KEPT_S = 7 * 86400
"""An upgrade that went wrong is noticed within days; until then its garbage costs space."""
FREE_OCTETS_MIN = 64 << 20
"""What must be left on the disk beside the copy."""
_STEP_PAGES = (8 << 20) // PAGE_OCTETS
_NAME = re.compile(r"before-(\d{4})\.db")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFile:
    """version: of the tables in it, the one before the migration that it is named for."""

    path: Path
    version: int
    octets: int
    made: float


def snapshots(data_dir: Path) -> list[SnapshotFile]:
    """Newest first."""
    found = []
    for path in (data_dir / FOLDER).glob("before-*.db"):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            about = path.stat()
            found.append(
                SnapshotFile(
                    path=path,
                    version=int(name[1]) - 1,
                    octets=about.st_size,
                    made=about.st_mtime,
                )
            )
    return sorted(found, key=lambda item: (item.made, item.version), reverse=True)


def take_snapshot(connection: apsw.Connection, data_dir: Path, version: int) -> Path:
    """Copies the database as it is, under the lock, before tables of `version` become newer ones.

    Raises: Unavailable when there is no room for it; apsw.Error, OSError.
    """
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob("*.part*"):
        left.unlink()
    pages, page_octets = _pragma(connection, "page_count"), _pragma(connection, "page_size")
    needed = pages * page_octets + FREE_OCTETS_MIN
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unavailable(
            f"the tables are to be upgraded, and the copy that is made before needs {needed >> 20}"
            f" MB where {free >> 20} MB are free in {folder}. Free some space and start again"
        )
    path = folder / f"before-{version + 1:04d}.db"
    part = path.with_suffix(".part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    copy = apsw.Connection(str(part))
    try:
        with copy.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(_STEP_PAGES)
        copy.pragma("journal_mode", "delete")
    finally:
        copy.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(folder)
    _keep_newest(data_dir)
    return path


def _pragma(connection: apsw.Connection, name: str) -> int:
    value = connection.pragma(name)
    assert isinstance(value, int)
    return value


def _keep_newest(data_dir: Path) -> None:
    for old in snapshots(data_dir)[SNAPSHOTS_KEPT:]:
        old.path.unlink()


def prune(data_dir: Path, now: float) -> int:
    """Removes snapshots that have been kept long enough; returns how many. Raises: OSError."""
    count = 0
    for item in snapshots(data_dir):
        if item.made < now - KEPT_S:
            item.path.unlink()
            count += 1
    return count


def are_kept(data_dir: Path) -> bool:
    """Whether octets that no row names may still be named by a snapshot."""
    return any(True for _ in (data_dir / FOLDER).glob("before-*.db"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """version: of the tables now. kept: the newer database, put aside. lost: how many contents
    have come since the snapshot and are in that one alone."""

    version: int
    kept: Path
    lost: int


def roll_back(data_dir: Path) -> RolledBack:
    """Puts the newest snapshot in the place of the database. The caller holds the lock.

    Killed at any moment, the database is the one or the other.
    Raises: StateError (NONEXISTENT: there is none; CONFLICT: it is not whole; INUSE), apsw.Error,
    OSError.
    """
    found = snapshots(data_dir)
    if not found:
        raise StateError(Fault.NONEXISTENT, "there is no snapshot to go back to")
    newest = found[0]
    database = data_dir / DATABASE_NAME
    before = _state(newest.path)
    now = _state(database)  # also copies its WAL, and removes that on closing
    if before.version != newest.version or before.version >= now.version:
        raise StateError(Fault.CONFLICT, f"{newest.path} is not older than the database")
    for suffix in ("-wal", "-shm"):
        if Path(f"{database}{suffix}").exists():
            raise StateError(Fault.INUSE, "another process reads the database: stop it first")
    fresh = data_dir / f"{DATABASE_NAME}.new"
    shutil.copyfile(newest.path, fresh)
    fresh.chmod(0o600)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    kept = _unused(data_dir / FOLDER, now.version)
    kept.hardlink_to(database)
    sync_directory(kept.parent)
    fresh.rename(database)
    acknowledged.forget(data_dir)
    sync_directory(data_dir)
    return RolledBack(version=before.version, kept=kept, lost=now.contents - before.contents)


def _unused(folder: Path, version: int) -> Path:
    """A name for the database that is put aside."""
    names: Iterator[Path] = (
        folder / f"after-{version:04d}{f'-{number}' if number else ''}.db" for number in range(1000)
    )
    return next(path for path in names if not path.exists())


@dataclass(frozen=True, slots=True)
class _State:
    version: int
    contents: int


def _state(path: Path) -> _State:
    """Version and newest content of a database that is whole. Raises: StateError(CONFLICT)."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        ((text,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
        if text != "ok":
            raise StateError(Fault.CONFLICT, f"{path} is damaged: {text}")
        row = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'content'"
        ).fetchone()
        return _State(_pragma(connection, "user_version"), int(row[0]) if row else 0)
    finally:
        connection.close()
