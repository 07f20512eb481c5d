"""Building: in steps that lose nothing, bounded, sealed where the account's mail is; tidying."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.errors import Fault, StateError
from postroad.mail.secret import Secret
from postroad.store.keys import Keys
from postroad.store.mailboxes import MailStore
from postroad.store.operations import CreateMailbox, DeleteMailbox, Expunge
from postroad.store.removed import forget_removed
from postroad.store.search.blocks import (
    DamagedBlock,
    Entry,
    Section,
    pack_block,
    unpack_block,
)
from postroad.store.search.building import Builder, lag_of
from postroad.store.search.contract import Needle, Where
from postroad.store.search.digesting import Keys as SortKeys
from postroad.store.search.operations import Advance, WriteBlock
from postroad.store.search.reading import SEALED
from postroad.store.search.verifying import check_index
from postroad.store.upkeep import Encrypt
from support.mails import build, plain_mail, put
from support.state import BOB, INBOX, NOW, State, opened

NOTHING = Needle(Where.TEXT, "no such text")


def covered(state: State, mailbox: int = INBOX) -> set[int]:
    (found,) = state.store.index.find(BOB, mailbox, [NOTHING])
    return set(found.covered)


def sizes(state: State) -> list[int]:
    return [len(heaps) for _, heaps in state.store.index.blocks.layout(BOB)]


def test_every_step_can_be_the_last(tmp_path: Path) -> None:
    """What a step says was looked at is in a block, so a kill between steps leaves nothing out."""

    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number) for number in range(200)))
            steps = 0
            while True:
                builder = Builder(state.database, state.store, None, BOB)  # as after a kill
                operation = builder.step()
                if operation is None:
                    break
                builder.step()  # done, and never written
                await state.database.submit(operation)
                steps += 1
                done = 200 - lag_of(state.database, BOB)
                assert covered(state) >= set(range(1, done + 1))
                assert not list(check_index(state.database))
            assert steps == 4 and sizes(state) == [64, 64, 64, 8]

    asyncio.run(main())


def test_a_block_with_room_is_filled_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            for number in range(0, 100, 20):
                await put(state, *(plain_mail(n) for n in range(number, number + 20)))
                await build(state)
            assert sizes(state) == [64, 36]
            assert len(covered(state)) == 100

    asyncio.run(main())


def test_great_messages_make_small_blocks(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number, 60_000) for number in range(7)))
            assert await build(state) == 7
            assert len(sizes(state)) >= 3 and sum(sizes(state)) == 7
            assert await build(state) == 0
            await put(state, plain_mail(8))
            assert await build(state) == 1
            assert len(covered(state)) == 8

    asyncio.run(main())


def test_two_from_the_same_place_do_not_both_win(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number) for number in range(30)))
            one = Builder(state.database, state.store, None, BOB).step()
            other = Builder(state.database, state.store, None, BOB).step()
            assert one is not None and other is not None
            await state.database.submit(one)
            with pytest.raises(StateError) as caught:
                await state.database.submit(other)
            assert caught.value.fault is Fault.CONFLICT
            gone = WriteBlock(account=BOB, replaces=[77], advances=[Advance(INBOX, 30, 31)])
            with pytest.raises(StateError) as caught:
                await state.database.submit(gone)
            assert caught.value.fault is Fault.NONEXISTENT
            assert sizes(state) == [30]

    asyncio.run(main())


def test_a_mailbox_that_goes_while_it_is_built(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await state.database.submit(CreateMailbox(account=BOB, name="Other", now=NOW))
            other = state.store.mailbox(BOB, "Other")
            assert other is not None
            await put(state, *(plain_mail(number) for number in range(20)), mailbox=other.mailbox)
            operation = Builder(state.database, state.store, None, BOB).step()
            assert operation is not None
            await state.database.submit(DeleteMailbox(account=BOB, name="Other", now=NOW))
            await state.database.submit(operation)
            assert not list(check_index(state.database))

    asyncio.run(main())


def test_what_is_gone_leaves_the_blocks(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number) for number in range(640)))
            await build(state)
            assert not state.store.index.tidier(BOB).is_worth_it()
            await state.database.submit(
                Expunge(account=BOB, mailbox=INBOX, uids=[(1, 500)], only_deleted=False, now=NOW)
            )
            await forget_removed(state.database, NOW + 10_000_000)
            tidier = state.store.index.tidier(BOB)
            assert tidier.is_worth_it()
            while not tidier.is_done:
                operation = tidier.step()
                if operation is not None:
                    await state.database.submit(operation)
                assert covered(state) >= set(range(501, 641))
            assert sum(sizes(state)) == 140 and len(sizes(state)) == 3
            assert not state.store.index.tidier(BOB).is_worth_it()
            (found,) = state.store.index.find(BOB, INBOX, [Needle(Where.TEXT, "unique600end")])
            assert set(found.matched) == {601}
            assert not list(check_index(state.database))

    asyncio.run(main())


def test_a_sealed_account_has_a_sealed_index(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            keys = Keys(Secret(b"k" * 32), state.database)
            store = MailStore(state.database, state.blobs, keys)
            await put(state, *(plain_mail(number) for number in range(70)))
            await build(state)
            await put(state, *(plain_mail(number) for number in range(70, 90)))
            plain = Builder(state.database, store, keys, BOB).step()
            assert plain is not None and not plain.sealed
            await state.database.submit(
                Encrypt(account=BOB, sealed=True, wrapped=keys.new_key(BOB), now=NOW)
            )
            assert state.database.first("SELECT count(*) FROM search_block") == (0,)
            with pytest.raises(StateError):  # made before, it would say in clear what is sealed
                await state.database.submit(plain)
            builder = Builder(state.database, store, keys, BOB)
            while (operation := builder.step()) is not None:
                assert operation.sealed or not operation.sections
                await state.database.submit(operation)
            rows = list(state.database.execute("SELECT octets FROM search_block"))
            assert rows and all(octets[:1] == SEALED for (octets,) in rows)
            needle = Needle(Where.TEXT, "unique66end")
            (found,) = store.index.find(BOB, INBOX, [needle])
            assert set(found.matched) == {67} and len(set(found.covered)) == 90
            assert not list(check_index(state.database, keys))
            (blind,) = state.store.index.find(BOB, INBOX, [needle])
            assert not blind.covered  # without the key nothing is known
            await state.database.submit(
                Encrypt(account=BOB, sealed=False, wrapped=keys.new_key(BOB), now=NOW)
            )

    asyncio.run(main())


def _entry(heap: int, size: int, has_body: bool) -> Entry:
    keys = SortKeys(heap, b"S", True, b"", b"T", b"", b"F", b"", b"id@x", (b"a@x", b"b@x"))
    return Entry(heap, b"\0b" * size, b"\0head", b"\0body" * size if has_body else None, keys)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=70))
def test_packing_and_unpacking(shapes: list[tuple[int, bool]]) -> None:
    entries = [_entry(number + 1, *shape) for number, shape in enumerate(shapes)]
    assert unpack_block(pack_block(entries)) == entries


@given(st.integers(0, 4), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_octet_is_seen_or_changes_nothing(section: int, place: int, change: int) -> None:
    sections = pack_block([_entry(number, 3, True) for number in range(1, 9)])
    whole = unpack_block(sections)
    octets = bytearray(sections[Section(section)])
    octets[place % len(octets)] ^= change
    sections[Section(section)] = bytes(octets)
    with suppress(DamagedBlock):
        assert unpack_block(sections) == whole
