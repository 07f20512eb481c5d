"""Compaction: what is live moves and is read the same, what nobody names gives its space back."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
from pathlib import Path

import pytest

from postroad.database.packs import HEADER, PackRef, pack_path, parse_ref
from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.queue.operations import Enqueue, QueuedPath
from postroad.store.blobs import BlobStore
from postroad.store.compaction import (
    Busy,
    Compactor,
    Rules,
    pack_numbers,
    packs_held,
    status_of,
)
from postroad.store.mailboxes import MailStore
from postroad.store.operations import Expunge
from postroad.store.upkeep import Relocate
from postroad.store.values import Vanished, Want
from postroad.store.verify import verify
from support.state import BOB, FORMS, INBOX, NOW, State, opened

NOISE = random.Random(9)
RULES = Rules(octets_per_second=1 << 40, age_s=0.0, grace_s=0.0)


def texts(count: int, octets: int = 2000) -> list[bytes]:
    return [NOISE.randbytes(octets) + b" %d" % number for number in range(count)]


async def fill(state: State, messages: list[bytes], *, keep: int) -> dict[int, bytes]:
    """Appends all, then removes all but every `keep`th for good; what stays, by UID."""
    kept = {}
    gone = []
    for number, octets in enumerate(messages):
        done = await state.append(octets)
        if number % keep:
            gone.append((done.uid, done.uid))
        else:
            kept[done.uid] = octets
    await remove(state, gone)
    return kept


async def remove(state: State, uids: list[tuple[int, int]]) -> None:
    await state.database.submit(
        Expunge(account=BOB, mailbox=INBOX, uids=uids, only_deleted=False, now=NOW)
    )
    # what may be brought back counts as live: here it is gone for good
    local = state.local._writer._connection
    local.execute("DELETE FROM content WHERE heap IN (SELECT heap FROM removed)")
    local.execute("DELETE FROM removed")
    local.execute("UPDATE counter SET removed_octets = 0, removed_messages = 0")


def mail(state: State, store: MailStore | None = None) -> dict[int, bytes]:
    store = store or state.store
    rows = [
        row
        for batch in store.messages(BOB, INBOX, UIDSet.of_ranges([(1, 1 << 32)]), Want.OCTETS)
        for row in batch
    ]
    return {row.uid: store.octets(row) for row in rows}


def let_go(state: State) -> None:
    """The process that appends takes another pack, as one that is started anew may."""
    state.blobs._appender.close()
    state.blobs._appender._reuse = False
    state.blobs._appender._pack = 1


@pytest.mark.parametrize("form", FORMS)
def test_a_pack_of_much_garbage_is_rewritten_and_goes(tmp_path: Path, form: str) -> None:
    async def run() -> None:
        async with opened(form, tmp_path) as state:
            kept = await fill(state, texts(40), keep=5)
            let_go(state)
            await state.append(b"in the next pack" * 20)
            before = pack_path(tmp_path, 1).stat().st_size
            compactor = Compactor(state.database, tmp_path, RULES)
            done = await compactor.round(time.time() + 1)
            assert (done.packs, done.records, done.removed) == (1, len(kept), 0)
            assert pack_path(tmp_path, 1).exists(), "a reader may hold an old reference still"
            assert compactor.waits
            done = await compactor.retire(time.time() + 2)
            assert (done.removed, done.freed) == (1, before)
            assert not pack_path(tmp_path, 1).exists() and not compactor.waits
            found = mail(state)
            assert {uid: found[uid] for uid in kept} == kept
            done = await compactor.round(time.time() + 3)
            assert done.packs == 0, "what is live is left alone"
            compactor.close()

    asyncio.run(run())


def test_what_may_not_be_touched_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(10), keep=5)
            compactor = Compactor(state.database, tmp_path, RULES)
            later = time.time() + 1
            assert (await compactor.round(later)).packs == 0, "its appender has it locked"
            let_go(state)
            assert (await compactor.round(later)).packs == 0, "the highest number stays"
            await state.append(b"next" * 50)
            old = Rules(octets_per_second=1 << 40, age_s=3600.0)
            assert (await Compactor(state.database, tmp_path, old).round(later)).packs == 0
            status = status_of(state.database, tmp_path, 1, later)
            assert status is not None
            assert status.records == len(kept) and not status.in_use
            assert status.live == sum(2 + HEADER.size + len(kept[uid]) for uid in kept) - 2 * len(
                kept
            )
            share = Rules(octets_per_second=1 << 40, age_s=0.0, live_share=0.1)
            assert (await Compactor(state.database, tmp_path, share).round(later)).packs == 0
            with packs_held(tmp_path), pytest.raises(Busy):
                await compactor.round(later)
            assert (await compactor.round(later)).packs == 1
            compactor.close()

    asyncio.run(run())


def test_a_copy_from_before_an_upgrade_keeps_every_pack(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            await fill(state, texts(10), keep=5)
            let_go(state)
            await state.append(b"next" * 50)
            (tmp_path / "snapshots").mkdir(exist_ok=True)
            copy = tmp_path / "snapshots" / "before-0009.db"
            copy.touch()
            compactor = Compactor(state.database, tmp_path, RULES)
            done = await compactor.round(time.time() + 1)
            assert done.held and not done.packs
            copy.unlink()
            assert (await compactor.round(time.time() + 1)).packs == 1
            copy.touch()
            assert (await compactor.retire(time.time() + 2)).removed == 0
            copy.unlink()
            assert (await compactor.retire(time.time() + 3)).removed == 1
            compactor.close()

    asyncio.run(run())


def test_what_comes_to_name_an_emptied_pack_keeps_it(tmp_path: Path) -> None:
    """A unit of work that was under way for longer than anybody thought."""

    async def run() -> None:
        async with opened("local", tmp_path) as state:
            late = state.content(b"late " * 99)
            await fill(state, texts(10), keep=5)
            let_go(state)
            await state.append(b"next" * 50)
            compactor = Compactor(state.database, tmp_path, RULES)
            await compactor.round(time.time() + 1)
            uid = await append(state, late)
            done = await compactor.retire(time.time() + 2)
            assert done.removed == 0 and mail(state)[uid] == b"late " * 99
            done = await compactor.round(time.time() + 3)
            assert done.records == 1
            assert (await compactor.retire(time.time() + 4)).removed == 1
            assert mail(state)[uid] == b"late " * 99
            compactor.close()

    asyncio.run(run())


async def append(state: State, content: object) -> int:
    from postroad.store.operations import Append

    (done,) = await state.database.submit(
        Append(account=BOB, mailbox=INBOX, content=content, internal_date=NOW)  # type: ignore[arg-type]
    )
    return int(done.uid)


def test_mail_in_the_queue_is_live_and_moves(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            content = state.content(b"for others " * 99)
            await state.database.submit(
                Enqueue(
                    message="m1",
                    blob=content.blob,
                    head=b"",
                    size=content.size,
                    reverse_path="",
                    recipients=(QueuedPath(path="a@b.example", domain="b.example"),),
                    accepted=NOW,
                    expires=NOW + 9,
                )
            )
            await fill(state, texts(10), keep=9)
            let_go(state)
            await state.append(b"next" * 50)
            compactor = Compactor(state.database, tmp_path, RULES)
            await compactor.round(time.time() + 1)
            assert (await compactor.retire(time.time() + 2)).removed == 1
            queued = state.queue.message("m1")
            assert queued is not None and queued.blob != content.blob
            assert state.blobs.read(queued.blob) == b"for others " * 99
            compactor.close()

    asyncio.run(run())


def test_a_damaged_record_is_kept_and_told_and_its_neighbours_move(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(30), keep=5)
            let_go(state)
            await state.append(b"next" * 50)
            rows = {
                row.uid: row
                for batch in state.store.messages(
                    BOB, INBOX, UIDSet.of_ranges([(1, 999)]), Want.OCTETS
                )
                for row in batch
            }
            bad = sorted(kept)[2]
            ref = parse_ref(str(rows[bad].blob))
            assert isinstance(ref, PackRef)
            path = pack_path(tmp_path, 1)
            octets = bytearray(path.read_bytes())
            octets[ref.offset + 100] ^= 4
            path.write_bytes(octets)
            compactor = Compactor(state.database, tmp_path, RULES)
            for at in range(1, 4):
                done = await compactor.round(time.time() + at)
                assert [blob for blob, _ in done.damaged] == [str(ref)]
                assert done.removed == 0 and path.exists()
            octets[ref.offset + 100] ^= 4
            path.write_bytes(octets)
            found = mail(state)
            assert {uid: found[uid] for uid in kept} == kept, "it was not dropped"
            await compactor.round(time.time() + 5)
            assert (await compactor.retire(time.time() + 6)).removed == 1
            assert {uid: mail(state)[uid] for uid in kept} == kept
            compactor.close()

    asyncio.run(run())


def test_a_reader_with_an_old_row_reads_the_new_place(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(10), keep=5)
            uid = min(kept)
            ((row,),) = state.store.messages(
                BOB, INBOX, UIDSet.of_ranges([(uid, uid)]), Want.OCTETS
            )
            let_go(state)
            await state.append(b"next" * 50)
            compactor = Compactor(state.database, tmp_path, RULES)
            await compactor.round(time.time() + 1)
            await compactor.retire(time.time() + 2)
            fresh = BlobStore(tmp_path)
            with pytest.raises(Vanished):
                fresh.read(str(row.blob))
            store = MailStore(state.database, fresh)
            assert store.octets(row) == kept[uid]
            assert store.octets_range(row, 5, 25) == kept[uid][5:25]
            fresh.close()
            compactor.close()

    asyncio.run(run())


def test_rows_that_changed_meanwhile_are_left(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            await state.append(b"x" * 999)
            (moved,) = await state.database.submit(Relocate(moves=(("p9:0:5:5", "p1:0:5:5"),)))
            assert moved == 0

    asyncio.run(run())


def test_a_failed_sync_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows keep naming the old records: nothing is given up on a copy that may not be there."""

    async def run() -> None:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(20), keep=5)
            let_go(state)
            await state.append(b"next" * 50)
            before = mail(state)
            sync = os.fdatasync

            def failing(fd: int) -> None:
                if os.readlink(f"/proc/self/fd/{fd}").endswith("00000003.pack"):
                    raise OSError(5, "Input/output error")
                sync(fd)

            monkeypatch.setattr(os, "fdatasync", failing)
            compactor = Compactor(state.database, tmp_path, RULES)
            with pytest.raises(Exception, match="Input/output"):
                await compactor.round(time.time() + 1)
            assert not compactor.waits
            monkeypatch.undo()
            assert mail(state) == before
            done = await compactor.round(time.time() + 2)
            assert done.records == len(kept)
            assert (await compactor.retire(time.time() + 3)).removed == 1
            assert mail(state) == before
            compactor.close()

    asyncio.run(run())


