"""A whole server from a backup, in a directory of its own.

It is put together beside, checked, and gets its name at the end: killed at any instant, the
directory is whole or not there. Nothing is overwritten. Unless it is to be exactly as it was, the
database begins a new life (`store.reviving`), and mail that was queued is held.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw

from postroad.admin.backup.checking import quick_verify
from postroad.admin.backup.repository import Backup, Repository, copy_octets
from postroad.admin.backup.taking import SECRET, Progress
from postroad.database.connection import DATABASE_NAME
from postroad.database.packs import sync_directory
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.store.checks import Finding
from postroad.store.reviving import begin_new_life, drop_queue, hold_queue
from postroad.store.verify import verify

CONFIG = "postroad.toml"
QUEUES = ("hold", "drop", "keep")
_PLACES = (
    (re.compile(r"^(\s*data_dir\s*=\s*).*$", re.MULTILINE), '"data"', ""),
    (re.compile(r"^(\s*certificate\s*=\s*).*$", re.MULTILINE), '"tls/cert.pem"', "cert.pem"),
    (re.compile(r"^(\s*key\s*=\s*).*$", re.MULTILINE), '"tls/key.pem"', "key.pem"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """queued: recipients held, dropped or kept. findings: what is not whole, of the backup too."""

    directory: Path
    backup: str
    messages: int
    queued: int
    findings: list[Finding]


def restore(
    repository: Repository,
    backup: Backup,
    directory: Path,
    *,
    now: float,
    exact: bool = False,
    queue: str = "hold",
    progress: Progress = lambda step, done, total: None,
    point: Callable[[str], None] = lambda step: None,
) -> Restored:
    """exact: nothing came after the backup (the server was stopped): UIDs stay as they are.

    Raises: StateError (ALREADYEXISTS; CONFLICT: the backup is damaged), Unavailable, OSError.
    """
    _demand_free(directory)
    with repository.locked(shared=True):
        for found in quick_verify(repository, backup):
            raise StateError(
                Fault.CONFLICT, f"{backup.name} is damaged: {found.where}: {found.text}"
            )
        part = directory.with_name(f".{directory.name}.restoring")
        shutil.rmtree(part, ignore_errors=True)
        data = part / "data"
        data.mkdir(mode=0o700, parents=True)
        part.chmod(0o700)
        _copy(repository, backup, data, progress)
        _belongings(backup, part)
    try:
        queued = _revive(data / DATABASE_NAME, backup, now, exact, queue)
    except apsw.Error as error:
        raise Unavailable(f"database in {data}: {error}") from error
    findings = list(verify(data, lambda step, count: progress(f"checking {step}", count, -1)))
    _sync(part)
    point("copied")
    if directory.exists():
        directory.rmdir()
    part.rename(directory)
    sync_directory(directory.parent)
    return Restored(
        directory=directory,
        backup=backup.name,
        messages=backup.manifest.messages,
        queued=queued,
        findings=findings,
    )


def _demand_free(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise StateError(
            Fault.ALREADYEXISTS,
            f"{directory} holds something, and nothing is overwritten: name a new directory",
        )
    if not directory.absolute().parent.is_dir():
        raise StateError(Fault.NONEXISTENT, f"{directory.parent} is no directory")


def _copy(repository: Repository, backup: Backup, data: Path, progress: Progress) -> None:
    for name in ("packs", "files", "dictionaries", "tmp"):
        (data / name).mkdir(mode=0o700)
    for name in (DATABASE_NAME, SECRET):
        if (backup.path / name).is_file():
            _copy_whole(backup.path / name, data / name)
    for kept in backup.manifest.dictionaries:
        _copy_whole(repository.path / "dictionaries" / kept.name, data / "dictionaries" / kept.name)
    total = sum(pack.octets for pack in backup.manifest.packs)
    done = 0
    for pack in backup.manifest.packs:
        _copy_pack(repository.path / "packs" / pack.file, data, pack.pack, pack.octets)
        done += pack.octets
        progress("packs", done, total)
    for count, name in enumerate(backup.manifest.files, 1):
        target = data / "files" / name[:2] / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _copy_whole(repository.path / "files" / name[:2] / name, target)
        progress("files", count, len(backup.manifest.files))


def _copy_pack(source: Path, data: Path, number: int, octets: int) -> None:
    target = data / "packs" / f"{number:08d}.pack"
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with source.open("rb", buffering=0) as file:
            copy_octets(file.fileno(), fd, 0, octets)
    finally:
        os.close(fd)


def _copy_whole(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _belongings(backup: Backup, part: Path) -> None:
    """Configuration and certificate, with the configuration's paths led to what lies here."""
    for name in ("cert.pem", "key.pem"):
        if (backup.path / name).is_file():
            (part / "tls").mkdir(mode=0o700, exist_ok=True)
            _copy_whole(backup.path / name, part / "tls" / name)
    if (backup.path / "master.key").is_file():
        _copy_whole(backup.path / "master.key", part / "master.key")
    config = backup.path / CONFIG
    if config.is_file():
        text = config.read_text("utf-8")
        for pattern, value, needs in _PLACES:
            if not needs or (backup.path / needs).is_file():
                text = pattern.sub(rf"\g<1>{value}", text)
        (part / CONFIG).write_text(text, "utf-8")
        (part / CONFIG).chmod(0o600)


def _revive(database: Path, backup: Backup, now: float, exact: bool, queue: str) -> int:
    assert queue in QUEUES
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        if not exact:
            begin_new_life(connection, int(now))
        if queue == "hold":
            return hold_queue(connection, int(backup.manifest.made), int(now))
        if queue == "drop":
            return drop_queue(connection)
        ((count,),) = connection.execute("SELECT count(*) FROM queue_recipient").fetchall()
        assert isinstance(count, int)
        return count
    finally:
        connection.close()


def _sync(path: Path) -> None:
    """Everything below, to the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))
