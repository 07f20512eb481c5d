"""Verification finds each kind of damage, and the sweep removes only what nobody names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from postroad.database.connection import open_writer
from postroad.database.packs import FileRef, file_path, parse_ref
from postroad.queue.operations import Enqueue, QueuedPath
from postroad.store.operations import Copy, Expunge
from postroad.store.removed import forget_removed
from postroad.store.sweep import FILE_AGE_S, remove_unnamed_files
from postroad.store.values import Want
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, opened

BIG = os.urandom(300_000)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three messages, one of them big, one copied, one queued as well."""

    async def make() -> None:
        async with opened("local", tmp_path) as state:
            await state.append(b"small " * 50)
            await state.append(BIG)
            await state.append(b"third")
            await state.database.submit(Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=2))
            await state.database.submit(
                Expunge(now=NOW, account=BOB, mailbox=INBOX, uids=[(3, 3)], only_deleted=False),
                Enqueue(
                    message="m1",
                    blob=state.content(b"queued").blob,
                    head=b"",
                    size=6,
                    reverse_path="",
                    recipients=(QueuedPath(path="x@y.example", domain="y.example"),),
                    accepted=NOW,
                    expires=NOW,
                ),
            )

    asyncio.run(make())
    return tmp_path


@pytest.mark.parametrize(
    ("sql", "kind", "text"),
    [
        ("UPDATE mailbox SET messages = 9 WHERE mailbox = 1", "mailbox", "messages"),
        ("UPDATE mailbox SET unseen = 9 WHERE mailbox = 1", "mailbox", "unseen"),
        ("UPDATE mailbox SET deleted = 1 WHERE mailbox = 1", "mailbox", "deleted"),
        ("UPDATE mailbox SET size = 1 WHERE mailbox = 1", "mailbox", "octets"),
        ("UPDATE mailbox SET uidnext = 3 WHERE mailbox = 1", "mailbox", "UIDNEXT"),
        ("UPDATE mailbox SET first_recent = 99 WHERE mailbox = 1", "mailbox", "recent"),
        ("UPDATE mailbox SET highestmodseq = 1 WHERE mailbox = 1", "mailbox", "modseq"),
        ("UPDATE counter SET modseq = 2", "mailbox", "account's"),
        ("UPDATE counter SET mailbox = 2", "account", "number"),
        ("DELETE FROM mailbox WHERE mailbox = 2", "mailbox", "without"),
        ("DELETE FROM mailbox WHERE mailbox = 1", "account", "INBOX"),
        ("DELETE FROM credential", "account", "credentials"),
        ("DELETE FROM account", "account", "no such account"),
        ("DELETE FROM domain", "account", "domain"),
        ("DELETE FROM content WHERE heap = 2", "message", "content"),
        ("UPDATE content SET account = 5 WHERE heap = 2", "message", "content"),
        ("DELETE FROM shared", "content", "2 messages name it, 1"),
        ("INSERT INTO shared VALUES (77, 99, 1)", "content", "not there"),
        ("DELETE FROM queue_recipient", "queue", "nobody"),
        ("DELETE FROM queue_message", "queue", "recipients"),
        ("UPDATE content SET blob = 'p1:5:60:300' WHERE heap = 1", "blob", "record"),
        ("UPDATE content SET blob = 'p9:0:60:300' WHERE heap = 1", "blob", "missing"),
        ("UPDATE queue_message SET blob = 'what'", "blob", "reference"),
    ],
)
def test_each_fault_is_found(data_dir: Path, sql: str, kind: str, text: str) -> None:
    assert list(verify(data_dir)) == []
    connection = open_writer(data_dir)
    connection.execute(sql)
    connection.close()
    findings = [item for item in verify(data_dir) if item.kind == kind]
    assert any(text in item.text for item in findings), list(verify(data_dir))


def test_octets_that_changed_are_found(data_dir: Path) -> None:
    steps: list[str] = []
    (big,) = (data_dir / "files").glob("*/*")
    big.write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1]))
    (finding,) = verify(data_dir, lambda step, count: steps.append(step))
    assert finding.kind == "blob" and "SHA-256" in finding.text
    assert {"database", "mailboxes", "blobs"} <= set(steps)
    big.write_bytes(BIG[:-1])
    (finding,) = verify(data_dir)
    assert "299999 octets of 300000" in finding.text


def test_files_go_when_nobody_names_them(data_dir: Path) -> None:
    async def main() -> None:
        async with opened("local", data_dir) as state:
            ((row,),) = state.store.messages(BOB, INBOX, _two(), Want.OCTETS)
            ref = parse_ref(row.blob or "")
            assert isinstance(ref, FileRef)
            path = file_path(data_dir, ref.name)
            later = path.stat().st_mtime + FILE_AGE_S + 9
            assert remove_unnamed_files(state.database, data_dir, later) == 0
            await state.database.submit(
                Expunge(now=NOW, account=BOB, mailbox=INBOX, only_deleted=False)
            )
            assert remove_unnamed_files(state.database, data_dir, later) == 0
            await forget_removed(state.database, NOW + 1)
            assert remove_unnamed_files(state.database, data_dir, later - 99) == 0
            assert path.exists()
            assert remove_unnamed_files(state.database, data_dir, later) == len(BIG)
            assert not path.exists()

    asyncio.run(main())


def _two():  # type: ignore[no-untyped-def]
    from postroad.mail.uidset import UIDSet

    return UIDSet.of([2])