def test_a_full_disk_ends_the_round_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(60), keep=3)
            let_go(state)
            await state.append(b"next" * 50)
            before = mail(state)
            compactor = Compactor(state.database, tmp_path, RULES)
            write, left = os.pwritev, iter(range(10))

            def full(fd: int, parts: object, offset: int) -> int:
                if next(left, None) is None:
                    raise OSError(28, "No space left on device")
                return write(fd, parts, offset)  # type: ignore[arg-type]

            monkeypatch.setattr(os, "pwritev", full)
            with pytest.raises(Unavailable, match="No space"):
                await compactor.round(time.time() + 1)
            monkeypatch.undo()
            assert not compactor.waits and mail(state) == before
            done = await compactor.round(time.time() + 2)
            assert done.records == len(kept)
            assert (await compactor.retire(time.time() + 3)).removed == 1
            assert mail(state) == before
            compactor.close()

    asyncio.run(run())


def test_mail_flows_while_packs_are_rewritten(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(120, 600), keep=3)
            let_go(state)
            compactor = Compactor(
                state.database, tmp_path, Rules(octets_per_second=400_000, age_s=0.0, grace_s=0.0)
            )
            await state.append(b"next" * 50)
            rounds = asyncio.create_task(compactor.round(time.time() + 1))
            fresh = {}
            while not rounds.done():
                octets = NOISE.randbytes(700)
                fresh[(await state.append(octets)).uid] = octets
                found = mail(state)
                assert {uid: found[uid] for uid in kept | fresh} == kept | fresh
            assert (await rounds).records == len(kept) and len(fresh) > 3
            compactor.close()

    asyncio.run(run())


