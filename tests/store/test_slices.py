"""Long operations in slices come to the same end as in one unit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from postroad.database.contract import Operation
from postroad.directory.operations import AddAccount
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store import slices
from postroad.store.operations import (
    Copy,
    DeleteMailbox,
    Expunge,
    Move,
    RenameMailbox,
    SetQuota,
    StoreFlags,
)
from postroad.store.values import FlagMode, Want
from support.state import BOB, FORMS, INBOX, NOW, State, opened

pytestmark = pytest.mark.parametrize("form", FORMS)
ANN = 78
DRAFTS = 2
ALL = [(1, 1 << 31)]


class Counting:
    """A database that counts its units."""

    def __init__(self, state: State) -> None:
        self._database = state.database
        self.first = state.database.first
        self.units = 0
        self.fail_after: int | None = None

    async def submit(self, *operations: Operation[Any]) -> list[Any]:
        if self.fail_after == self.units:
            self.fail_after = None
            raise StateError(Fault.OVERQUOTA, "full")
        self.units += 1
        return await self._database.submit(*operations)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 3)
    monkeypatch.setattr(slices, "SLICE_ACROSS", 2)


def run(form: str, data_dir: Path, scenario: Callable[[State, Any], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await state.database.submit(
                AddAccount(
                    account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s", now=NOW
                )
            )
            for number in range(10):
                await state.append(b"%d" % number)
            await scenario(state, Counting(state))

    asyncio.run(main())


def octets(state: State, mailbox: int = INBOX, account: int = BOB) -> list[bytes]:
    found = state.store.messages(account, mailbox, UIDSet.of_ranges(ALL), Want.OCTETS)
    return [state.store.octets(row) for rows in found for row in rows]


TEN = [b"%d" % number for number in range(10)]


def test_pieces_hold_what_is_there(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        await state.database.submit(
            Expunge(account=BOB, mailbox=INBOX, uids=[(3, 6)], only_deleted=False, now=NOW)
        )  # 1 2 7 8 9 10 are left

        def pieces(uids: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
            return list(slices.cut(state.database, BOB, INBOX, uids, size))

        assert pieces(ALL, 3) == [[(1, 7)], [(8, 1 << 31)]]
        assert pieces(ALL, 6) == [ALL]
        assert pieces([(1, 2), (7, 8), (10, 10)], 2) == [[(1, 2)], [(7, 8)], [(10, 10)]]
        assert pieces([(10, 7), (1, 1)], 4) == [[(1, 1), (7, 9)], [(10, 10)]]
        assert pieces([], 4) == []
        for size in range(1, 12):
            for uids in (ALL, [(1, 4), (6, 9)], [(2, 2), (4, 4), (8, 10)]):
                found = pieces(uids, size)
                counts = [
                    sum(low <= uid <= high for uid in (1, 2, 7, 8, 9, 10) for low, high in piece)
                    for piece in found
                ]
                assert max(counts) <= size
                flat = [pair for piece in found for pair in piece]
                assert flat == sorted(flat)
                assert UIDSet.of_ranges(flat) == UIDSet.of_ranges(uids)

    run(form, tmp_path, scenario)


def test_flags(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        told: list[int] = []

        async def progress(done: int) -> None:
            told.append(done)

        done = await slices.submit(
            database,
            StoreFlags(
                account=BOB, mailbox=INBOX, uids=ALL, mode=FlagMode.ADD, flags=int(Flag.SEEN)
            ),
            progress,
        )
        assert [item.uid for item in done.changed] == list(range(1, 11))
        assert database.units == 4 and told == [3, 6, 9, 10]
        assert sorted({item.modseq for item in done.changed}) == list(done.modseqs)
        assert done.modseq == done.modseqs[-1]
        box = state.store.mailbox_by_id(BOB, INBOX)
        assert box is not None and (box.unseen, box.highestmodseq) == (0, done.modseq)
        few = StoreFlags(account=BOB, mailbox=INBOX, uids=[(2, 3)], mode=FlagMode.REMOVE, flags=1)
        done = await slices.submit(database, few)
        assert database.units == 5 and done.modseqs == (done.modseq,)

    run(form, tmp_path, scenario)


def test_copy_is_all_or_nothing(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        copying = Copy(account=BOB, mailbox=INBOX, uids=[(2, 9)], to=DRAFTS, now=NOW)
        done = await slices.submit(database, copying)
        assert (done.source, done.target) == ([(2, 9)], [(1, 8)])
        assert octets(state, DRAFTS) == TEN[1:9] and database.units == 3
        database.fail_after = database.units + 2
        with pytest.raises(StateError):
            await slices.submit(database, copying)
        assert octets(state, DRAFTS) == TEN[1:9]
        quota = state.store.quota(BOB)
        assert quota is not None and (quota.messages, quota.removed_messages) == (18, 0)

    run(form, tmp_path, scenario)


def test_a_copy_that_is_broken_off_is_taken_back(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        copying = Copy(account=BOB, mailbox=INBOX, uids=ALL, to=INBOX, to_account=ANN, now=NOW)

        async def progress(done: int) -> None:
            if done >= 4:
                task.cancel()
            await asyncio.sleep(0)

        task = asyncio.ensure_future(slices.submit(database, copying, progress))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert octets(state, INBOX, ANN) == []
        assert state.database.first("SELECT count(*) FROM content") == (10,)

    run(form, tmp_path, scenario)


def test_move_and_expunge(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        moving = Move(account=BOB, mailbox=INBOX, uids=[(1, 4), (6, 10)], to=DRAFTS, now=NOW)
        done = await slices.submit(database, moving)
        assert (done.source, done.target) == ([(1, 4), (6, 10)], [(1, 9)])
        assert octets(state, DRAFTS) == TEN[:4] + TEN[5:]
        marking = StoreFlags(
            account=BOB, mailbox=DRAFTS, uids=[(2, 8)], mode=FlagMode.ADD, flags=int(Flag.DELETED)
        )
        await slices.submit(database, marking)
        before = database.units
        gone = await slices.submit(database, Expunge(account=BOB, mailbox=DRAFTS, now=NOW))
        assert gone.uids == [(2, 8)] and database.units == before + 3
        assert octets(state, DRAFTS) == [b"0", b"9"]
        none = await slices.submit(database, Expunge(account=BOB, mailbox=DRAFTS, now=NOW))
        assert none.uids == []

    run(form, tmp_path, scenario)


def test_a_move_that_does_not_fit_is_not_begun(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        await state.database.submit(SetQuota(account=ANN, messages_max=9))
        moving = Move(account=BOB, mailbox=INBOX, uids=ALL, to=INBOX, to_account=ANN, now=NOW)
        with pytest.raises(StateError) as caught:
            await slices.submit(database, moving)
        assert caught.value.fault is Fault.OVERQUOTA and database.units == 0
        await state.database.submit(SetQuota(account=ANN, messages_max=10))
        await slices.submit(database, moving)
        assert octets(state, INBOX, ANN) == TEN and octets(state) == []

    run(form, tmp_path, scenario)


def test_large_mailboxes_are_deleted_and_inbox_is_renamed(form: str, tmp_path: Path) -> None:
    async def scenario(state: State, database: Any) -> None:
        await slices.submit(
            database, RenameMailbox(account=BOB, name="inbox", to="Old/mail", now=NOW)
        )
        old = state.store.mailbox(BOB, "Old/mail")
        assert old is not None and octets(state, old.mailbox) == TEN and octets(state) == []
        await slices.submit(database, DeleteMailbox(account=BOB, name="Old/mail", now=NOW))
        assert state.store.mailbox(BOB, "Old/mail") is None
        quota = state.store.quota(BOB)
        assert quota is not None and (quota.messages, quota.removed_messages) == (0, 10)
        for name, fault in (("INBOX", Fault.CANNOT), ("nowhere", Fault.NONEXISTENT)):
            with pytest.raises(StateError) as caught:
                await slices.submit(database, DeleteMailbox(account=BOB, name=name, now=NOW))
            assert caught.value.fault is fault

    run(form, tmp_path, scenario)
