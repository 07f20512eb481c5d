"""What nobody names any more: files of big messages, and drafts that a crash left behind.

A file is removed when no row names it and it is a day old: by then the unit that would have
named it has long been answered, one way or the other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from postroad.database.contract import Database
from postroad.database.snapshots import are_kept
from postroad.mail.errors import Unavailable

FILE_AGE_S = 86400
DRAFT_AGE_S = 600
"""A draft in use is locked as well; the age covers the instant before it is."""


def unnamed_files(database: Database, data_dir: Path, now: float) -> Iterator[Path]:
    """Big files that no message and no queued message names, a day old."""
    for path in sorted((data_dir / "files").glob("??/*")):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if found.st_mtime > now - FILE_AGE_S:
            continue
        blob = f"f{path.name}:{found.st_size}"
        named = database.first(
            "SELECT 1 FROM content WHERE blob = ?1 AND blob >= 'f' AND blob < 'g'"
            " UNION ALL"
            " SELECT 1 FROM queue_message WHERE blob = ?1 AND blob >= 'f' AND blob < 'g' LIMIT 1",
            (blob,),
        )
        if named is None:
            yield path


def remove_unnamed_files(database: Database, data_dir: Path, now: float) -> int:
    """Returns how many octets became free: none while a snapshot may name what no row does.

    Blocks: use a thread. Raises: Unavailable.
    """
    freed = 0
    if are_kept(data_dir):
        return freed
    try:
        for path in unnamed_files(database, data_dir, now):
            freed += path.stat().st_size
            path.unlink()
    except OSError as error:
        raise Unavailable(f"sweep: {error}") from error
    return freed


def remove_stale_drafts(data_dir: Path, now: float) -> int:
    """Removes drafts that no process holds; returns how many."""
    count = 0
    for path in (data_dir / "tmp").glob("*"):
        try:
            if path.stat().st_mtime > now - DRAFT_AGE_S:
                continue
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # it went by itself
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            count += 1
        except OSError:
            continue  # somebody holds it
        finally:
            os.close(fd)
    return count
