"""Messages: append, flags, copy, move, expunge, changes; both forms of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from postroad.database.contract import Notice, Topic
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store.operations import (
    Append,
    ClaimRecent,
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    Move,
    StoreFlags,
)
from postroad.store.removed import forget_removed
from postroad.store.values import FlagMode, Want
from support.state import BOB, FORMS, INBOX, NOW, State, opened

pytestmark = pytest.mark.parametrize("form", FORMS)
ALL = UIDSet(((1, 1 << 32),))
DRAFTS = 2


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


async def fault_of(awaitable: Awaitable[object]) -> Fault:
    with pytest.raises(StateError) as caught:
        await awaitable
    return caught.value.fault


def uids(state: State, mailbox: int = INBOX) -> list[int]:
    found = state.store.mailbox_by_id(BOB, mailbox)
    assert found is not None
    there = state.store.uids(BOB, mailbox, found.uidnext - 1, found.highestmodseq)
    assert there is not None
    return list(there)


def test_a_message_is_there_when_submit_returns(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        octets = bytes(range(256)) * 5
        content = state.content(octets, head=b"Received: by us\r\n")
        (done,) = await state.database.submit(
            Append(
                account=BOB,
                mailbox=0,
                content=content,
                flags=Flag.FLAGGED,
                keywords=(b"$Work", b"$work", b"a"),
                internal_date=NOW,
            )
        )
        assert (done.mailbox, done.uid) == (INBOX, 1)
        every = Want(127)
        ((row,),) = state.store.messages(BOB, INBOX, ALL, every)
        assert (row.uid, row.modseq, row.flags) == (1, done.modseq, Flag.FLAGGED)
        assert row.keywords == (b"$Work", b"a")
        assert (row.envelope, row.body, row.bodystructure) == (
            content.envelope,
            content.body,
            content.bodystructure,
        )
        assert (row.header, row.structure, row.head, row.blob) == (
            content.header,
            content.structure,
            content.head,
            content.blob,
        )
        assert (row.preview, row.sent, row.size) == (content.preview, content.sent, content.size)
        whole = content.head + octets
        assert state.store.octets(row) == whole
        for start, stop in ((0, 5), (10, 30), (17, 18), (40, 9999), (5, 5), (9, 3)):
            assert state.store.octets_range(row, start, stop) == whole[start : max(stop, start)]
        box = state.store.mailbox(BOB, "inbox")
        assert box is not None
        assert (box.messages, box.unseen, box.uidnext, box.size) == (1, 1, 2, content.size)
        assert box.highestmodseq == done.modseq
        assert state.store.keywords(BOB, INBOX) == (b"$Work", b"a")

    run(form, tmp_path, scenario)


def test_each_want_brings_only_what_was_wanted(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append()
        ((base,),) = state.store.messages(BOB, INBOX, ALL)
        assert base.envelope is base.blob is base.preview is base.sent is None
        ((row,),) = state.store.messages(BOB, INBOX, ALL, Want.BODY | Want.SENT)
        assert row.body == b"(body)" and row.sent == NOW - 5
        assert row.envelope is row.bodystructure is row.header is row.blob is row.preview is None

    run(form, tmp_path, scenario)


def test_delivery_goes_to_the_mailbox_with_the_use_else_to_inbox(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        junk = state.store.mailbox(BOB, "Junk")
        assert junk is not None
        assert (await state.append(mailbox=0, special_use="\\Junk")).mailbox == junk.mailbox
        assert (await state.append(mailbox=0, special_use="\\All")).mailbox == INBOX

    run(form, tmp_path, scenario)


def test_a_delivery_that_comes_again_is_done_once(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        first = await state.append(mailbox=0, delivery_id="m1")
        assert await state.append(mailbox=0, delivery_id="m1") == first
        assert (await state.append(mailbox=0, delivery_id="m2")).uid == 2
        assert uids(state) == [1, 2]

    run(form, tmp_path, scenario)


def test_a_unit_is_all_or_nothing(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        before = state.store.mailboxes(BOB)
        heard: list[Notice] = []
        state.database.subscribe(0, heard.append)
        good = Append(account=BOB, mailbox=INBOX, content=state.content(), internal_date=NOW)
        bad = Append(account=BOB, mailbox=999, content=state.content(), internal_date=NOW)
        assert await fault_of(state.database.submit(good, bad)) is Fault.NONEXISTENT
        assert state.store.mailboxes(BOB) == before
        assert heard == []
        assert await fault_of(state.append(mailbox=999)) is Fault.NONEXISTENT
        assert await fault_of(state.append(expected_uidvalidity=5)) is Fault.NONEXISTENT
        validity = before[0].uidvalidity
        assert (await state.append(expected_uidvalidity=validity)).uid == 1

    run(form, tmp_path, scenario)


def test_flags_change_as_told_and_only_what_changes_is_told(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for _ in range(4):
            await state.append()

        async def store(mode: FlagMode, flags: int, keywords: tuple[bytes, ...] = ()) -> list[int]:
            (done,) = await state.database.submit(
                StoreFlags(
                    account=BOB,
                    mailbox=INBOX,
                    uids=[(3, 2)],
                    mode=mode,
                    flags=flags,
                    keywords=keywords,
                )
            )
            assert all(item.modseq == done.modseq for item in done.changed)
            return [item.uid for item in done.changed]

        assert await store(FlagMode.ADD, Flag.SEEN | Flag.DELETED, (b"$A", b"b")) == [2, 3]
        assert await store(FlagMode.ADD, Flag.SEEN, (b"$a",)) == []
        box = state.store.mailbox_by_id(BOB, INBOX)
        assert box is not None and (box.unseen, box.deleted) == (2, 2)
        assert await store(FlagMode.REMOVE, Flag.SEEN, (b"B",)) == [2, 3]
        (rows,) = state.store.messages(BOB, INBOX, UIDSet.of([2]))
        assert (rows[0].flags, rows[0].keywords) == (Flag.DELETED, (b"$A",))
        assert await store(FlagMode.REPLACE, Flag.DRAFT) == [2, 3]
        (rows,) = state.store.messages(BOB, INBOX, UIDSet.of([2]))
        assert (rows[0].flags, rows[0].keywords) == (Flag.DRAFT, ())
        many = tuple(b"k%d" % number for number in range(65))
        assert await fault_of(store(FlagMode.ADD, 0, many)) is Fault.LIMIT
        assert await fault_of(store(FlagMode.ADD, 0, (b"two words",))) is Fault.CANNOT

    run(form, tmp_path, scenario)


def test_unchangedsince_spares_what_has_changed(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        first = await state.append()
        second = await state.append()
        operation = StoreFlags(
            account=BOB,
            mailbox=INBOX,
            uids=[(1, 9)],
            mode=FlagMode.ADD,
            flags=Flag.SEEN,
            unchangedsince=first.modseq,
        )
        (done,) = await state.database.submit(operation)
        assert [item.uid for item in done.changed] == [first.uid]
        assert done.modified == [(second.uid, second.uid)]

    run(form, tmp_path, scenario)


def test_copies_share_content_until_the_last_goes(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for number in range(3):
            await state.append(b"%d" % number, flags=Flag.SEEN, keywords=(b"$K",))
        (done,) = await state.database.submit(
            Copy(account=BOB, mailbox=INBOX, uids=[(1, 1), (3, 3)], to=DRAFTS)
        )
        assert (done.source, done.target) == ([(1, 1), (3, 3)], [(1, 2)])
        (again,) = await state.database.submit(
            Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=INBOX)
        )
        assert again.target == [(4, 4)]
        (rows,) = state.store.messages(BOB, DRAFTS, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"0", b"2"]
        assert rows[0].flags == Flag.SEEN and rows[0].keywords == (b"$K",)
        assert state.store.keywords(BOB, DRAFTS) == (b"$K",)

        async def contents() -> int:
            row = state.database.first("SELECT count(*) FROM content")
            assert row is not None
            return int(row[0])

        assert await contents() == 3
        await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=INBOX, only_deleted=False)
        )
        assert await contents() == 3
        assert await forget_removed(state.database, NOW) == 0
        assert await forget_removed(state.database, NOW + 1) == 4
        assert await contents() == 2
        (rows,) = state.store.messages(BOB, DRAFTS, ALL, Want.OCTETS)
        assert [state.store.octets(row) for row in rows] == [b"0", b"2"]
        await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=DRAFTS, only_deleted=False)
        )
        await forget_removed(state.database, NOW + 1)
        assert await contents() == 0
        (none,) = await state.database.submit(
            Copy(account=BOB, mailbox=INBOX, uids=[(1, 9)], to=DRAFTS)
        )
        assert (none.source, none.target) == ([], [])
        assert (
            await fault_of(
                state.database.submit(Copy(account=BOB, mailbox=INBOX, uids=[(1, 9)], to=99))
            )
            is Fault.NONEXISTENT
        )

    run(form, tmp_path, scenario)


def test_move_keeps_flags_and_leaves_vanished_uids(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for number in range(5):
            await state.append(b"%d" % number, flags=Flag.FLAGGED)
        before = state.store.mailbox_by_id(BOB, INBOX)
        assert before is not None
        (done,) = await state.database.submit(
            Move(account=BOB, mailbox=INBOX, uids=[(2, 3), (5, 5)], to=DRAFTS)
        )
        assert (done.source, done.target) == ([(2, 3), (5, 5)], [(1, 3)])
        assert uids(state) == [1, 4] and uids(state, DRAFTS) == [1, 2, 3]
        changes = state.store.changes(BOB, INBOX, before.highestmodseq)
        assert changes is not None
        assert list(changes.vanished) == [2, 3, 5] and changes.changed == ()
        assert changes.highestmodseq == done.modseq and changes.uidnext == 6

    run(form, tmp_path, scenario)


def test_expunge_takes_the_deleted_and_no_uid_comes_again(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        for _ in range(4):
            await state.append(flags=Flag.DELETED)
        await state.append()
        (done,) = await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=INBOX, uids=[(3, 9)])
        )
        assert done.uids == [(3, 4)]
        (done,) = await state.database.submit(Expunge(now=NOW, account=BOB, mailbox=INBOX))
        assert done.uids == [(1, 2)]
        (nothing,) = await state.database.submit(Expunge(now=NOW, account=BOB, mailbox=INBOX))
        assert (nothing.uids, nothing.modseq) == ([], done.modseq)
        await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=INBOX, only_deleted=False)
        )
        assert (await state.append()).uid == 6

    run(form, tmp_path, scenario)


def test_slices_are_ascending_complete_and_bounded(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        content = state.content()
        one = Append(account=BOB, mailbox=INBOX, content=content, internal_date=NOW)
        await state.database.submit(*[one] * 25)
        await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=INBOX, uids=[(5, 9)], only_deleted=False)
        )
        asked = UIDSet.of([*range(1, 12), 15, 17, *range(20, 40)])
        for slice_ in (1, 2, 3, 7, 10, 500):
            slices = list(state.store.messages(BOB, INBOX, asked, Want.ENVELOPE, slice_))
            found = [row.uid for rows in slices for row in rows]
            assert found == [1, 2, 3, 4, 10, 11, 15, 17, *range(20, 26)]
            assert all(0 < len(rows) <= slice_ for rows in slices)
        assert list(state.store.messages(BOB, INBOX, UIDSet())) == []

    run(form, tmp_path, scenario)


def test_many_messages_change_in_one_unit(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        one = Append(account=BOB, mailbox=INBOX, content=state.content(), internal_date=NOW)
        await state.database.submit(*[one] * 300)
        every = [(1, 0xFFFFFFFF)]
        (flagged,) = await state.database.submit(
            StoreFlags(account=BOB, mailbox=INBOX, uids=every, mode=FlagMode.ADD, flags=Flag.SEEN)
        )
        assert len(flagged.changed) == 300
        (copied,) = await state.database.submit(
            Copy(account=BOB, mailbox=INBOX, uids=every, to=DRAFTS)
        )
        assert (copied.source, copied.target) == ([(1, 300)], [(1, 300)])
        (moved,) = await state.database.submit(
            Move(account=BOB, mailbox=DRAFTS, uids=every, to=INBOX)
        )
        assert (moved.source, moved.target) == ([(1, 300)], [(301, 600)])
        (gone,) = await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=INBOX, uids=[(101, 500)], only_deleted=False)
        )
        assert gone.uids == [(101, 500)]
        assert uids(state) == [*range(1, 101), *range(501, 601)] and uids(state, DRAFTS) == []

    run(form, tmp_path, scenario)


def test_recent_is_claimed_once(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        claim = ClaimRecent(account=BOB, mailbox=INBOX)
        await state.append()
        await state.append()
        assert await state.database.submit(claim) == [1]
        assert await state.database.submit(claim) == [3]
        await state.append()
        assert await state.database.submit(claim) == [3]
        assert await state.database.submit(claim) == [4]

    run(form, tmp_path, scenario)


def test_a_notice_comes_when_its_commit_can_be_read(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        seen: list[tuple[int, int, int]] = []

        def look(notice: Notice) -> None:
            assert notice.topic is Topic.MESSAGES
            box = state.store.mailbox_by_id(BOB, notice.mailbox)
            assert box is not None
            seen.append((notice.mailbox, notice.modseq, box.highestmodseq))

        stop = state.database.subscribe(BOB, look)
        await asyncio.gather(*(state.append() for _ in range(20)))
        assert seen and all(mailbox == INBOX for mailbox, _, _ in seen)
        assert all(told <= found for _, told, found in seen)
        box = state.store.mailbox_by_id(BOB, INBOX)
        assert box is not None and seen[-1][1] == box.highestmodseq
        stop()
        stop()
        count = len(seen)
        await state.append()
        assert len(seen) == count

    run(form, tmp_path, scenario)


def test_many_at_once_get_uids_without_gaps(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        done = await asyncio.gather(*(state.append(b"%d" % n) for n in range(60)))
        assert sorted(item.uid for item in done) == list(range(1, 61))
        assert len({item.modseq for item in done}) == 60
        for item, number in zip(done, range(60), strict=True):
            ((row,),) = state.store.messages(BOB, INBOX, UIDSet.of([item.uid]), Want.OCTETS)
            assert state.store.octets(row) == b"%d" % number

    run(form, tmp_path, scenario)


def test_a_mailbox_that_is_gone_answers_none(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        (box,) = await state.database.submit(CreateMailbox(account=BOB, name="x", now=NOW))
        await state.append(mailbox=box.mailbox)
        await state.database.submit(DeleteMailbox(account=BOB, name="x", now=NOW))
        assert state.store.uids(BOB, box.mailbox, 1, 1) is None
        assert state.store.changes(BOB, box.mailbox, 0) is None
        assert list(state.store.messages(BOB, box.mailbox, ALL)) == []
        for operation in (
            StoreFlags(account=BOB, mailbox=box.mailbox, uids=[(1, 1)], mode=1, flags=1),
            Expunge(now=NOW, account=BOB, mailbox=box.mailbox),
            ClaimRecent(account=BOB, mailbox=box.mailbox),
            Move(account=BOB, mailbox=box.mailbox, uids=[(1, 1)], to=INBOX),
        ):
            assert await fault_of(state.database.submit(operation)) is Fault.NONEXISTENT

    run(form, tmp_path, scenario)


def test_damage_is_told_and_not_handed_out(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await state.append(b"precious " * 40)
        (pack,) = (state.data_dir / "packs").iterdir()
        octets = bytearray(pack.read_bytes())
        octets[-3] ^= 1
        pack.write_bytes(octets)
        ((row,),) = state.store.messages(BOB, INBOX, ALL, Want.OCTETS)
        with pytest.raises(Unavailable, match="checksum"):
            state.store.octets(row)
        await state.database.submit(
            Expunge(now=NOW, account=BOB, mailbox=INBOX, only_deleted=False)
        )
        await forget_removed(state.database, NOW + 1)

    run(form, tmp_path, scenario)
