"""Mailboxes: create, delete, rename, subscribe; both forms of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.store.names import canonical, check_name, parents
from postroad.store.operations import CreateMailbox, DeleteMailbox, RenameMailbox, Subscribe
from support.state import BOB, FORMS, INBOX, NOW, State, opened

FIRST = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


def names(state: State) -> list[str]:
    return [box.name for box in state.store.mailboxes(BOB)]


def create(name: str, special_use: str = "") -> CreateMailbox:
    return CreateMailbox(account=BOB, name=name, special_use=special_use, now=NOW)


def rename(name: str, to: str) -> RenameMailbox:
    return RenameMailbox(account=BOB, name=name, to=to, now=NOW)


def delete(name: str) -> DeleteMailbox:
    return DeleteMailbox(account=BOB, name=name, now=NOW)


async def fault_of(awaitable: Awaitable[object]) -> Fault:
    with pytest.raises(StateError) as caught:
        await awaitable
    return caught.value.fault


@pytest.mark.parametrize("form", FORMS)
def test_create_makes_superiors_and_refuses_twice(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        assert names(state) == FIRST
        (box,) = await state.database.submit(create("a/b/ç/", "\\Archive"))
        assert (box.name, box.special_use, box.uidnext, box.messages) == (
            "a/b/ç",
            "\\Archive",
            1,
            0,
        )
        assert state.store.mailbox(BOB, "a/b/ç") == box
        assert names(state) == [*FIRST, "a", "a/b", "a/b/ç"]
        assert await fault_of(state.database.submit(create("a/b"))) is Fault.ALREADYEXISTS
        assert await fault_of(state.database.submit(create("inBox"))) is Fault.ALREADYEXISTS
        assert (
            await fault_of(state.database.submit(CreateMailbox(account=5, name="x", now=NOW)))
            is Fault.NONEXISTENT
        )
        boxes = state.store.mailboxes(BOB)
        assert len({box.uidvalidity for box in boxes}) == len(boxes)
        assert state.store.mailbox(BOB, "inbox/x") is None
        await state.database.submit(create("inbox/x"))
        assert state.store.mailbox(BOB, "Inbox/x") is not None

    run(form, tmp_path, scenario)


@pytest.mark.parametrize("form", FORMS)
def test_a_name_made_again_has_a_greater_uidvalidity(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        seen = []
        for _ in range(3):
            (box,) = await state.database.submit(create("x"))
            seen.append((box.uidvalidity, box.mailbox, box.highestmodseq))
            await state.append(mailbox=box.mailbox)
            await state.database.submit(delete("x"))
        assert seen == sorted(set(seen))
        assert len({validity for validity, _, _ in seen}) == 3
        assert len({mailbox for _, mailbox, _ in seen}) == 3

    run(form, tmp_path, scenario)


@pytest.mark.parametrize("form", FORMS)
def test_delete_leaves_inferiors_and_never_takes_inbox(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.database.submit(create("a/b"))
        await state.database.submit(delete("a"))
        assert names(state) == [*FIRST, "a/b"]
        assert await fault_of(state.database.submit(delete("a"))) is Fault.HASCHILDREN
        assert await fault_of(state.database.submit(delete("b"))) is Fault.NONEXISTENT
        assert await fault_of(state.database.submit(delete("INBOX"))) is Fault.CANNOT
        assert await fault_of(state.database.submit(delete("inbox"))) is Fault.CANNOT

    run(form, tmp_path, scenario)


@pytest.mark.parametrize("form", FORMS)
def test_rename_takes_inferiors_along(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for name in ("a/b/c", "a!", "a0", "ab", "z"):
            await state.database.submit(create(name))
        before = {box.name: box for box in state.store.mailboxes(BOB)}
        await state.append(mailbox=before["a/b"].mailbox)
        await state.database.submit(rename("a", "n/m"))
        assert names(state) == [*FIRST, "a!", "a0", "ab", "n", "n/m", "n/m/b", "n/m/b/c", "z"]
        after = state.store.mailbox(BOB, "n/m/b")
        assert after is not None and after.messages == 1
        assert (after.mailbox, after.uidvalidity) == (
            before["a/b"].mailbox,
            before["a/b"].uidvalidity,
        )
        for name, to, fault in (
            ("z", "ab", Fault.ALREADYEXISTS),
            ("z", "z", Fault.ALREADYEXISTS),
            ("z", "inbox", Fault.ALREADYEXISTS),
            ("z", "z/y", Fault.CANNOT),
            ("nobody", "x", Fault.NONEXISTENT),
            ("z", "x//y", Fault.CANNOT),
        ):
            assert await fault_of(state.database.submit(rename(name, to))) is fault
        await state.database.submit(create("q/b"))
        await state.database.submit(delete("q"))
        assert await fault_of(state.database.submit(rename("n/m", "q"))) is Fault.ALREADYEXISTS
        assert "n/m" in names(state)
        await state.database.submit(rename("q", "p"))  # a name that only has inferiors
        assert "p/b" in names(state)
        assert not {"p", "q", "q/b"} & set(names(state))

    run(form, tmp_path, scenario)


@pytest.mark.parametrize("form", FORMS)
def test_rename_of_inbox_moves_its_messages(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"1")
        await state.append(b"2")
        await state.database.submit(rename("inbox", "old/mail"))
        inbox = state.store.mailbox(BOB, "INBOX")
        old = state.store.mailbox(BOB, "old/mail")
        assert inbox is not None and old is not None
        assert (inbox.mailbox, inbox.messages, inbox.uidnext) == (INBOX, 0, 3)
        assert (old.messages, old.uidnext) == (2, 3)

    run(form, tmp_path, scenario)


@pytest.mark.parametrize("form", FORMS)
def test_subscriptions_outlive_mailboxes(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        def subscribe(name: str, on: bool) -> Subscribe:
            return Subscribe(account=BOB, name=name, subscribed=on)

        assert state.store.subscriptions(BOB) == FIRST
        await state.database.submit(subscribe("not/there", True), subscribe("Junk", False))
        await state.database.submit(subscribe("not/there", True))
        assert state.store.subscriptions(BOB) == [
            *(name for name in FIRST if name != "Junk"),
            "not/there",
        ]
        (box,) = await state.database.submit(create("not/there"))
        assert box.subscribed
        await state.database.submit(subscribe("inbox", False))
        inbox = state.store.mailbox(BOB, "INBOX")
        assert inbox is not None and not inbox.subscribed

    run(form, tmp_path, scenario)


def test_names_are_checked() -> None:
    assert check_name("Inbox") == "INBOX"
    assert check_name("inbox/A/") == "INBOX/A"
    assert canonical("inboxes") == "inboxes"
    assert parents("a/b/c") == ["a", "a/b"]
    for name, fault in (
        ("", Fault.CANNOT),
        ("/a", Fault.CANNOT),
        ("a//b", Fault.CANNOT),
        ("a\r\nb", Fault.CANNOT),
        ("a\x00", Fault.CANNOT),
        ("\ud800", Fault.CANNOT),
        ("é" * (limits.MAILBOX_NAME_OCTETS_MAX // 2 + 1), Fault.LIMIT),
        ("/".join("a" * (limits.MAILBOX_DEPTH_MAX + 1)), Fault.LIMIT),
    ):
        with pytest.raises(StateError) as caught:
            check_name(name)
        assert caught.value.fault is fault
    assert check_name("a" * limits.MAILBOX_NAME_OCTETS_MAX)
