"""What was expunged can be brought back, until its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from postroad.directory.operations import RemoveAccount
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store.operations import (
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    ForgetRemoved,
    Move,
    Subscribe,
)
from postroad.store.removed import forget_removed
from postroad.store.undelete import Removed, Restored, removed_mailboxes, removed_messages, steps
from postroad.store.values import Want
from support.state import BOB, FORMS, INBOX, NOW, State, opened

pytestmark = pytest.mark.parametrize("form", FORMS)
ALL = UIDSet(((1, 1 << 32),))
DRAFTS = 2


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


async def expunge(state: State, *uids: int, mailbox: int = INBOX, now: int = NOW) -> None:
    ranges = [(uid, uid) for uid in uids] or None
    await state.database.submit(
        Expunge(account=BOB, mailbox=mailbox, uids=ranges, only_deleted=False, now=now)
    )


def removed(state: State, since: int = 0) -> list[Removed]:
    return list(removed_messages(state.database, BOB, since))


async def restore(state: State, items: list[Removed], into: str = "") -> list[Restored]:
    units = list(steps(items, into, BOB, NOW + 5))
    return [(await state.database.submit(unit))[0] for unit in units]


def octets(state: State, mailbox: int = INBOX) -> list[bytes]:
    rows = [row for rows in state.store.messages(BOB, mailbox, ALL, Want.OCTETS) for row in rows]
    return [state.store.octets(row) for row in rows]


def contents(state: State) -> int:
    row = state.database.first("SELECT count(*) FROM content")
    assert row is not None
    return int(row[0])


def test_messages_come_back_under_new_uids(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        flags = Flag.FLAGGED | Flag.DELETED
        for number in range(4):
            await state.append(b"%d" % number, flags=flags, keywords=(b"$K",))
        await expunge(state, 1, 2, 4)
        found = removed(state)
        assert [(item.uid, item.name, item.removed_at) for item in found] == [
            (1, "INBOX", NOW),
            (2, "INBOX", NOW),
            (4, "INBOX", NOW),
        ]
        (done,) = await restore(state, found[1:])
        assert (done.mailbox, done.name, done.created) == (INBOX, "INBOX", False)
        assert done.uids == [(5, 6)]
        assert octets(state) == [b"2", b"1", b"3"]
        (rows,) = state.store.messages(BOB, INBOX, UIDSet.of([5]))
        assert rows[0].flags == Flag.FLAGGED and rows[0].keywords == (b"$K",)
        assert (rows[0].internal_date, rows[0].saved) == (NOW, NOW + 5)
        assert [item.uid for item in removed(state)] == [1]

    run(form, tmp_path, scenario)


def test_a_deleted_mailbox_is_made_again(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        (box,) = await state.database.submit(
            CreateMailbox(account=BOB, name="Work/Old", special_use="\\Flagged", now=NOW)
        )
        await state.database.submit(Subscribe(account=BOB, name="Work/Old", subscribed=True))
        await state.append(b"one", mailbox=box.mailbox, keywords=(b"$K",))
        await state.append(b"two", mailbox=box.mailbox)
        await state.database.submit(
            CreateMailbox(account=BOB, name="Empty", now=NOW),
            DeleteMailbox(account=BOB, name="Work/Old", now=NOW + 1),
            DeleteMailbox(account=BOB, name="Work", now=NOW + 1),
            DeleteMailbox(account=BOB, name="Empty", now=NOW + 2),
        )
        assert [item.name for item in removed_mailboxes(state.database, BOB)] == [
            "Work",
            "Work/Old",
            "Empty",
        ]
        found = removed(state)
        assert [item.name for item in found] == ["Work/Old"] * 2
        (done,) = await restore(state, found[:1])
        assert done.created and done.name == "Work/Old"
        (again,) = await restore(state, found[1:])
        assert not again.created and again.mailbox == done.mailbox
        made = state.store.mailbox(BOB, "Work/Old")
        assert made is not None and made.uidvalidity > box.uidvalidity
        assert (made.special_use, made.subscribed) == ("\\Flagged", True)
        assert state.store.mailbox(BOB, "Work") is not None
        assert octets(state, made.mailbox) == [b"one", b"two"]
        assert [item.name for item in removed_mailboxes(state.database, BOB)] == ["Empty"]

    run(form, tmp_path, scenario)


def test_a_mailbox_of_the_same_name_takes_them(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"one", mailbox=DRAFTS)
        await state.database.submit(
            DeleteMailbox(account=BOB, name="Drafts", now=NOW),
            CreateMailbox(account=BOB, name="Drafts", now=NOW),
        )
        (done,) = await restore(state, removed(state))
        assert not done.created and octets(state, done.mailbox) == [b"one"]
        await expunge(state, mailbox=done.mailbox)
        (done,) = await restore(state, removed(state), into="Rescued/now")
        assert done.created and done.name == "Rescued/now"

    run(form, tmp_path, scenario)


def test_time_is_up_in_bounded_steps(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for number in range(5):
            await state.append(b"%d" % number)
        await state.database.submit(Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS))
        await expunge(state, 1, 2, 3, now=NOW)
        await expunge(state, 4, now=NOW + 10)
        assert contents(state) == 5
        step = ForgetRemoved(account=BOB, before=NOW + 1, count=2)
        assert [(await state.database.submit(step))[0] for _ in range(3)] == [2, 1, 0]
        assert contents(state) == 3  # the copy in Drafts keeps the first
        assert [item.uid for item in removed(state)] == [4]
        quota = state.store.quota(BOB)
        assert quota is not None and (quota.removed_messages, quota.messages) == (1, 2)
        assert await forget_removed(state.database, NOW + 11) == 1
        assert contents(state) == 2
        assert octets(state, DRAFTS) == [b"0"]

    run(form, tmp_path, scenario)


def test_deleted_mailboxes_are_forgotten_too(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.database.submit(CreateMailbox(account=BOB, name="Empty", now=NOW))
        await state.database.submit(DeleteMailbox(account=BOB, name="Empty", now=NOW))
        assert await forget_removed(state.database, NOW) == 0
        assert len(removed_mailboxes(state.database, BOB)) == 1
        await forget_removed(state.database, NOW + 1)
        assert removed_mailboxes(state.database, BOB) == []

    run(form, tmp_path, scenario)


def test_what_is_gone_is_told(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        await expunge(state, 1)
        found = removed(state)
        await forget_removed(state.database, NOW + 1)
        with pytest.raises(StateError) as caught:
            await restore(state, found)
        assert caught.value.fault is Fault.NONEXISTENT

    run(form, tmp_path, scenario)


def test_a_move_leaves_nothing_to_bring_back(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        await state.database.submit(Move(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=DRAFTS))
        assert removed(state) == []

    run(form, tmp_path, scenario)


def test_the_account_takes_it_along(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        await expunge(state, 1)
        await state.database.submit(DeleteMailbox(account=BOB, name="Drafts", now=NOW))
        await state.database.submit(RemoveAccount(account=BOB))
        for table in ("removed", "removed_mailbox", "content"):
            assert state.database.first(f"SELECT 1 FROM {table}") is None

    run(form, tmp_path, scenario)


def test_pages_are_walked_whole(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroad.store.undelete.PAGE_ROWS", 2)
    monkeypatch.setattr("postroad.store.undelete.RESTORED_AT_ONCE", 2)

    async def scenario(state: State) -> None:
        for number in range(5):
            await state.append(b"%d" % number)
        await expunge(state, 2, 3, now=NOW)
        await expunge(state, 1, 4, 5, now=NOW + 1)
        assert [item.uid for item in removed(state)] == [2, 3, 1, 4, 5]
        assert [item.uid for item in removed(state, NOW + 1)] == [1, 4, 5]
        done = await restore(state, removed(state))
        assert [item.uids for item in done] == [[(6, 7)], [(8, 9)], [(10, 10)]]
        assert octets(state) == [b"0", b"1", b"2", b"3", b"4"]

    run(form, tmp_path, scenario)
