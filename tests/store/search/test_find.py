"""The index finds what reading finds, for every needle, and says what it does not cover."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroad.mail.uidset import UIDSet
from postroad.store.operations import Copy, CreateMailbox, Expunge, Move
from postroad.store.search.blocks import Section
from postroad.store.search.contract import Needle, Where
from postroad.store.search.operations import DropIndex
from postroad.store.search.text import fold
from postroad.store.search.verifying import check_index, drop_index
from support.mails import ALL, build, plain_mail, put, read_all, texts_of
from support.state import BOB, FORMS, INBOX, NOW, State, opened

ODD = (
    b"Subject: =?utf-8?q?Stra=C3=9Fe?= und =?iso-8859-1?q?Gr=FC=DFe?=\r\n"
    b"From: J\xc3\xb6rg <j@x>\r\nTo: a@x,\r\n b@x\r\nCC : colon@x\r\nBcc: secret@x\r\nX-Empty:\r\n"
    b"X-Two: one\r\nX-Two: two\r\n\r\nbody of the first\r\n",
    b"subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve caf=E9\r\n--b\r\n"
    b"Content-Type: application/pdf; name*=utf-8''R%C3%A9sum%C3%A9.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--b\r\n"
    b'Content-Disposition: attachment; filename="=?utf-8?b?w5xiZXJzaWNodC54bHM=?="\r\n'
    b"Content-Type: application/x\r\n\r\nnot text, never searched\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: inner@x\r\n\r\ninner body\r\n"
    b"--b--\r\nepilogue\r\n",
    b"Subject: nothing\r\n\r\n",
    b"\r\nonly a body, From: nobody@x\r\n",
    b"Subject: zero\0octet\r\n\r\nbefore\0after\r\n",
    b"Subject: =?utf-8?b?5pel5pys6Kqe?=\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    b"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x81\xae\r\n",
    b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"
    b"Subject: html\r\n\r\nPGI+Qm9sZDwvYj4gw4lDT0xF\r\n",
    b"From: Daemon <>\r\nContent-Type: multipart/report; boundary=r\r\n\r\n"
    b"--r\r\n\r\nfailed\r\n--r\r\n"
    b"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; gone@x\r\n--r--\r\n",
)
TEXTS = (
    "", "x", "strasse", "STRAẞE", "grüsse", "grusse", "jörg", "Jo\u0308rg", "a@x, b@x", "first",
    "naïve", "naive", "café", "résumé.pdf", "Übersicht.xls", "not text", "inner", "inner body",
    "preamble", "epilogue", "before", "after", "before\ufffdafter", "before\0after", "日本", "本語",
    "の", "école", "<b>bold", "gone@x", "two", "one", "nobody@x", "from", "subject: parts", "\r\n",
    "octet", "body", "secret", "colon", "x-two", ":", " ", "empty",
)  # fmt: skip
FIELDS = (b"x-two", b"x-empty", b"subject", b"cc", b"x-none", b"", b"x two", b"content-type", b"x")


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


def needles() -> list[Needle]:
    out = []
    for text in map(fold, TEXTS):
        for where in Where:
            if where is Where.HEADER:
                out += [Needle(where, text, field) for field in FIELDS]
            else:
                out.append(Needle(where, text))
    return out


def check(state: State, mailbox: int = INBOX, among: UIDSet | None = None) -> int:
    """Every needle finds in the index what it finds by reading; returns how many were found."""
    count = 0
    wanted = needles()
    texts = texts_of(state, mailbox)
    for needle, found in zip(
        wanted, state.store.index.find(BOB, mailbox, wanted, among), strict=True
    ):
        truth = {uid for uid, text in texts.items() if text.holds(needle)}
        covered, matched = set(found.covered), set(found.matched)
        assert matched == truth & covered, needle
        assert matched <= covered
        count += len(matched)
    return count


@pytest.mark.parametrize("form", FORMS)
def test_what_is_found_is_what_reading_finds(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        uids = await put(state, *ODD)
        assert check(state) == 0  # nothing is built: nothing is covered
        assert await build(state) == len(ODD)
        for found in state.store.index.find(BOB, INBOX, needles()):
            assert set(uids) <= set(found.covered)
        assert check(state) > 150

    run(form, tmp_path, scenario)


def test_each_kind_of_text_is_found_where_it_is(tmp_path: Path) -> None:
    expected = {
        (Where.SUBJECT, "strasse"): {1},
        (Where.SUBJECT, "GRÜSSE"): {1},
        (Where.FROM, "jörg"): {1},
        (Where.CC, "colon"): {1},
        (Where.BODY, "café"): {2},
        (Where.BODY, "résumé.pdf"): {2},
        (Where.BODY, "übersicht.XLS"): {2},
        (Where.BODY, "inner@x"): {2},
        (Where.FROM, "inner@x"): set(),
        (Where.BODY, "not text"): set(),
        (Where.TEXT, "日本語の"): {6},
        (Where.SUBJECT, "日本語"): {6},
        (Where.TEXT, "École"): {7},
        (Where.BODY, "gone@X"): {8},
        (Where.BODY, "nobody@x"): {4},
        (Where.TEXT, "subject: html"): {7},
        (Where.BODY, "subject: html"): set(),
    }

    async def scenario(state: State) -> None:
        await put(state, *ODD)
        await build(state)
        wanted = [Needle(where, fold(text)) for where, text in expected]
        for found, (key, uids) in zip(
            state.store.index.find(BOB, INBOX, wanted), expected.items(), strict=True
        ):
            assert set(found.matched) == uids, key

    run("local", tmp_path, scenario)


def test_several_blocks_copies_moves_and_expunges(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(150)), *ODD)
        await state.database.submit(CreateMailbox(account=BOB, name="Other", now=NOW))
        other = state.store.mailbox(BOB, "Other")
        assert other is not None
        assert await build(state) == 150 + len(ODD)
        number = Needle(Where.TEXT, "unique77end")
        await state.database.submit(
            Copy(account=BOB, mailbox=INBOX, uids=[(70, 90)], to=other.mailbox, now=NOW)
        )
        await state.database.submit(
            Move(account=BOB, mailbox=INBOX, uids=[(1, 5)], to=other.mailbox, now=NOW)
        )
        (found,) = state.store.index.find(BOB, other.mailbox, [number])
        assert set(found.matched) == read_all(state, number, other.mailbox)
        assert len(set(found.matched)) == 1
        assert set(range(1, 27)) <= set(found.covered)  # copies are covered before any building
        assert await build(state) == 0
        await state.database.submit(
            Expunge(account=BOB, mailbox=INBOX, uids=[(78, 78)], only_deleted=False, now=NOW)
        )
        (found,) = state.store.index.find(BOB, INBOX, [number])
        assert not found.matched
        check(state)
        check(state, other.mailbox)

    run("local", tmp_path, scenario)


def test_only_what_is_asked_for_is_covered(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(100)))
        await build(state)
        needle = Needle(Where.TEXT, "example")
        for among in (UIDSet(((5, 9),)), UIDSet(((5, 9), (50, 70), (95, 2000))), UIDSet()):
            (found,) = state.store.index.find(BOB, INBOX, [needle], among)
            assert set(found.covered) & set(range(1, 101)) == {
                u for u in range(1, 101) if u in among
            }
            assert set(found.matched) == set(found.covered)

    run("local", tmp_path, scenario)


@pytest.mark.parametrize("section", [Section.BRIEF, Section.HEADER, Section.BODY, Section.HEAPS])
def test_a_damaged_or_missing_section_is_not_believed(section: Section, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(130)))
        await build(state)
        whole = state.store.index.find(BOB, INBOX, needles())
        assert all(len(set(found.covered)) == 130 for found in whole)
        writer = state.local._writer._connection
        rows = list(
            writer.execute(
                "SELECT block, octets FROM search_block WHERE section = ?", (int(section),)
            )
        )
        assert len(rows) == 3
        flipped = bytearray(rows[0][1])
        flipped[len(flipped) // 2] ^= 0x10
        writer.execute(
            "UPDATE search_block SET octets = ? WHERE section = ? AND block = ?",
            (bytes(flipped), int(section), rows[0][0]),
        )
        writer.execute(
            "DELETE FROM search_block WHERE section = ? AND block = ?", (int(section), rows[2][0])
        )
        check(state)
        uncovered = [
            130 - len(set(found.covered))
            for found in state.store.index.find(BOB, INBOX, [Needle(Where.TEXT, "no such")])
        ]
        assert uncovered == [66]
        problems = [problem.text for problem in check_index(state.database)]
        assert any(f"block {rows[0][0]}: " in text for text in problems), problems
        assert any(f"block {rows[2][0]}: " in text for text in problems), problems
        await drop_index(state.database, BOB)
        assert await build(state) == 130
        assert not list(check_index(state.database))

    run("local", tmp_path, scenario)


@pytest.mark.parametrize("section", [Section.HEADER_FILTER, Section.BODY_FILTER])
def test_a_damaged_or_missing_filter_hides_nothing(section: Section, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(130)), *ODD)
        await build(state)
        writer = state.local._writer._connection
        everywhere = "UPDATE search_block SET octets = {} WHERE section = ? AND block = ?"
        writer.execute(everywhere.format("zeroblob(length(octets))"), (int(section), 1))
        writer.execute(everywhere.format("x'00'"), (int(section), 2))
        writer.execute("DELETE FROM search_block WHERE section = ? AND block = 3", (int(section),))
        check(state)
        (found,) = state.store.index.find(BOB, INBOX, [Needle(Where.TEXT, "unique7end")])
        assert set(found.matched) == {8} and len(found.covered) == 130 + len(ODD)
        problems = [problem.text for problem in check_index(state.database)]
        assert [text.partition(":")[0] for text in problems[:3]] == [
            "block 1",
            "block 2",
            "block 3",
        ]
        await drop_index(state.database, BOB)

    run("local", tmp_path, scenario)


def test_a_filter_of_another_text_is_told(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(128)))
        await build(state)
        state.local._writer._connection.execute(
            "UPDATE search_block SET octets = (SELECT octets FROM search_block WHERE section = 7"
            " AND block = 2) WHERE section = 7 AND block = 1"
        )
        (problem,) = check_index(state.database)
        assert problem.text == "block 1: a filter does not fit its text"
        await drop_index(state.database, BOB)

    run("local", tmp_path, scenario)


def test_with_its_tables_emptied_nothing_is_covered(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(100)))
        await build(state)
        while not (await state.database.submit(DropIndex(account=BOB, rows=3)))[0]:
            check(state)
        for found in state.store.index.find(BOB, INBOX, needles()):
            assert not found.covered and not found.matched
        assert await build(state) == 100
        assert check(state) > 0

    run("local", tmp_path, scenario)


def test_a_body_too_long_is_left_to_reading(tmp_path: Path) -> None:
    long = b"Subject: long\r\n\r\n" + b"many words here\r\n" * 70_000

    async def scenario(state: State) -> None:
        await put(state, plain_mail(1), long, plain_mail(3))
        await build(state)
        wanted = [
            Needle(Where.TEXT, "many"),
            Needle(Where.BODY, "many"),
            Needle(Where.SUBJECT, "long"),
        ]
        text, body, subject = state.store.index.find(BOB, INBOX, wanted)
        assert set(text.covered) == set(body.covered) == {1, 3}
        assert set(subject.covered) == {1, 2, 3} and set(subject.matched) == {2}

    run("local", tmp_path, scenario)


_piece = st.text(alphabet="abAB éÉßıſ\u0301\0\r\n:日", max_size=6)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    messages=st.lists(st.tuples(_piece, _piece, _piece), min_size=1, max_size=5),
    texts=st.lists(_piece, min_size=1, max_size=4),
)
def test_any_text_in_any_message(
    messages: list[tuple[str, str, str]], texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    mails = []
    for subject, other, body in messages:
        mails.append(
            b"Subject: " + subject.encode().replace(b"\n", b"") + b"\r\nX-A: "
            + other.encode().replace(b"\n", b"\n ") + b"\r\nContent-Type: text/plain; charset=utf-8"
            b"\r\n\r\n" + body.encode()
        )  # fmt: skip
    wanted = [
        needle
        for text in map(fold, texts)
        for needle in (
            Needle(Where.SUBJECT, text), Needle(Where.HEADER, text, b"x-a"),
            Needle(Where.BODY, text), Needle(Where.TEXT, text),
        )
    ]  # fmt: skip

    async def scenario(state: State) -> None:
        await put(state, *mails)
        await build(state)
        for needle, found in zip(
            wanted, state.store.index.find(BOB, INBOX, wanted, ALL), strict=True
        ):
            assert set(found.matched) == read_all(state, needle), needle

    run("local", tmp_path_factory.mktemp("any"), scenario)
