"""Taking a backup, beside a running server or without one.

The database is copied first, in one read transaction: it names octets that are in packs and files
already, since a row is committed after its octets were written. Then what it names is copied:
of each pack the octets that are not in the repository yet, up to the last record that a row names;
behind it nothing is settled. No pack is removed meanwhile (`packs_held`); a big file that was
removed before it was copied makes us begin again with a new copy of the database.
The manifest, written last, makes it a backup.
Source: https://sqlite.org/backup.html.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import msgspec

import postroad
from postroad.admin.backup.repository import (
    FORMAT,
    MANIFEST,
    Backup,
    Kept,
    KeptPack,
    Manifest,
    Repository,
    copy_octets,
    sha256_of,
    tail_of,
    write_file,
)
from postroad.database.connection import DATABASE_NAME, open_reader
from postroad.database.packs import (
    Damaged,
    FileRef,
    file_path,
    pack_path,
    parse_ref,
    sync_directory,
)
from postroad.mail.errors import Unavailable
from postroad.store.compaction import packs_held

ATTEMPTS = 4
"""Copies of the database, when files that it names went meanwhile."""
STEP_PAGES = 4096
PAGE_ROWS = 5000
SECRET = "secret.key"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What of the server lies outside of its data and is kept too: name in the backup to path.

    master_key: the file of the master key, only when it was asked for.
    """

    config: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    master_key: Path | None = None
    hostname: str = ""


