"""Whether everything that is kept is whole: every checksum, every reference, every counter.

Reads beside a running server, each statement of one commit, some thousand rows at a time. Says
what it finds and mends nothing (`store.repair` does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from postroad.database import acknowledged
from postroad.database.packs import Damaged, PackRef, file_path, parse_ref
from postroad.database.reading import Reader
from postroad.mail.errors import Unavailable
from postroad.store.blobs import BlobStore
from postroad.store.checks import CHECKS, Finding, Progress, check_database

__all__ = ["Finding", "Progress", "blob_fault", "damaged_blobs", "verify"]

PAGE_ROWS = 1000
_READ_OCTETS = 1 << 20
_NAMING = (
    ("content", "heap", "account || ', content ' || heap"),
    ("queue_message", "number", "'queue ' || message"),
)


def _quiet(step: str, count: int) -> None:
    pass


def verify(data_dir: Path, progress: Progress = _quiet) -> Iterator[Finding]:
    """Walks everything. Raises: Unavailable when there is no database or it cannot be read."""
    reader = Reader(data_dir)
    blobs = BlobStore(data_dir)
    whole = True
    try:
        for found in check_database(reader, progress):
            yield found
            whole = whole and not found.is_missing_table
        if not whole:
            return  # what else there is to say, is said once the table is there again
        for check in CHECKS:
            yield from check(reader, progress)
        yield from _missing(reader, data_dir)
        for _, blob, where, fault in damaged_blobs(reader, blobs, data_dir, progress):
            yield Finding("blob", f"{blob} (of {where})", fault)
    finally:
        blobs.close()
        reader.close()


def _missing(reader: Reader, data_dir: Path) -> Iterator[Finding]:
    row = reader.first("SELECT seq FROM sqlite_sequence WHERE name = 'content'")
    found = acknowledged.missing(data_dir, row[0] if row else 0)
    if found is not None:
        first, last = found
        yield Finding(
            "database",
            "postroad.db",
            f"{last - first + 1} messages that were answered are not in it (contents {first} to"
            f" {last}): its log was cut off, or an older database was put in its place",
        )


# -- octets -------------------------------------------------------------------------------------


def damaged_blobs(
    reader: Reader, blobs: BlobStore, data_dir: Path, progress: Progress = _quiet
) -> Iterator[tuple[tuple[str, int], str, str, str]]:
    """((table, key), reference, where it is named, what is wrong) of every blob that is not whole.

    A blob that was moved by compaction between the reading of its row and of its octets is looked
    at again where it is now.
    """
    count = 0
    for table, key, what in _NAMING:
        after = 0
        while True:
            rows = list(
                reader.execute(
                    f"SELECT {key}, blob, {what} FROM {table} WHERE {key} > ?"
                    f" ORDER BY {key} LIMIT ?",
                    (after, PAGE_ROWS),
                )
            )
            for number, blob, where in rows:
                fault = blob_fault(blobs, data_dir, blob)
                while fault is not None:
                    row = reader.first(f"SELECT blob FROM {table} WHERE {key} = ?", (number,))
                    if row is None:
                        break  # it went meanwhile
                    if row[0] == blob:
                        yield (table, number), blob, where, fault
                        break
                    blob = row[0]
                    fault = blob_fault(blobs, data_dir, blob)
            count += len(rows)
            progress("blobs", count)
            if len(rows) < PAGE_ROWS:
                break
            after = rows[-1][0]


def blob_fault(blobs: BlobStore, data_dir: Path, blob: str) -> str | None:
    """What is wrong with the blob; None when its octets have the checksum they were given."""
    try:
        ref = parse_ref(blob)
        if isinstance(ref, PackRef):
            return blobs.fault(ref)
        digest = hashlib.sha256()
        size = 0
        with file_path(data_dir, ref.name).open("rb") as file:
            while part := file.read(_READ_OCTETS):
                digest.update(part)
                size += len(part)
        if size != ref.size:
            return f"{size} octets of {ref.size} are there"
        return None if digest.hexdigest() == ref.name[:64] else "its SHA-256 differs"
    except FileNotFoundError:
        return "its file is missing"
    except (Damaged, Unavailable, OSError) as error:
        return str(error)
