"""Mending what `verify` finds, without losing mail.

Holds the data directory's lock, so no server runs. First everything is checked; then the database
is copied; then each kind of fault is mended in a transaction of its own; then everything is
checked again, and what is left is told. What had to be taken out (messages whose octets are gone
or damaged) is kept beside the copy, as far as it can be read:

    repairs/0001/before.db      the database as it was
    repairs/0001/report.json    what was found, what was done, what was taken out
    repairs/0001/*.eml, *.raw   octets that were damaged, or that nothing names
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from postroad.database import acknowledged
from postroad.database.connection import DATABASE_NAME, open_writer
from postroad.database.local import take_lock
from postroad.database.packs import (
    HEADER,
    KINDS,
    RECORD_OCTETS_MAX,
    Damaged,
    PackRef,
    file_path,
    pack_path,
    parse_ref,
    sync_directory,
)
from postroad.database.reading import Reader
from postroad.database.transaction import WriteTransaction
from postroad.mail.errors import Unavailable
from postroad.store import mending
from postroad.store.blobs import BlobStore
from postroad.store.checks import Finding, Progress
from postroad.store.dictionary import Dictionaries
from postroad.store.quota import next_modseq
from postroad.store.verify import blob_fault, damaged_blobs, verify

FOLDER = "repairs"
FREE_OCTETS_MIN = 64 << 20
_COPY_PAGES = 1024


@dataclass(slots=True)
class Repair:
    """found: before. done: what was mended, in words. left: what is wrong still. taken: messages
    that were taken out. folder: where copy, report and octets are; None: nothing was wrong."""

    found: list[Finding] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None


class _Own:
    """Reads on the writer's connection, so that checks see what was mended so far."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Any = ()) -> Iterator[Any]:
        return iter(self._connection.execute(sql, params).fetchall())


def _quiet(step: str, count: int) -> None:
    pass


def repair(data_dir: Path, now: int, progress: Progress = _quiet) -> Repair:
    """Checks, copies, mends and checks again.

    Raises: StateError(INUSE) while a server runs; Unavailable: the disk, or a database that SQLite
    itself cannot read (then a backup must help).
    """
    lock = take_lock(data_dir)
    try:
        made = Repair(found=list(verify(data_dir, progress)))
        if made.found:
            _repair(data_dir, now, made, progress)
        return made
    except apsw.Error as error:
        raise Unavailable(f"database in {data_dir}: {error}") from error
    finally:
        os.close(lock)


def _repair(data_dir: Path, now: int, made: Repair, progress: Progress) -> None:
    _demand_readable(made.found)
    connection = open_writer(data_dir)
    try:
        made.folder = _copy(connection, data_dir)
        blobs = BlobStore(data_dir)
        try:
            _mend(connection, data_dir, blobs, now, made, progress)
        finally:
            blobs.close()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
    acknowledged.forget(data_dir)
    made.left = list(verify(data_dir, progress))
    _report(made)


def _demand_readable(found: list[Finding]) -> None:
    """Raises: Unavailable."""
    for item in found:
        if item.kind == "database" and item.is_of_file:
            raise Unavailable(
                f"the database file itself is damaged ({item.text}): nothing was changed. Put back"
                " a backup, or a copy from `snapshots`, and repair that"
            )


def _copy(connection: apsw.Connection, data_dir: Path) -> Path:
    """Raises: Unavailable when there is no room for it."""
    parent = data_dir / FOLDER
    parent.mkdir(mode=0o700, exist_ok=True)
    needed = (data_dir / DATABASE_NAME).stat().st_size + FREE_OCTETS_MIN
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise Unavailable(
            f"the copy that is made before needs {needed >> 20} MB, {free >> 20} MB are free: free"
            " some space and say it again. Nothing was changed"
        )
    number = 1 + max(
        (int(item.name) for item in parent.iterdir() if item.name.isdigit()), default=0
    )
    folder = parent / f"{number:04d}"
    folder.mkdir(mode=0o700)
    copy = apsw.Connection(str(folder / "before.db"))
    try:
        with copy.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(_COPY_PAGES)
    finally:
        copy.close()
    with (folder / "before.db").open("rb") as file:
        os.fsync(file.fileno())
    sync_directory(folder)
    sync_directory(parent)
    return folder