@pytest.mark.parametrize("stop_after", range(6))
def test_a_crash_between_any_two_steps_loses_nothing(tmp_path: Path, stop_after: int) -> None:
    """Stops the compaction dead after so many steps; a new start finds all mail and goes on."""

    class Stop(Exception):
        pass

    async def first() -> dict[int, bytes]:
        async with opened("local", tmp_path) as state:
            kept = await fill(state, texts(30), keep=5)
            let_go(state)
            kept[(await state.append(b"next" * 50)).uid] = b"next" * 50
            compactor = Compactor(state.database, tmp_path, RULES)
            steps = iter(range(stop_after))
            move = compactor._copy

            def copy(fd: int, refs: list[PackRef], done: object) -> list[tuple[str, str]]:
                moves: list[tuple[str, str]] = []
                for ref in refs:
                    if next(steps, None) is None:
                        raise Stop
                    moves += move(fd, [ref], done)  # type: ignore[arg-type]
                return moves

            compactor._copy = copy  # type: ignore[method-assign,assignment]
            with pytest.raises(Stop):
                await compactor.round(time.time() + 1)
            return kept

    async def second(kept: dict[int, bytes]) -> None:
        async with opened("local", tmp_path) as state:
            assert mail(state) == kept
            compactor = Compactor(state.database, tmp_path, RULES)
            await compactor.round(time.time() + 2)
            await compactor.retire(time.time() + 3)
            assert mail(state) == kept
            assert 1 not in pack_numbers(tmp_path)
            compactor.close()

    asyncio.run(second(asyncio.run(first())))
    assert list(verify(tmp_path)) == []


def test_a_pack_in_use_is_seen_from_another_process(tmp_path: Path) -> None:
    blobs = BlobStore.open(tmp_path)
    blobs.append(b"x" * 200)
    fd = os.open(pack_path(tmp_path, 1), os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    blobs.close()
