"""Whether a backup is whole: every checksum of it, and of all that it names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from postroad.admin.backup.repository import (
    Backup,
    Kept,
    Repository,
    sha256_of,
    tail_of,
    view_of,
)
from postroad.store.checks import Finding, Progress
from postroad.store.verify import verify as verify_data


def _quiet(step: str, count: int) -> None:
    pass


def verify(
    repository: Repository, backup: Backup, progress: Progress = _quiet
) -> Iterator[Finding]:
    """What is wrong with it. Reads all octets that it names. Raises: Unavailable, OSError."""
    broken = False
    for found in quick_verify(repository, backup):
        broken = broken or found.kind == "backup"
        yield found
    if broken:
        return  # without its database there is nothing more to say
    with tempfile.TemporaryDirectory(prefix=".check-", dir=repository.path) as scratch:
        with view_of(repository, backup, Path(scratch)) as view:
            yield from verify_data(view, progress)


def quick_verify(repository: Repository, backup: Backup) -> Iterator[Finding]:
    """Its own files by checksum; packs and big files by their length, and packs by their end."""
    for kept in backup.manifest.kept:
        yield from _kept_fault("backup", backup.path / kept.name, kept)
    for kept in backup.manifest.dictionaries:
        yield from _kept_fault("dictionary", repository.path / "dictionaries" / kept.name, kept)
    for pack in backup.manifest.packs:
        path = repository.path / "packs" / pack.file
        try:
            octets = path.stat().st_size
        except FileNotFoundError:
            yield Finding("pack", pack.file, "it is missing")
            continue
        if octets < pack.octets:
            yield Finding("pack", pack.file, f"{octets} octets of {pack.octets} are there")
        elif tail_of(path, pack.octets) != pack.tail:
            yield Finding("pack", pack.file, "its end has changed")
    for name in backup.manifest.files:
        if not (repository.path / "files" / name[:2] / name).is_file():
            yield Finding("file", name, "it is missing")


def _kept_fault(kind: str, path: Path, kept: Kept) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding(kind, kept.name, "it is missing")
    elif sha256_of(path) != kept.sha256:
        yield Finding(kind, kept.name, "its SHA-256 differs")