def _mend(
    connection: apsw.Connection,
    data_dir: Path,
    blobs: BlobStore,
    now: int,
    made: Repair,
    progress: Progress,
) -> None:
    tx = WriteTransaction(connection)
    own = _Own(connection)
    kinds = {item.kind for item in made.found}

    def step(name: str, work: Callable[[], Iterable[str]]) -> None:
        """Each kind of fault in a transaction of its own; counts are right only at the end."""
        progress(name, 0)
        with connection:
            made.done += list(work())

    step("tables", lambda: mending.mend_schema(tx))
    if kinds & {"index", "database"}:
        step("indexes", lambda: mending.mend_indexes(tx))
    step("accounts", lambda: mending.mend_counters(tx, now))
    step("mailboxes", lambda: mending.mend_lone_messages(tx))
    step("mailboxes", lambda: mending.mend_inboxes(tx, now))
    step("messages", lambda: _take_out_lost(tx, made))
    step("blobs", lambda: _mend_blobs(tx, blobs, data_dir, made, progress))
    step("contents", lambda: mending.mend_orphans(tx, now))
    step("contents", lambda: mending.mend_shared(tx))
    step("accounts", lambda: mending.mend_counters(tx, now))
    step("mailboxes", lambda: mending.mend_mailboxes(tx))
    step("accounts", lambda: mending.mend_counters(tx, now))
    step("sharing", lambda: mending.mend_seen(tx, own))
    step("quotas", lambda: mending.mend_quotas(tx))
    step("search", lambda: mending.mend_search(tx, own))
    if acknowledged.missing(data_dir, _newest(connection)) is not None:
        made.done += _save_unnamed(own, blobs, data_dir, made)


