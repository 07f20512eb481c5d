"""Units that stand or fall as one, and the keys of URLs; both forms of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postroad.database.writer import Unit, _is_irrevocable
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store.operations import Append, CreateMailbox, DeleteMailbox
from postroad.store.quota import SetQuota
from postroad.store.units import AppendAll, Supersede
from postroad.store.urls import ForgetURLKeys, KeepURLKey, url_key
from postroad.store.values import NewMessage, Want
from postroad.store.verify import verify
from support.state import BOB, FORMS, INBOX, NOW, State, opened

pytestmark = pytest.mark.parametrize("form", FORMS)
ALL = UIDSet(((1, 1 << 32),))
KEY = b"k" * 32


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


async def fault_of(awaitable: Awaitable[object]) -> Fault:
    with pytest.raises(StateError) as caught:
        await awaitable
    return caught.value.fault


def uids(state: State) -> list[int]:
    return [row.uid for rows in state.store.messages(BOB, INBOX, ALL) for row in rows]


def append(state: State, octets: bytes = b"y") -> Append:
    return Append(
        account=BOB, mailbox=INBOX, content=state.content(octets), internal_date=NOW,
        enforce_quota=True,
    )  # fmt: skip


def append_all(state: State, *octets: bytes, **changes: Any) -> AppendAll:
    messages = tuple(
        NewMessage(
            content=state.content(item),
            flags=int(Flag.SEEN) if number % 2 else 0,
            keywords=(b"Work",) if number % 3 else (),
            internal_date=NOW - number,
        )
        for number, item in enumerate(octets)
    )
    return AppendAll(account=BOB, mailbox=INBOX, messages=messages, enforce_quota=True, **changes)


def supersede(uid: int) -> Supersede:
    return Supersede(account=BOB, mailbox=INBOX, uid=uid, now=NOW)


def test_a_message_supersedes_another(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        await state.append()
        gone, done = await state.database.submit(supersede(1), append(state))
        assert gone.uids == [(1, 1)]
        assert done.uid == 3
        assert done.modseq > gone.modseq
        assert uids(state) == [2, 3]

    run(form, tmp_path, scenario)


def test_what_is_not_there_is_not_superseded(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        unit = state.database.submit(supersede(2), append(state))
        assert await fault_of(unit) is Fault.CONFLICT
        other = Supersede(account=BOB, mailbox=999, uid=1, now=NOW)
        assert await fault_of(state.database.submit(other)) is Fault.NONEXISTENT
        assert uids(state) == [1]

    run(form, tmp_path, scenario)


def test_only_what_is_more_counts_against_the_quota(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"x" * 100)
        await state.database.submit(SetQuota(account=BOB, octets_max=120, messages_max=1))
        unit = state.database.submit(supersede(1), append(state, b"y" * 130))
        assert await fault_of(unit) is Fault.OVERQUOTA
        assert uids(state) == [1]
        await state.database.submit(supersede(1), append(state, b"y" * 120))
        assert uids(state) == [2]

    run(form, tmp_path, scenario)


def test_such_units_commit_after_their_octets(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for unit in (
            Unit([append_all(state, b"a", b"b")], None),
            Unit([append(state), supersede(1)], None),
        ):
            unit.blobs = ["p1:0:1:1"]
            assert _is_irrevocable(unit)

    run(form, tmp_path, scenario)


def test_many_are_added_as_one_by_one(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        many = [b"m%d" % number for number in range(100)]
        [done] = await state.database.submit(append_all(state, *many, now=NOW + 9))
        assert (done.uid, done.count) == (2, 100)
        want = Want.OCTETS
        [_, *rows] = [row for rows in state.store.messages(BOB, INBOX, ALL, want) for row in rows]
        assert [row.uid for row in rows] == list(range(2, 102))
        assert {(row.modseq, row.saved) for row in rows} == {(done.modseq, NOW + 9)}
        for number, row in enumerate(rows):
            assert state.store.blobs.read(row.blob or "") == many[number]
            assert (row.flags, row.size) == (Flag.SEEN if number % 2 else 0, len(many[number]))
            assert row.keywords == ((b"Work",) if number % 3 else ())
            assert row.internal_date == NOW - number
        mailbox = state.store.mailbox_by_id(BOB, INBOX)
        assert mailbox is not None
        assert (mailbox.messages, mailbox.unseen) == (101, 51)
        assert mailbox.highestmodseq == done.modseq

    run(form, tmp_path, scenario)
    assert list(verify(tmp_path)) == []


def test_many_are_added_all_or_none(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"x")
        await state.database.submit(SetQuota(account=BOB, messages_max=3))
        unit = state.database.submit(append_all(state, b"a", b"b", b"c"))
        assert await fault_of(unit) is Fault.OVERQUOTA
        assert uids(state) == [1]
        other = append_all(state, b"a", b"b")
        await state.database.submit(other)
        assert uids(state) == [1, 2, 3]
        lost = msgspec.structs.replace(other, mailbox=999, enforce_quota=False)
        assert await fault_of(state.database.submit(lost)) is Fault.NONEXISTENT

    run(form, tmp_path, scenario)


def test_rights_hold_for_each_of_many(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.database.submit(append_all(state, b"a", b"b", rights="t"))
        rows = [row for rows in state.store.messages(BOB, INBOX, ALL) for row in rows]
        assert [(row.flags, row.keywords) for row in rows] == [(0, ()), (0, ())]
        await state.database.submit(append_all(state, b"c", b"d", b"e", b"f", reader=78))
        rows = [row for rows in state.store.messages(BOB, INBOX, ALL) for row in rows]
        assert not any(row.flags for row in rows)
        found = state.database.execute("SELECT low, high FROM seen WHERE reader = 78")
        assert list(found) == [(4, 4), (6, 6)]

    run(form, tmp_path, scenario)


# -- keys of URLs ------------------------------------------------------------------------------


def keep(mailbox: int, key: bytes = KEY, *, reader: int = BOB, anew: bool = False) -> KeepURLKey:
    return KeepURLKey(account=BOB, mailbox=mailbox, reader=reader, key=key, anew=anew)


def test_a_key_stays_until_it_is_made_anew(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        assert url_key(state.database, BOB, INBOX, BOB) is None
        assert await state.database.submit(keep(INBOX)) == [KEY]
        assert await state.database.submit(keep(INBOX, b"n" * 32)) == [KEY]
        assert await state.database.submit(keep(INBOX, b"n" * 32, anew=True)) == [b"n" * 32]
        assert url_key(state.database, BOB, INBOX, BOB) == b"n" * 32

    run(form, tmp_path, scenario)


def test_each_user_has_a_key_of_his_own(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.database.submit(keep(INBOX), keep(INBOX, b"o" * 32, reader=5))
        assert url_key(state.database, BOB, INBOX, 5) == b"o" * 32
        await state.database.submit(ForgetURLKeys(reader=BOB))
        assert url_key(state.database, BOB, INBOX, BOB) is None
        assert url_key(state.database, BOB, INBOX, 5) == b"o" * 32

    run(form, tmp_path, scenario)


def test_a_key_goes_with_its_mailbox(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        assert await fault_of(state.database.submit(keep(999))) is Fault.NONEXISTENT
        [made] = await state.database.submit(CreateMailbox(account=BOB, name="x", now=NOW))
        await state.database.submit(keep(made.mailbox))
        await state.database.submit(DeleteMailbox(account=BOB, name="x", now=NOW))
        assert url_key(state.database, BOB, made.mailbox, BOB) is None

    run(form, tmp_path, scenario)
