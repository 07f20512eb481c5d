"""Choosing what to bring back: by mailbox, message, since when, to a point in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postroad.admin.books import Books
from postroad.admin.undelete import Choice, choose, describe, parse_moment, undelete
from postroad.mail.errors import StateError
from postroad.message.summary import summarize
from postroad.store.operations import Append, CreateMailbox, DeleteMailbox, Expunge
from postroad.store.values import content_of
from support.state import BOB, INBOX, NOW, State, opened

MOMENT = datetime.fromtimestamp(NOW + 1000, UTC)
BOB_ADDRESS = "bob@two.example"


async def arrive(state: State, number: int, now: int, mailbox: int = INBOX) -> None:
    octets = (
        b"From: =?utf-8?q?Z=C3=B6e?= <zoe@one.example>\r\nSubject: number %d\r\n"
        b"Message-ID: <%d@one.example>\r\n\r\ntext\r\n" % (number, number)
    )
    content = content_of(summarize(octets), state.blobs.append(octets), b"")
    await state.database.submit(
        Append(account=BOB, mailbox=mailbox, content=content, internal_date=now, now=now)
    )


async def prepared(state: State) -> Books:
    """Five messages at NOW + 0..4; 1 and 2 removed at NOW + 10, 3 with its mailbox at NOW + 20."""
    (work,) = await state.database.submit(CreateMailbox(account=BOB, name="Work", now=NOW))
    for number in range(5):
        mailbox = work.mailbox if number == 3 else INBOX
        await arrive(state, number, NOW + number, mailbox)
    await state.database.submit(
        Expunge(account=BOB, mailbox=INBOX, uids=[(2, 3)], only_deleted=False, now=NOW + 10),
        DeleteMailbox(account=BOB, name="Work", now=NOW + 20),
    )
    return Books(database=state.database, directory=state.directory, queue=state.queue)


@pytest.mark.parametrize(
    ("choice", "subjects"),
    [
        (Choice(), [1, 2, 3]),
        (Choice(mailbox="inbox"), [1, 2]),
        (Choice(mailbox="Work"), [3]),
        (Choice(mailbox="INBOX", message="3"), [2]),
        (Choice(message="<1@one.example>"), [1]),
        (Choice(message="1@one.example"), [1]),
        (Choice(message="nobody@one.example"), []),
        (Choice(since=NOW + 11), [3]),
        (Choice(at=NOW + 1), [1]),
        (Choice(at=NOW + 15), [3]),
        (Choice(at=NOW + 20), []),
        (Choice(at=NOW + 9, mailbox="INBOX"), [1, 2]),
    ],
)
def test_what_is_chosen(tmp_path: Path, choice: Choice, subjects: list[int]) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            books = await prepared(state)
            chosen = choose(books, BOB_ADDRESS, choice)
            mail = list(describe(books, chosen))
            assert [item.subject for item in mail] == [f"number {number}" for number in subjects]
            assert all(item.sender == "Zöe <zoe@one.example>" for item in mail)

    asyncio.run(main())


def test_a_mailbox_comes_back_with_its_mail(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            books = await prepared(state)
            await state.database.submit(
                CreateMailbox(account=BOB, name="Nothing in it", now=NOW),
                DeleteMailbox(account=BOB, name="Nothing in it", now=NOW + 30),
            )
            counts: list[int] = []
            chosen = choose(books, BOB_ADDRESS, Choice(at=NOW + 5))
            done = await undelete(books, chosen, now=MOMENT, progress=counts.append)
            assert {(item.name, item.created) for item in done} == {
                ("INBOX", False),
                ("Work", True),
                ("Nothing in it", True),
            }
            assert counts == [2, 3, 3]
            assert choose(books, BOB_ADDRESS, Choice()).messages == []
            inbox = state.store.mailbox(BOB, "INBOX")
            assert inbox is not None and inbox.messages == 4

    asyncio.run(main())


def test_into_another_mailbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            books = await prepared(state)
            chosen = choose(books, BOB_ADDRESS, Choice())
            done = await undelete(books, chosen, into="Rescued/", now=MOMENT)
            assert {item.name for item in done} == {"Rescued"}
            assert state.store.mailbox(BOB, "Work") is None
            assert await undelete(books, chosen, now=MOMENT) == []  # already brought back
            with pytest.raises(ValueError, match="--mailbox"):
                choose(books, BOB_ADDRESS, Choice(message="3"))
            with pytest.raises(StateError):
                choose(books, "nobody@two.example", Choice())

    asyncio.run(main())


def test_moments() -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    day = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
    assert parse_moment("2026-11-23", now) == day
    assert parse_moment("2026-11-23T01:00", now) == day + 3600
    assert parse_moment("2026-11-23T01:00+01:00", now) == day
    assert parse_moment("36h", now) == day
    assert parse_moment("1d", now) == day + 12 * 3600
    for bad in ("yesterday", "3", "3x", "-1d", "99999999999w", ""):
        with pytest.raises(ValueError, match="moment"):
            parse_moment(bad, now)
