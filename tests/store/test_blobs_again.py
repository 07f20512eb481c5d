"""The same octets again: kept once where that is safe, and anew where it might not be."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from postroad.database.packs import FileRef, file_path, parse_ref
from postroad.mail import limits
from postroad.mail.errors import Unavailable
from postroad.store import appending
from postroad.store.blobs import REMEMBERED_MAX, BlobStore
from postroad.store.gate import Gate
from postroad.store.operations import Append
from postroad.store.sweep import FILE_AGE_S, unnamed_files
from support.state import BOB, FORMS, INBOX, NOW, State, content_for, opened

BIG = random.Random(5).randbytes(limits.DRAFT_MEMORY_OCTETS_MAX * 2)
LETTER = b"Subject: to all\r\n\r\nthe same for everybody\r\n" * 9


def big(blobs: BlobStore, octets: bytes = BIG) -> str:
    draft = blobs.draft()
    draft.write(octets)
    return draft.commit()


def test_octets_that_come_again_are_kept_once(tmp_path: Path) -> None:
    blobs = BlobStore.open(tmp_path, remembers=True)
    first = blobs.append(LETTER)
    assert blobs.append(bytearray(LETTER)) == first
    assert blobs.append(LETTER + b"!") != first
    assert big(blobs, LETTER) == first, "by way of a draft too"
    other = BlobStore.open(tmp_path, remembers=True)
    assert other.append(LETTER) != first, "each process knows its own pack"
    assert BlobStore.open(tmp_path).append(LETTER) != first


def test_a_pack_that_is_left_is_not_named_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody adds to it any more: compaction may take it within the hour."""
    monkeypatch.setattr(appending, "PACK_OCTETS_MAX", 3000)
    blobs = BlobStore.open(tmp_path, remembers=True)
    first = blobs.append(LETTER)
    blobs.append(BIG[:2990])
    again = blobs.append(LETTER)
    assert again != first and blobs.read(again) == LETTER
    assert blobs.append(LETTER) == again


def test_it_remembers_so_many_and_no_more(tmp_path: Path) -> None:
    blobs = BlobStore.open(tmp_path, remembers=True)
    first = blobs.append(LETTER)
    for number in range(REMEMBERED_MAX):
        blobs.append(b"%d" % number)
    assert len(blobs._remembered) == REMEMBERED_MAX
    assert blobs.append(LETTER) != first


@pytest.mark.parametrize("form", FORMS)
def test_after_a_sync_that_failed_they_are_stored_anew(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have dropped what it could not write: a retry must not rely on it."""

    async def deliver(state: State, gate: Gate, blobs: BlobStore) -> str:
        blob = blobs.append(LETTER)
        await gate.submit(
            Append(
                account=BOB,
                mailbox=INBOX,
                content=content_for(blob, b"", len(LETTER)),
                internal_date=NOW,
            )
        )
        return blob

    async def run() -> None:
        async with opened(form, tmp_path) as state:
            blobs = BlobStore.open(tmp_path, remembers=True)
            gate = Gate(state.database, blobs)
            first = await deliver(state, gate, blobs)
            assert await deliver(state, gate, blobs) == first
            sync = os.fdatasync

            def failing(fd: int) -> None:
                if os.readlink(f"/proc/self/fd/{fd}").endswith(".pack"):
                    raise OSError(5, "Input/output error")
                sync(fd)

            monkeypatch.setattr(os, "fdatasync", failing)
            with pytest.raises(Unavailable):
                await deliver(state, gate, blobs)
            monkeypatch.undo()
            again = await deliver(state, gate, blobs)
            assert again != first
            assert blobs.read(again) == LETTER
            blobs.close()

    asyncio.run(run())


def inode(blobs: BlobStore, blob: str) -> int:
    ref = parse_ref(blob)
    assert isinstance(ref, FileRef)
    return file_path(blobs.data_dir, ref.name).stat().st_ino


def test_big_messages_that_come_again_share_their_octets(tmp_path: Path) -> None:
    blobs = BlobStore.open(tmp_path)
    refs = [big(blobs) for _ in range(4)]
    assert len(set(refs)) == 4, "each has a name of its own, to go by itself"
    assert len({inode(blobs, blob) for blob in refs}) == 1
    assert all(blobs.read(blob) == BIG for blob in refs)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_big_message_is_not_joined_to_octets_that_rotted(tmp_path: Path) -> None:
    blobs = BlobStore.open(tmp_path)
    first = big(blobs)
    ref = parse_ref(first)
    assert isinstance(ref, FileRef)
    path = file_path(tmp_path, ref.name)
    path.write_bytes(BIG[:-1] + b"?")
    second, third = big(blobs), big(blobs)
    assert blobs.read(second) == blobs.read(third) == BIG
    assert inode(blobs, second) == inode(blobs, third) != inode(blobs, first)
    path.write_bytes(BIG[:9])
    assert blobs.read(big(blobs)) == BIG


def test_the_sweep_leaves_a_name_that_leads_to_old_octets(tmp_path: Path) -> None:
    """The unit that will name it is on its way: it counts as new, whatever it leads to."""

    async def run() -> None:
        async with opened("local", tmp_path) as state:
            first = big(state.blobs)
            ref = parse_ref(first)
            assert isinstance(ref, FileRef)
            path = file_path(tmp_path, ref.name)
            now = path.stat().st_mtime
            os.utime(path, (now - FILE_AGE_S - 9, now - FILE_AGE_S - 9))
            assert list(unnamed_files(state.database, tmp_path, now)) == [path]
            second = big(state.blobs)
            assert inode(state.blobs, second) == path.stat().st_ino
            assert list(unnamed_files(state.database, tmp_path, now)) == []
            path.unlink()
            assert state.blobs.read(second) == BIG

    asyncio.run(run())


def test_a_disk_that_has_no_links_keeps_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = BlobStore.open(tmp_path)
    first = big(blobs)
    link = appending._link

    def stubborn(source: Path, target: Path) -> None:
        if source.parent.name != "tmp":
            raise OSError(31, "Too many links")
        link(source, target)

    monkeypatch.setattr(appending, "_link", stubborn)
    second = big(blobs)
    assert inode(blobs, second) != inode(blobs, first) and blobs.read(second) == BIG
