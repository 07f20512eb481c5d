"""Quotas: exact after every change, hard for users, and never a harm to a delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from postroad.directory.operations import AddAccount
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store.operations import (
    Append,
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    Move,
    RenameMailbox,
    SetQuota,
    SetQuotaDefaults,
)
from postroad.store.quota import Quota
from postroad.store.removed import forget_removed
from postroad.store.values import Want
from support.state import BOB, FORMS, INBOX, NOW, State, opened

pytestmark = pytest.mark.parametrize("form", FORMS)
ANN = 78
DRAFTS = 2
ALL = UIDSet(((1, 1 << 32),))


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await state.database.submit(
                AddAccount(
                    account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s", now=NOW
                )
            )
            await scenario(state)

    asyncio.run(main())


def quota(state: State, account: int = BOB) -> Quota:
    found = state.store.quota(account)
    assert found is not None
    return found


def use(state: State, account: int = BOB) -> tuple[int, int, int]:
    found = quota(state, account)
    return found.octets, found.messages, found.mailboxes


async def refused(awaitable: Awaitable[object]) -> Fault:
    with pytest.raises(StateError) as caught:
        await awaitable
    return caught.value.fault


def test_use_follows_every_change(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        assert use(state) == (0, 0, 6)
        assert state.store.quota(999) is None
        await state.append(b"x" * 10)
        await state.append(b"y" * 5)
        assert use(state) == (15, 2, 6)
        await state.database.submit(Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS))
        assert use(state) == (25, 3, 6)
        await state.database.submit(Move(account=BOB, mailbox=INBOX, uids=[(2, 2)], to=DRAFTS))
        assert use(state) == (25, 3, 6)
        await state.database.submit(CreateMailbox(account=BOB, name="a/b/c", now=NOW))
        assert use(state) == (25, 3, 9)
        await state.database.submit(RenameMailbox(account=BOB, name="a/b", to="x/y/b", now=NOW))
        assert use(state) == (25, 3, 11)
        await state.database.submit(
            Expunge(account=BOB, mailbox=DRAFTS, uids=[(1, 1)], only_deleted=False, now=NOW)
        )
        assert use(state) == (15, 2, 11)
        assert (quota(state).removed_octets, quota(state).removed_messages) == (10, 1)
        await state.database.submit(DeleteMailbox(account=BOB, name="Drafts", now=NOW))
        assert use(state) == (10, 1, 10)
        assert (quota(state).removed_octets, quota(state).removed_messages) == (15, 2)
        await forget_removed(state.database, NOW + 1)
        assert (quota(state).removed_octets, quota(state).removed_messages) == (0, 0)
        await state.database.submit(RenameMailbox(account=BOB, name="INBOX", to="old", now=NOW))
        assert use(state) == (10, 1, 11)
        assert use(state, ANN) == (0, 0, 6)

    run(form, tmp_path, scenario)


def test_limits_hold_for_users_and_not_for_deliveries(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.database.submit(
            SetQuota(account=BOB, octets_max=20, messages_max=3, mailboxes_max=7)
        )
        await state.append(b"x" * 20, enforce_quota=True)
        assert quota(state).is_full
        assert await refused(state.append(b"y", enforce_quota=True)) is Fault.OVERQUOTA
        assert use(state) == (20, 1, 6)
        copying = Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS)
        assert await refused(state.database.submit(copying)) is Fault.OVERQUOTA
        await state.database.submit(Move(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS))
        await state.append(b"a delivery", mailbox=0)
        assert use(state) == (30, 2, 6)
        await state.database.submit(SetQuota(account=BOB, messages_max=3, mailboxes_max=7))
        await state.append(b"z", enforce_quota=True)
        assert await refused(state.append(b"y", enforce_quota=True)) is Fault.OVERQUOTA
        await state.database.submit(CreateMailbox(account=BOB, name="one", now=NOW))
        for operation in (
            CreateMailbox(account=BOB, name="two", now=NOW),
            RenameMailbox(account=BOB, name="one", to="up/one", now=NOW),
        ):
            assert await refused(state.database.submit(operation)) is Fault.OVERQUOTA
        assert state.store.mailbox(BOB, "two") is state.store.mailbox(BOB, "up") is None
        await state.database.submit(
            CreateMailbox(account=BOB, name="two", now=NOW, enforce_quota=False)
        )
        assert use(state) == (31, 3, 8)

    run(form, tmp_path, scenario)


def test_defaults_hold_where_nothing_was_set(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        assert quota(state).octets_max is None
        (changed,) = await state.database.submit(SetQuotaDefaults(octets_max=5))
        assert changed
        (changed,) = await state.database.submit(SetQuotaDefaults(octets_max=5))
        assert not changed
        assert (quota(state).octets_max, quota(state).own) == (5, (None, None, None))
        await state.database.submit(SetQuota(account=ANN, octets_max=-1))
        assert quota(state, ANN).octets_max is None
        assert quota(state, ANN).own == (-1, None, None)
        assert await refused(state.append(b"123456", enforce_quota=True)) is Fault.OVERQUOTA
        assert not quota(state).is_full
        for bad in (-2, 1 << 62):
            operation = SetQuota(account=ANN, octets_max=bad)
            assert await refused(state.database.submit(operation)) is Fault.CANNOT
        assert await refused(state.database.submit(SetQuota(account=5))) is Fault.NONEXISTENT

    run(form, tmp_path, scenario)


def test_one_full_account_refuses_its_unit_alone(form: str, tmp_path: Path) -> None:
    """Two deliveries in one unit: the limit of the one is no matter for the other."""

    async def scenario(state: State) -> None:
        await state.database.submit(SetQuota(account=BOB, octets_max=0))
        content = state.content(b"to both")
        both = [
            Append(account=account, mailbox=0, content=content, internal_date=NOW)
            for account in (BOB, ANN)
        ]
        assert len(await state.database.submit(*both)) == 2

    run(form, tmp_path, scenario)


def test_a_copy_to_another_account_is_all_its_own(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for number in range(3):
            await state.append(b"%d" % number, flags=Flag.FLAGGED, keywords=(b"$Work",))
        await state.append(b"hers", mailbox=INBOX)
        twice = Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=INBOX)
        await state.database.submit(twice)
        (done,) = await state.database.submit(
            Copy(account=BOB, mailbox=INBOX, uids=[(1, 2), (5, 5)], to=3, to_account=ANN, now=9)
        )
        assert (done.source, done.target) == ([(1, 2), (5, 5)], [(1, 3)])
        theirs = state.store.mailbox_by_id(ANN, 3)
        assert theirs is not None and done.uidvalidity == theirs.uidvalidity
        assert use(state, ANN) == (3, 3, 6)
        await state.database.submit(
            Expunge(account=BOB, mailbox=INBOX, only_deleted=False, now=NOW)
        )
        await forget_removed(state.database, NOW + 1)
        (rows,) = state.store.messages(ANN, 3, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"0", b"1", b"0"]
        assert [row.keywords for row in rows] == [(b"$Work",)] * 3
        assert {row.flags for row in rows} == {Flag.FLAGGED}
        assert {row.saved for row in rows} == {9}
        assert state.store.keywords(ANN, 3) == (b"$Work",)
        assert len({row.heap for row in rows}) == 2

    run(form, tmp_path, scenario)


def test_a_move_to_another_account_is_one_unit(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for number in range(3):
            await state.append(b"%d" % number)
        await state.database.submit(Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS))
        before = state.store.mailbox_by_id(BOB, INBOX)
        assert before is not None
        moving = Move(account=BOB, mailbox=INBOX, uids=[(1, 2)], to=INBOX, to_account=ANN, now=9)
        await state.database.submit(SetQuota(account=ANN, messages_max=1))
        assert await refused(state.database.submit(moving)) is Fault.OVERQUOTA
        assert (use(state), use(state, ANN)) == ((4, 4, 6), (0, 0, 6))
        await state.database.submit(SetQuota(account=ANN))
        (done,) = await state.database.submit(moving)
        assert (done.source, done.target) == ([(1, 2)], [(1, 2)])
        assert (use(state), use(state, ANN)) == ((2, 2, 6), (2, 2, 6))
        assert quota(state).removed_messages == 0
        changes = state.store.changes(BOB, INBOX, before.highestmodseq)
        assert changes is not None and list(changes.vanished) == [1, 2]
        assert changes.highestmodseq == done.modseq
        (rows,) = state.store.messages(ANN, INBOX, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"0", b"1"]
        (rows,) = state.store.messages(BOB, DRAFTS, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"0"]

    run(form, tmp_path, scenario)


def test_keywords_take_the_spelling_of_where_they_go(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(keywords=(b"$work",), mailbox=DRAFTS)
        await state.append(keywords=(b"$Work", b"b"))
        await state.database.submit(Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS))
        (rows,) = state.store.messages(BOB, DRAFTS, ALL)
        assert rows[1].keywords == (b"$work", b"b")

    run(form, tmp_path, scenario)
