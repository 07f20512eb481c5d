"""What each reader has seen: runs of UIDs that stay few, and counters that are exact."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.directory.operations import AddAccount, RemoveAccount
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store import seen
from postroad.store.operations import Copy, CreateMailbox, Expunge, Move, StoreFlags
from postroad.store.sharing import MendSeen
from postroad.store.values import FlagMode, FlagsStored
from postroad.store.verify import verify
from support.state import BOB, FORMS, INBOX, NOW, State, opened

ANN = 78
CARL = 79
ALL = UIDSet(((1, 1000),))


async def add(state: State, number: int, name: str) -> None:
    await state.database.submit(
        AddAccount(
            account=number, address=f"{name}@two.example", argon2="a", scram_sha_256="s", now=NOW
        )
    )


async def flag(
    state: State, reader: int, uids: list[tuple[int, int]], mode: FlagMode, flags: int, **more: str
) -> FlagsStored:
    [stored] = await state.database.submit(
        StoreFlags(
            account=BOB, mailbox=INBOX, uids=uids, mode=int(mode), flags=flags, reader=reader,
            rights=more.get("rights", "stw"),
        )
    )  # fmt: skip
    assert isinstance(stored, FlagsStored)
    return stored


def seen_by(state: State, reader: int, mailbox: int = INBOX, account: int = BOB) -> set[int]:
    there = {row.uid for rows in state.store.messages(account, mailbox, ALL) for row in rows}
    return there & set(state.store.seen(account, mailbox, reader, ALL))


def unseen(state: State, reader: int) -> int:
    mailbox = state.store.mailbox_by_id(BOB, INBOX)
    assert mailbox is not None
    return state.store.unseen(mailbox, reader)


def runs(state: State, reader: int) -> list[tuple[int, int]]:
    return list(
        state.database.execute(
            "SELECT low, high FROM seen WHERE account = ? AND mailbox = ? AND reader = ?"
            " ORDER BY low",
            (BOB, INBOX, reader),
        )
    )


@pytest.mark.parametrize("form", FORMS)
def test_each_reader_has_a_seen_of_his_own(form: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(form, tmp_path) as state:
            await add(state, ANN, "ann")
            await add(state, CARL, "carl")
            for _ in range(5):
                await state.append()
            before = state.store.mailbox_by_id(BOB, INBOX)
            assert before is not None
            stored = await flag(state, ANN, [(2, 4)], FlagMode.ADD, int(Flag.SEEN | Flag.FLAGGED))
            assert [change.flags for change in stored.changed] == [Flag.SEEN | Flag.FLAGGED] * 3
            assert stored.modseq > before.highestmodseq
            rows = [row for rows in state.store.messages(BOB, INBOX, ALL) for row in rows]
            assert [row.flags for row in rows] == [0, Flag.FLAGGED, Flag.FLAGGED, Flag.FLAGGED, 0]
            assert [row.modseq for row in rows][1:4] == [stored.modseq] * 3
            assert seen_by(state, ANN) == {2, 3, 4} and seen_by(state, CARL) == set()
            assert [unseen(state, who) for who in (BOB, ANN, CARL)] == [5, 2, 5]
            await flag(state, BOB, [(1, 1)], FlagMode.ADD, int(Flag.SEEN))
            assert [unseen(state, who) for who in (BOB, ANN, CARL)] == [4, 2, 5]
            again = await flag(state, ANN, [(2, 4)], FlagMode.ADD, int(Flag.SEEN))
            assert again.changed == []
            await flag(state, ANN, [(3, 3)], FlagMode.REPLACE, 0)
            assert seen_by(state, ANN) == {2, 4} and unseen(state, ANN) == 3

    asyncio.run(scenario())


def test_only_what_the_rights_allow_is_changed(tmp_path: Path) -> None:
    """RFC 4314 §4: `s` for Seen, `t` for Deleted, `w` for the rest."""

    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await add(state, ANN, "ann")
            await state.append(flags=int(Flag.ANSWERED))
            every = int(Flag.SEEN | Flag.DELETED | Flag.FLAGGED)
            stored = await flag(state, ANN, [(1, 1)], FlagMode.ADD, every, rights="s")
            assert [change.flags for change in stored.changed] == [Flag.SEEN | Flag.ANSWERED]
            stored = await flag(state, ANN, [(1, 1)], FlagMode.REPLACE, every, rights="t")
            assert [change.flags for change in stored.changed] == [
                Flag.SEEN | Flag.ANSWERED | Flag.DELETED
            ]
            stored = await flag(state, ANN, [(1, 1)], FlagMode.REPLACE, 0, rights="w")
            assert [change.flags for change in stored.changed] == [Flag.SEEN | Flag.DELETED]
            assert (await flag(state, ANN, [(1, 1)], FlagMode.REPLACE, 0, rights="")).changed == []

    asyncio.run(scenario())


def test_copies_and_moves_carry_the_seen_of_who_makes_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await add(state, ANN, "ann")
            [to] = await state.database.submit(CreateMailbox(account=BOB, name="to", now=NOW))
            for _ in range(4):
                await state.append()
            await flag(state, BOB, [(1, 1)], FlagMode.ADD, int(Flag.SEEN))
            await flag(state, ANN, [(2, 3)], FlagMode.ADD, int(Flag.SEEN | Flag.FLAGGED))
            both = {"account": BOB, "mailbox": INBOX, "to": to.mailbox, "now": NOW}
            await state.database.submit(Copy(uids=[(1, 3)], reader=ANN, rights="sw", **both))
            assert seen_by(state, ANN, to.mailbox) == {2, 3}
            await state.database.submit(Move(uids=[(2, 2)], reader=ANN, rights="", **both))
            assert seen_by(state, ANN, to.mailbox) == {2, 3}
            there = state.store.mailbox_by_id(BOB, to.mailbox)
            assert there is not None and (there.messages, there.unseen) == (4, 4)
            # into a mailbox of her own: there it is a bit of the message
            await state.database.submit(
                Copy(uids=[(1, 4)], account=BOB, mailbox=to.mailbox, to=INBOX, to_account=ANN,
                     reader=ANN, now=NOW)
            )  # fmt: skip
            mine = [row for rows in state.store.messages(ANN, INBOX, ALL) for row in rows]
            assert [row.flags for row in mine] == [
                0, Flag.SEEN | Flag.FLAGGED, Flag.SEEN | Flag.FLAGGED, 0
            ]  # fmt: skip
            # and of her own into his: hers there, unseen for him
            await state.database.submit(
                Copy(uids=[(2, 2)], account=ANN, mailbox=INBOX, to=INBOX, to_account=BOB,
                     reader=ANN, now=NOW)
            )  # fmt: skip
            assert 5 in seen_by(state, ANN)

    asyncio.run(scenario())


def test_what_everybody_has_read_is_one_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await add(state, ANN, "ann")
            for _ in range(20):
                await state.append()
            expunge = Expunge(
                account=BOB, mailbox=INBOX, uids=[(3, 3), (7, 9)], only_deleted=False, now=NOW
            )
            await state.database.submit(expunge)
            await flag(state, ANN, [(1, 20)], FlagMode.ADD, int(Flag.SEEN))
            assert runs(state, ANN) == [(1, 20)] and unseen(state, ANN) == 0
            # both ends go: the run shrinks to what is there
            expunge = Expunge(
                account=BOB, mailbox=INBOX, uids=[(1, 6), (19, 20)], only_deleted=False, now=NOW
            )
            await state.database.submit(expunge)
            assert runs(state, ANN) == [(10, 18)] and unseen(state, ANN) == 0
            everything = Expunge(account=BOB, mailbox=INBOX, only_deleted=False, now=NOW)
            await state.database.submit(everything)
            assert runs(state, ANN) == []

    asyncio.run(scenario())


def test_a_reader_who_goes_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await add(state, ANN, "ann")
            await add(state, CARL, "carl")
            await state.append()
            for who in (ANN, CARL):
                await flag(state, who, [(1, 1)], FlagMode.ADD, int(Flag.SEEN))
            await state.database.submit(RemoveAccount(account=ANN))
            assert runs(state, ANN) == [] and runs(state, CARL) == [(1, 1)]
            left = state.database.execute("SELECT reader FROM reader")
            assert list(left) == [(CARL,)]

    asyncio.run(scenario())


_UIDS = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair))),
    min_size=1,
    max_size=3,
)
_STEP = st.one_of(
    st.tuples(st.sampled_from(["add", "remove", "replace"]), st.sampled_from([ANN, CARL]), _UIDS),
    st.tuples(st.just("expunge"), st.just(0), _UIDS),
    st.tuples(st.just("append"), st.sampled_from([0, ANN]), st.just([])),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_STEP, max_size=15))
def test_runs_agree_with_plain_sets(steps: list[tuple[str, int, list[tuple[int, int]]]]) -> None:
    """Against the model: a set of UIDs for each reader."""

    async def scenario(directory: Path) -> None:
        async with opened("local", directory) as state:
            await add(state, ANN, "ann")
            await add(state, CARL, "carl")
            there: set[int] = set()
            model: dict[int, set[int]] = {ANN: set(), CARL: set()}
            for _ in range(12):
                there.add((await state.append()).uid)
            for verb, who, uids in steps:
                meant = there & set(UIDSet.of_ranges(uids))
                if verb == "append":
                    uid = (await state.append(flags=int(Flag.SEEN), reader=who)).uid
                    there.add(uid)
                    if who:
                        model[who].add(uid)
                elif verb == "expunge":
                    await state.database.submit(
                        Expunge(account=BOB, mailbox=INBOX, uids=uids, only_deleted=False, now=NOW)
                    )
                    there -= meant
                    for mine in model.values():
                        mine -= meant
                else:
                    mode = FlagMode[verb.upper()]
                    await flag(state, who, uids, mode, int(Flag.SEEN))
                    model[who] = model[who] - meant if verb == "remove" else model[who] | meant
                for reader, mine in model.items():
                    assert seen_by(state, reader) == mine
                    assert unseen(state, reader) == len(there) - len(mine)
                    ends = {end for run in runs(state, reader) for end in run}
                    assert ends <= there, "both ends of a run exist"
            assert list(seen.faults(state.local._reader)) == []

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(directory)))


def test_what_does_not_fit_is_found_and_mended(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await add(state, ANN, "ann")
            for _ in range(3):
                await state.append()
            await flag(state, ANN, [(1, 3)], FlagMode.ADD, int(Flag.SEEN))
            writer = state.local._writer._connection
            for harm in (
                "UPDATE reader SET seen = 7",
                "DELETE FROM reader",
                "UPDATE seen SET high = 9",
                "INSERT INTO seen VALUES (77, 1, 78, 20, 30)",
            ):
                writer.execute(harm)
                found = list(verify(state.data_dir))
                assert found and {finding.kind for finding in found} == {"mailbox"}, harm
                assert all(str(ANN) in finding.text for finding in found)
                await state.database.submit(MendSeen(account=BOB, mailbox=INBOX))
                assert list(verify(state.data_dir)) == [] and seen_by(state, ANN) == {1, 2, 3}
            writer.execute("INSERT INTO access VALUES (77, 99, 78, 0, '', 'lr')")
            [finding] = verify(state.data_dir)
            assert "access" in finding.text
            writer.execute("DELETE FROM access")

    asyncio.run(scenario())