def _newest(connection: apsw.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'content'").fetchone()
    return int(row[0]) if row else 0


# -- messages without octets --------------------------------------------------------------------

_LOST = (
    "SELECT m.mailbox, m.uid, m.flags, m.keywords, m.internal_date, m.size, m.heap"
    " FROM {table} AS m LEFT JOIN content AS c ON c.heap = m.heap AND c.account = m.account"
    " WHERE m.account = ? AND c.heap IS NULL"
)


def _take_out_lost(tx: WriteTransaction, made: Repair) -> Iterator[str]:
    """Messages that name a content which is not there."""
    for (account,) in tx.execute("SELECT account FROM counter"):
        for table in ("message", "removed"):
            for row in tx.execute(_LOST.format(table=table), (account,)):
                yield _take_out(tx, table, account, row, None, made)


def _take_out(
    tx: WriteTransaction,
    table: str,
    account: int,
    row: tuple[Any, ...],
    content: tuple[Any, ...] | None,
    made: Repair,
) -> str:
    """content: (blob, head, header) where there are any."""
    mailbox, uid, flags, keywords, internal_date, size, heap = row
    name = tx.first(
        "SELECT name FROM mailbox WHERE account = ? AND mailbox = ?", (account, mailbox)
    )
    made.taken.append(
        {
            "account": account,
            "mailbox": name[0] if name else mailbox,
            "uid": uid,
            "flags": flags,
            "keywords": keywords.decode("ascii", "replace"),
            "internal_date": internal_date,
            "size": size,
            "content": heap,
            "blob": content[0] if content else None,
            "header": content[2].decode("utf-8", "replace") if content else None,
        }
    )
    key = (account, mailbox, uid)
    tx.execute(f"DELETE FROM {table} WHERE account = ? AND mailbox = ? AND uid = ?", key)
    if table == "message":
        modseq = next_modseq(tx, account)
        tx.execute("INSERT INTO expunged VALUES (?, ?, ?, ?, ?)", (*key[:2], modseq, uid, uid))
    return f"account {account}, mailbox {key[1]}, UID {uid}: taken out, its octets are not there"


def _mend_blobs(
    tx: WriteTransaction, blobs: BlobStore, data_dir: Path, made: Repair, progress: Progress
) -> Iterator[str]:
    reader = Reader(data_dir)
    try:
        damaged = list(damaged_blobs(reader, blobs, data_dir, progress))
    finally:
        reader.close()
    for place, blob, _, fault in damaged:
        if Dictionaries.is_at_fault(fault):
            continue  # its record is whole: it waits for the dictionary to be put back
        yield from _mend_blob(tx, blobs, data_dir, place, blob, fault, made)


def _mend_blob(
    tx: WriteTransaction,
    blobs: BlobStore,
    data_dir: Path,
    place: tuple[str, int],
    blob: str,
    fault: str,
    made: Repair,
) -> Iterator[str]:
    """Names the same octets elsewhere if they are there; else saves what can be read of them."""
    table, number = place
    twin = _twin(blobs, data_dir, blob)
    if twin is not None:
        tx.execute("UPDATE content SET blob = ? WHERE blob = ?", (twin, blob))
        tx.execute("UPDATE queue_message SET blob = ? WHERE blob = ?", (twin, blob))
        yield f"blob {blob}: {fault}; the same octets were found as {twin}"
        return
    if table != "content":
        return  # it stays queued: its sender hears of it when its time is over
    row = tx.first("SELECT account, blob, head, header FROM content WHERE heap = ?", (number,))
    if row is None or row[1] != blob:
        return
    account, *content = row
    _save_damaged(data_dir, blob, content[1], made)
    for kept in ("message", "removed"):
        rows = tx.execute(
            f"SELECT mailbox, uid, flags, keywords, internal_date, size, heap FROM {kept}"
            " WHERE account = ? AND heap = ?",
            (account, number),
        )
        for item in rows:
            yield f"{_take_out(tx, kept, account, item, tuple(content), made)} ({fault})"
    tx.execute("DELETE FROM content WHERE heap = ?", (number,))


def _twin(blobs: BlobStore, data_dir: Path, blob: str) -> str | None:
    """Another record that is whole and says that it holds the same octets."""
    try:
        ref = parse_ref(blob)
        if not isinstance(ref, PackRef):
            return None
        with pack_path(data_dir, ref.pack).open("rb") as pack:
            header = os.pread(pack.fileno(), HEADER.size, ref.offset)
        _, _, _, size, sha256 = HEADER.unpack(header)
    except (Damaged, OSError, struct.error):
        return None  # of what it held nothing is known
    for other, digest in _records(data_dir):
        same = digest == sha256 and other.size == size and other != ref
        if same and blob_fault(blobs, data_dir, str(other)) is None:
            return str(other)
    return None


def _records(data_dir: Path) -> Iterator[tuple[PackRef, bytes]]:
    """Every record of every pack as far as its headers lead, with the SHA-256 it says."""
    for path in sorted((data_dir / "packs").glob("*.pack")):
        size = path.stat().st_size
        with path.open("rb") as pack:
            at = 0
            while at + HEADER.size <= size:
                kind, _, stored, octets, sha256 = HEADER.unpack(
                    os.pread(pack.fileno(), HEADER.size, at)
                )
                if kind not in KINDS or stored > RECORD_OCTETS_MAX:
                    break
                yield PackRef(int(path.stem), at, HEADER.size + stored, octets), sha256
                at += HEADER.size + stored


def _save_damaged(data_dir: Path, blob: str, head: bytes, made: Repair) -> None:
    """What is on disk of the blob, with its head before it, as it is."""
    assert made.folder is not None
    try:
        ref = parse_ref(blob)
        if isinstance(ref, PackRef):
            with pack_path(data_dir, ref.pack).open("rb") as pack:
                octets = os.pread(pack.fileno(), ref.stored, ref.offset)
            name = f"pack-{ref.pack}-{ref.offset}.raw"
        else:
            octets = file_path(data_dir, ref.name).read_bytes()
            name = f"file-{ref.name}.eml"
    except (Damaged, OSError):
        octets, name = b"", f"{blob.replace(':', '-').replace('/', '-')[:200]}.raw"
    (made.folder / name).write_bytes(head + octets)


def _save_unnamed(own: _Own, blobs: BlobStore, data_dir: Path, made: Repair) -> Iterator[str]:
    """Octets that no row names, when rows are known to be missing: whose they were is not known."""
    assert made.folder is not None
    named = {
        blob
        for (blob,) in own.execute("SELECT blob FROM content UNION SELECT blob FROM queue_message")
    }
    count = 0
    for ref, _ in _records(data_dir):
        if str(ref) in named:
            continue
        try:
            octets = blobs.read(str(ref))
        except Unavailable:
            continue  # sealed for an account, or damaged: it stays in its pack
        (made.folder / f"unnamed-{ref.pack}-{ref.offset}.eml").write_bytes(octets)
        count += 1
    for path in sorted((data_dir / "files").glob("??/*")):
        if f"f{path.name}:{path.stat().st_size}" not in named:
            shutil.copyfile(path, made.folder / f"unnamed-{path.name[:16]}.eml")
            count += 1
    yield f"{count} messages that nothing names were saved in {made.folder}, to be looked through"


def _report(made: Repair) -> None:
    assert made.folder is not None
    path = made.folder / "report.json"
    octets = msgspec.json.encode(
        {"found": made.found, "done": made.done, "taken": made.taken, "left": made.left}
    )
    path.write_bytes(msgspec.json.format(octets, indent=2))
