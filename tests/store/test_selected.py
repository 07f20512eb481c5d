"""What a session reads of its mailbox: as it was at a modseq, and what is new since."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store import selected
from postroad.store.operations import Expunge, StoreFlags
from postroad.store.selected import UID_MAX, windows
from postroad.store.values import FlagMode
from support.state import BOB, INBOX, NOW, State, opened


def with_state(data_dir: Path, body: object) -> None:
    async def run() -> None:
        async with opened("local", data_dir) as state:
            await body(state)  # type: ignore[operator]  # a coroutine function of the test

    asyncio.run(run())


async def flag(state: State, *uids: int, flags: int = int(Flag.SEEN)) -> int:
    [done] = await state.database.submit(
        StoreFlags(
            account=BOB, mailbox=INBOX, uids=[(uid, uid) for uid in uids],
            mode=int(FlagMode.ADD), flags=flags,
        )
    )  # fmt: skip
    return int(done.modseq)


async def expunge(state: State, *uids: int) -> int:
    [done] = await state.database.submit(
        Expunge(
            account=BOB, mailbox=INBOX, uids=[(uid, uid) for uid in uids], only_deleted=False,
            now=NOW,
        )
    )  # fmt: skip
    return int(done.modseq)


@pytest.mark.parametrize("large", [1, 1000])
def test_uids_as_they_were_at_every_modseq(
    large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is there, and by what is missing: the same."""
    monkeypatch.setattr(selected, "LARGE", large)
    chance = random.Random(large)

    async def body(state: State) -> None:
        there: list[int] = []
        past: dict[int, tuple[int, list[int]]] = {}
        last = 0
        for _ in range(60):
            if there and chance.random() < 0.4:
                gone = chance.sample(there, min(len(there), chance.randint(1, 3)))
                modseq = await expunge(state, *gone)
                there = [uid for uid in there if uid not in gone]
            else:
                done = await state.append()
                there.append(done.uid)
                modseq, last = done.modseq, done.uid
            past[modseq] = (last, list(there))
        for modseq, (upto, uids) in past.items():
            found = state.store.uids(BOB, INBOX, upto, modseq)
            assert found is not None
            assert list(found) == uids
        assert state.store.uids(BOB, 99, 1, 1) is None

    with_state(tmp_path, body)


def test_news_and_what_changed(tmp_path: Path) -> None:
    async def body(state: State) -> None:
        for _ in range(5):
            before = (await state.append()).modseq
        seen = await flag(state, 2, 4)
        gone = await expunge(state, 3)
        added = await state.append()
        store = state.store
        news = store.news(BOB, INBOX, before, 5, numbers=True)
        assert news is not None
        assert (list(news.vanished), news.messages, news.uidnext) == ([3], 5, 7)
        assert news.added == [6]
        assert news.highestmodseq == added.modseq
        assert store.news(BOB, 99, 0, 0, numbers=True) is None
        rows = store.flag_news(BOB, INBOX, (before, UID_MAX), UID_MAX, 5, 10)
        assert [(row.uid, row.modseq) for row in rows] == [(2, seen), (4, seen)]
        assert [
            row.uid for row in store.flag_news(BOB, INBOX, (seen, 2), UID_MAX, UID_MAX, 10)
        ] == [4, 6]
        assert not store.flag_news(BOB, INBOX, (before, UID_MAX), seen, 5, 10)
        pages = list(store.changed_uids(BOB, INBOX, before, UID_MAX))
        assert sorted(uid for page in pages for uid in page) == [2, 4, 6]
        assert list(store.vanished(BOB, INBOX, before, gone)) == [3]
        assert not store.vanished(BOB, INBOX, gone, added.modseq)
        assert store.last_uid(BOB, INBOX, 5) == 5
        assert store.last_uid(BOB, INBOX, 0) == 0

    with_state(tmp_path, body)


def test_digests_are_what_rows_are(tmp_path: Path) -> None:
    async def body(state: State) -> None:
        for number in range(30):
            await state.append(flags=number % 32, keywords=(b"k",) if number % 5 == 0 else ())
        await expunge(state, 7, 8, 20)
        for wanted in (UIDSet(((1, 99),)), UIDSet.of([2, 5, 7, 9, 11, 21, 29, 99]), UIDSet()):
            for size in (1, 4, 100):
                found = []
                for digest in state.store.digests(BOB, INBOX, wanted, modseqs=True, slice=size):
                    assert 0 < len(digest.packed) <= size
                    for value, modseq in zip(digest.packed, digest.modseqs, strict=True):
                        words = digest.words.get(value >> 6, b"")
                        assert bool(value & selected.WORDED) == bool(words)
                        found.append((value >> 6, value & 31, modseq, words))
                rows = [row for rows in state.store.messages(BOB, INBOX, wanted) for row in rows]
                assert found == [
                    (row.uid, int(row.flags), row.modseq, b" ".join(row.keywords)) for row in rows
                ]

    with_state(tmp_path, body)


@pytest.mark.parametrize(
    ("unseen", "expected"), [([], 0), ([1], 1), ([9], 9), ([5, 9], 0), ([2, 9], 2), ([8, 10], 8)]
)
def test_the_first_unseen_is_looked_for_at_both_ends(
    unseen: list[int], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selected, "UNSEEN_LOOK", 3)

    async def body(state: State) -> None:
        for number in range(1, 11):
            await state.append(flags=0 if number in unseen else int(Flag.SEEN))
        assert state.store.opening(BOB, INBOX, 4) == (7, expected)
        assert state.store.opening(BOB, INBOX, 1)[0] == 10
        assert state.store.opening(BOB, INBOX, 11)[0] == 0

    with_state(tmp_path, body)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_windows_cover_a_set_once(size: int) -> None:
    wanted = UIDSet(((1, 1), (3, 4), (6, 40), (50, 50), (52, 60), (100, 900)))
    met: list[int] = []
    for window in windows(wanted, size):
        if isinstance(window, list):
            assert 0 < len(window) <= size
            met += window
        else:
            met += range(window[0], window[1] + 1)
    assert met == list(wanted)
