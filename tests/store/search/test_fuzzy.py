"""Ranking: stems, beginnings, accents, a letter wrong; and the best first (RFC 6203)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.uidset import UIDSet
from postroad.store.search.contract import Where
from postroad.store.search.likeness import is_mistyped, likeness, stems, words_of
from postroad.store.search.text import fold
from support.mails import build, plain_mail, put
from support.state import BOB, INBOX, State, opened


def mail(subject: str, body: str, sender: str = "ann@example.org") -> bytes:
    return (
        f"From: {sender}\r\nSubject: {subject}\r\nX-Kind: {subject}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n"
        f"{body}\r\n"
    ).encode()


MAILS = (
    mail("Running shoes", "We sell shoes for runners."),
    mail("Nothing", "He runs a shop. " + "other words here " * 50),
    mail("Café", "Le café est ouvert; les cafés aussi."),
    mail("Rechnung", "Anbei die Rechnungen für die Häuser."),
    mail("日本語", "東京の天気はいいです"),
    mail("Happiness", "so happy"),
    mail("Invoice 77", "Please pay the invoice for the meeting", "Carl <carl@example.org>"),
    mail("Russian", "\u043a\u043d\u0438\u0433\u0438 \u0438 \u0434\u043e\u043c\u0430"),
)


async def ranked(state: State, text: str, where: Where = Where.TEXT, **more: object) -> list[int]:
    """UIDs, the best first; the same from blocks, from messages, and from half of each."""
    found = state.store.index.fuzzy(BOB, INBOX, where, text, **more)  # type: ignore[arg-type]
    assert all(1 <= score <= 100 for _, score in found)
    assert [uid for uid, _ in found] == sorted(uid for uid, _ in found)
    assert not found or max(score for _, score in found) == 100
    return [uid for uid, _ in sorted(found, key=lambda item: -item[1])]


@pytest.mark.parametrize("indexed", [0, 4, 8])
def test_words_and_their_like(indexed: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *MAILS[:indexed])
            await build(state)
            await put(state, *MAILS[indexed:])
            assert await ranked(state, "running") == [1, 2]
            assert await ranked(state, "RUN") == [1, 2]
            assert await ranked(state, "cafe") == [3]
            assert await ranked(state, "café") == [3]
            assert await ranked(state, "Rechnungen") == [4]
            assert await ranked(state, "haus") == [4]
            assert await ranked(state, "天気") == [5]
            assert await ranked(state, "日本") == [5]
            assert await ranked(state, "happy") == [6]
            assert await ranked(state, "invoce") == [7]
            assert await ranked(state, "invoices meetings") == [7]
            assert await ranked(state, "meet shoe") == []
            assert await ranked(state, "книга") == [8]
            assert await ranked(state, "carl", Where.FROM) == [7]
            assert await ranked(state, "carl", Where.SUBJECT) == []
            assert await ranked(state, "shoe", Where.SUBJECT) == [1]
            assert await ranked(state, "shoes", Where.HEADER, field=b"x-kind") == [1]
            assert await ranked(state, "shoes", Where.BODY) == [1]
            assert await ranked(state, "shoes", among=UIDSet(((2, 9),))) == []
            assert await ranked(state, "zzzz") == []

    asyncio.run(main())


def test_rare_frequent_and_near_words_rank(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(
                state,
                mail("a", "budget once " + "filler " * 300),
                mail("b", "budget budget budget " + "filler " * 10),
                mail("budget", "in the subject"),
                *(plain_mail(number) for number in range(70)),
            )
            await build(state)
            order = await ranked(state, "budget")
            assert order.index(2) < order.index(1) and order.index(3) < order.index(1)
            assert (await ranked(state, "unique7end"))[0] == 11

    asyncio.run(main())


def test_signs_that_are_no_words_are_found_as_they_stand(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, mail("x", "c++ or !?"), mail("y", "plain"))
            await build(state)
            assert await ranked(state, "!?") == [1]
            assert sorted(await ranked(state, "")) == [1, 2]
            assert sorted(await ranked(state, "", Where.SUBJECT)) == [1, 2]

    asyncio.run(main())


def test_likeness() -> None:
    assert likeness("run", "run") > likeness("runs", "running") > likeness("runn", "runnx") > 0
    assert likeness("cat", "dog") == 0
    assert "run" in stems("running") and stems("123x") == ()
    assert words_of(fold("Ein Café, ein_Haus!")) == ["ein", "cafe", "haus"]


@pytest.mark.parametrize(
    ("word", "other", "near"),
    [
        ("meeting", "meetng", True), ("meeting", "meetiing", True), ("meeting", "meeying", True),
        ("meeting", "meteing", True), ("meeting", "meeting", False), ("meeting", "metting", True),
        ("meeting", "mtg", False), ("abcd", "badc", False), ("abcd", "dbca", False),
        ("", "a", True),
    ],
)  # fmt: skip
def test_one_letter_wrong(word: str, other: str, near: bool) -> None:
    assert is_mistyped(word, other) is is_mistyped(other, word) is near


@given(st.text(alphabet="abc", min_size=1, max_size=8), st.integers(0, 7), st.sampled_from("abcx"))
def test_any_one_letter_wrong_is_seen(word: str, place: int, letter: str) -> None:
    place %= len(word)
    for other in (
        word[:place] + word[place + 1 :],
        word[:place] + letter + word[place:],
        word[:place] + letter + word[place + 1 :],
    ):
        assert is_mistyped(word, other) or other == word
