"""A repository of backups: packs and big files once, for every backup a copy of the rest.

    repository.json            what it is
    packs/NNNNNNNN-K.pack      octets of a pack from its beginning; K: of several of one number
    files/ab/<sha256>-N        big messages
    dictionaries/              compression dictionaries
    backups/<moment>/          postroad.db, secret.key, postroad.toml; at last manifest.json

A folder without manifest is no backup: it was cut short, and the next run removes it. What a
manifest names is never changed; packs only grow behind what is named. One process writes, under a
lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from postroad.database.packs import sync_directory
from postroad.mail.errors import Fault, StateError, Unavailable

FORMAT = 1
MANIFEST = "manifest.json"
MARK = "repository.json"
_NAME = re.compile(r"\d{8}T\d{6}Z(?:-\d+)?")
_READ_OCTETS = 1 << 20
TAIL_OCTETS = 64 << 10
"""Of a pack that are compared before it is gone on with."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A file of one backup's own folder."""

    name: str
    octets: int
    sha256: str


class KeptPack(msgspec.Struct, frozen=True, kw_only=True):
    """The first octets of a pack, as they were named by then. tail: SHA-256 of their end."""

    pack: int
    file: str
    octets: int
    tail: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """made: unix seconds of the database's copy. tables: their version. accounts, messages, queued:
    how many. files: names of big ones. new_octets: what this backup added to the repository."""

    format: int
    made: float
    version: str
    tables: int
    hostname: str
    accounts: int
    messages: int
    queued: int
    kept: list[Kept]
    packs: list[KeptPack]
    files: list[str]
    dictionaries: list[Kept]
    new_octets: int
    has_master_key: bool = False


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    path: Path
    manifest: Manifest


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Repository:
        """Raises: StateError (NONEXISTENT, CONFLICT: it holds something else), OSError."""
        mark = path / MARK
        if not mark.is_file():
            if not create:
                raise StateError(Fault.NONEXISTENT, f"there is no repository of backups in {path}")
            if path.exists() and any(path.iterdir()):
                raise StateError(
                    Fault.CONFLICT, f"{path} holds something else: name an empty directory"
                )
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            write_file(mark, msgspec.json.encode({"format": FORMAT}) + b"\n")
        else:
            _check_format(mark)
        repository = cls(path)
        for name in ("packs", "files", "dictionaries", "backups"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        return repository

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Raises: StateError(INUSE)."""
        fd = os.open(self.path / MARK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateError(
                    Fault.INUSE, f"another process is at work in {self.path}"
                ) from error
            yield
        finally:
            os.close(fd)

    def backups(self) -> list[Backup]:
        """Those that are whole, oldest first. Raises: Unavailable for one that cannot be read."""
        found = []
        for path in sorted((self.path / "backups").iterdir()):
            manifest = path / MANIFEST
            if _NAME.fullmatch(path.name) and manifest.is_file():
                try:
                    read = msgspec.json.decode(manifest.read_bytes(), type=Manifest)
                except msgspec.MsgspecError as error:
                    raise Unavailable(f"{manifest} is damaged: {error}") from error
                found.append(Backup(name=path.name, path=path, manifest=read))
        return sorted(found, key=lambda backup: (backup.manifest.made, backup.name))

    def find(self, name: str) -> Backup:
        """The backup of this name, or the newest. Raises: StateError(NONEXISTENT)."""
        backups = self.backups()
        for backup in backups:
            if backup.name == name:
                return backup
        if name or not backups:
            raise StateError(
                Fault.NONEXISTENT, f"there is no backup {name or 'yet'} in {self.path}"
            )
        return backups[-1]

    def until(self, moment: float) -> Backup:
        """The last one made at the moment or before. Raises: StateError(NONEXISTENT)."""
        before = [backup for backup in self.backups() if backup.manifest.made <= moment]
        if not before:
            raise StateError(Fault.NONEXISTENT, f"no backup in {self.path} is as old as that")
        return before[-1]

    def covering(self, moment: float) -> Backup:
        """The first one made after the moment: what was removed in between is still kept in it.
        Else the last one. Raises: StateError(NONEXISTENT)."""
        after = [backup for backup in self.backups() if backup.manifest.made >= moment]
        return after[0] if after else self.until(moment)

    # -- writing --------------------------------------------------------------------------------

    def begin(self, now: float) -> Path:
        """A folder for a new backup; what was cut short goes. The caller holds the lock."""
        folder = self.path / "backups"
        for path in (*folder.iterdir(), *self.path.glob(".check-*")):
            if not (path / MANIFEST).is_file():
                shutil.rmtree(path)
        name = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        path = folder / name
        number = 1
        while path.exists():
            number += 1
            path = folder / f"{name}-{number}"
        path.mkdir(mode=0o700)
        return path

    def named_packs(self) -> dict[str, KeptPack]:
        """File to the longest piece of it that a backup names."""
        found: dict[str, KeptPack] = {}
        for backup in self.backups():
            for pack in backup.manifest.packs:
                known = found.get(pack.file)
                if known is None or known.octets < pack.octets:
                    found[pack.file] = pack
        return found

    def prune(self, keep: int) -> tuple[list[str], int]:
        """Removes all backups but the newest, and what only they named; (names, octets freed).
        The caller holds the lock. Killed at any instant, each backup is whole or gone."""
        backups = self.backups()
        gone = backups[: max(len(backups) - max(keep, 1), 0)]
        for backup in gone:
            (backup.path / MANIFEST).unlink()
            sync_directory(backup.path)
        freed = sum(kept.octets for backup in gone for kept in backup.manifest.kept)
        for backup in gone:
            shutil.rmtree(backup.path)
        left = backups[len(gone) :]
        packs = {pack.file for backup in left for pack in backup.manifest.packs}
        files = {name for backup in left for name in backup.manifest.files}
        dictionaries = {kept.name for backup in left for kept in backup.manifest.dictionaries}
        for pattern, named in (
            ("packs/*", packs),
            ("files/??/*", files),
            ("dictionaries/*", dictionaries),
        ):
            for path in self.path.glob(pattern):
                if path.name not in named:
                    freed += path.stat().st_size
                    path.unlink()
        return [backup.name for backup in gone], freed


def _check_format(mark: Path) -> None:
    try:
        found = msgspec.json.decode(mark.read_bytes(), type=dict[str, int]).get("format", 0)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{mark} is damaged: {error}") from error
    if found != FORMAT:
        raise StateError(
            Fault.CONFLICT, f"{mark.parent} has format {found}; this program knows {FORMAT}"
        )


def write_file(path: Path, octets: bytes) -> None:
    """Whole or not at all, durable."""
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_OCTETS):
            digest.update(piece)
    return digest.hexdigest()


def tail_of(path: Path, octets: int) -> str:
    """SHA-256 of the end of a file's first octets. Raises: OSError."""
    begin = max(octets - TAIL_OCTETS, 0)
    with path.open("rb") as file:
        return hashlib.sha256(os.pread(file.fileno(), octets - begin, begin)).hexdigest()


def copy_octets(source: int, target: int, start: int, stop: int) -> None:
    """Copies a range to the same place; by the file system itself where it can. Raises: OSError."""
    at = start
    while at < stop:
        try:
            count = os.copy_file_range(source, target, min(stop - at, 1 << 30), at, at)
        except OSError:
            count = os.pwrite(target, os.pread(source, min(stop - at, _READ_OCTETS), at), at)
        if not count:
            raise OSError(5, "the file is shorter than it was")
        at += count


@contextlib.contextmanager
def view_of(repository: Repository, backup: Backup, scratch: Path) -> Iterator[Path]:
    """The backup as a data directory for reading: links to its pieces, below `scratch`."""
    view = scratch / f"view-{os.getpid()}-{backup.name}"
    shutil.rmtree(view, ignore_errors=True)
    (view / "packs").mkdir(mode=0o700, parents=True)
    try:
        root = repository.path.resolve()
        for pack in backup.manifest.packs:
            (view / "packs" / f"{pack.pack:08d}.pack").symlink_to(root / "packs" / pack.file)
        for name in ("files", "dictionaries"):
            (view / name).symlink_to(root / name)
        (view / "tmp").mkdir(mode=0o700)
        # A copy: SQLite may want to write beside it, and a backup is never touched.
        shutil.copyfile(backup.path / "postroad.db", view / "postroad.db")
        yield view
    finally:
        shutil.rmtree(view, ignore_errors=True)