@dataclass(slots=True)
class _Named:
    """What the database names. ends: pack to the end of its last named record."""

    ends: dict[int, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


class _FileGone(Exception):
    """The server has removed a big file that the copy of the database names."""


def take(
    repository: Repository,
    data_dir: Path,
    belongings: Belongings,
    *,
    link: bool = False,
    now: Callable[[], float] = time.time,
    progress: Progress = lambda step, done, total: None,
) -> Backup:
    """link: big files by hard link where that can be. Blocks for as long as it takes.

    Raises: Unavailable, StateError(INUSE), OSError.
    """
    with repository.locked(), packs_held(data_dir):
        for attempt in range(ATTEMPTS):
            moment = now()
            folder = repository.begin(moment)
            try:
                return _take(repository, data_dir, belongings, folder, moment, link, progress)
            except _FileGone as error:
                if attempt + 1 == ATTEMPTS:
                    raise Unavailable("big messages go faster than they are copied") from error
            except apsw.Error as error:
                raise Unavailable(f"database in {data_dir}: {error}") from error
        raise AssertionError("the last attempt returns or raises")


def _take(
    repository: Repository,
    data_dir: Path,
    belongings: Belongings,
    folder: Path,
    moment: float,
    link: bool,
    progress: Progress,
) -> Backup:
    database = folder / DATABASE_NAME
    copy_database(data_dir, database, progress)
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        named = _named(connection, progress)
        counts = _counts(connection)
    finally:
        connection.close()
    packs, new = _copy_packs(repository, data_dir, named, progress)
    new += _copy_files(repository, data_dir, named, link, progress)
    dictionaries = _copy_dictionaries(repository, data_dir)
    kept = [_kept(database)]
    for name, path in (
        (SECRET, data_dir / SECRET),
        ("postroad.toml", belongings.config),
        ("cert.pem", belongings.certificate),
        ("key.pem", belongings.key),
        ("master.key", belongings.master_key),
    ):
        if path is not None and path.is_file():
            write_file(folder / name, path.read_bytes())
            kept.append(_kept(folder / name))
    manifest = Manifest(
        format=FORMAT,
        made=moment,
        version=postroad.__version__,
        tables=counts[0],
        hostname=belongings.hostname,
        accounts=counts[1],
        messages=counts[2],
        queued=counts[3],
        kept=kept,
        packs=packs,
        files=sorted(named.files),
        dictionaries=dictionaries,
        new_octets=new + sum(item.octets for item in kept),
        has_master_key=belongings.master_key is not None,
    )
    sync_directory(folder.parent)
    write_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return Backup(name=folder.name, path=folder, manifest=manifest)


def copy_database(
    data_dir: Path, target: Path, progress: Progress = lambda step, done, total: None
) -> None:
    """One commit's tables, whatever is written meanwhile: copied inside one read transaction.

    Raises: apsw.Error, OSError.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    source = open_reader(data_dir)
    copy = apsw.Connection(str(target))
    try:
        copy.pragma("synchronous", "off")  # synced once, at the end
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchall()
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(STEP_PAGES)
                progress("database", backup.page_count - backup.remaining, backup.page_count)
        source.execute("COMMIT")
        copy.pragma("journal_mode", "delete")
    finally:
        copy.close()
        source.close()
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _named(connection: apsw.Connection, progress: Progress) -> _Named:
    """Goes through the indexes on references, not the contents."""
    found = _Named()
    count = 0
    for table in ("content", "queue_message"):
        after = ""
        while True:
            rows = connection.execute(
                f"SELECT DISTINCT blob FROM {table} WHERE blob > ? ORDER BY blob LIMIT ?",
                (after, PAGE_ROWS),
            ).fetchall()
            for (blob,) in rows:
                _name(found, str(blob))
            count += len(rows)
            progress("references", count, -1)
            if len(rows) < PAGE_ROWS:
                break
            after = str(rows[-1][0])
    return found


def _name(found: _Named, blob: str) -> None:
    try:
        ref = parse_ref(blob)
    except Damaged:
        return  # `verify` tells of it; there is nothing to copy
    if isinstance(ref, FileRef):
        found.files[ref.name] = ref.size
    else:
        found.ends[ref.pack] = max(found.ends.get(ref.pack, 0), ref.offset + ref.stored)


def _counts(connection: apsw.Connection) -> tuple[int, int, int, int]:
    """(version of the tables, accounts, messages, queued)"""
    version = connection.pragma("user_version")
    (row,) = connection.execute(
        "SELECT (SELECT count(*) FROM account), (SELECT total(messages) FROM counter),"
        " (SELECT count(*) FROM queue_message)"
    ).fetchall()
    assert isinstance(version, int)
    accounts, messages, queued = row
    assert isinstance(accounts, int) and isinstance(messages, float) and isinstance(queued, int)
    return version, accounts, int(messages), queued


# -- octets -------------------------------------------------------------------------------------


def _copy_packs(
    repository: Repository, data_dir: Path, named: _Named, progress: Progress
) -> tuple[list[KeptPack], int]:
    """(what was kept, octets copied)"""
    before = repository.named_packs()
    total = sum(named.ends.values())
    done = new = 0
    packs = []
    for number, end in sorted(named.ends.items()):
        source = pack_path(data_dir, number)
        if not source.is_file():
            continue  # `verify` tells whose messages these are
        end = min(end, source.stat().st_size)
        file, have = _continued(repository, source, number, before)
        new += _grow(repository.path / "packs" / file, source, have, end)
        known = before.get(file)
        octets = max(end, known.octets) if known is not None and known.octets >= end else end
        packs.append(
            KeptPack(
                pack=number,
                file=file,
                octets=octets,
                tail=tail_of(repository.path / "packs" / file, octets),
            )
        )
        done += end
        progress("packs", done, total)
    sync_directory(repository.path / "packs")
    return packs, new


def _continued(
    repository: Repository, source: Path, number: int, before: dict[str, KeptPack]
) -> tuple[str, int]:
    """(file in the repository that begins as the pack does, how much of it is settled); a new one
    when the number was used in another life of the server, before a restore."""
    copy = 0
    size = source.stat().st_size
    while True:
        file = f"{number:08d}-{copy}.pack"
        known = before.get(file)
        if known is None:
            return file, 0
        if size >= known.octets and tail_of(source, known.octets) == known.tail:
            return file, known.octets
        copy += 1


def _grow(target: Path, source: Path, have: int, end: int) -> int:
    """Copies what is new; cuts off first what a run that was killed left."""
    if end <= have:
        return 0
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, have)
        with source.open("rb", buffering=0) as file:
            copy_octets(file.fileno(), fd, have, end)
        os.fsync(fd)
    finally:
        os.close(fd)
    return end - have


def _copy_files(
    repository: Repository, data_dir: Path, named: _Named, link: bool, progress: Progress
) -> int:
    """Octets copied. Raises: _FileGone."""
    new = 0
    folders = set()
    for count, (name, size) in enumerate(sorted(named.files.items()), 1):
        target = repository.path / "files" / name[:2] / name
        source = file_path(data_dir, name)
        if not (target.is_file() and target.stat().st_size == size):
            target.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                _copy_file(source, target, link)
            except FileNotFoundError as error:
                raise _FileGone(name) from error
            folders.add(target.parent)
            new += size
        progress("files", count, len(named.files))
    for folder in folders:
        sync_directory(folder)
    sync_directory(repository.path / "files")
    return new


def _copy_file(source: Path, target: Path, link: bool) -> None:
    target.unlink(missing_ok=True)
    if link:
        try:
            target.hardlink_to(source)
            return
        except FileNotFoundError:
            raise
        except OSError:
            pass  # another file system
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(target)


def _copy_dictionaries(repository: Repository, data_dir: Path) -> list[Kept]:
    """All of them: 64 KB each, and a record cannot be read without its own."""
    kept = []
    for path in sorted((data_dir / "dictionaries").glob("*.dict")):
        target = repository.path / "dictionaries" / path.name
        if not target.is_file():
            write_file(target, path.read_bytes())
        kept.append(_kept(target))
    return kept


def _kept(path: Path) -> Kept:
    return Kept(name=path.name, octets=path.stat().st_size, sha256=sha256_of(path))
