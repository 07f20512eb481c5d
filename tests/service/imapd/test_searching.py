"""Searches among other things: other sessions, other people's mailboxes, ids, hostile keys."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest

from postroad.mail.errors import Unavailable
from postroad.service.imapd import IMAPService, ordering, thread
from postroad.service.imapd.spans import runs, span_of
from postroad.store.values import MessageRow
from support.imap import Client
from support.sites import TestSite, make_site

Scenario = Callable[[TestSite, Client, Client], Awaitable[None]]


def run(directory: Path, scenario: Scenario, second: str = "ann@one.example") -> None:
    """Two sessions, logged in; nothing may have crashed in the end."""

    async def main() -> None:
        async with make_site(directory, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as one, Client(service) as other:
                await one.login()
                await other.login(second)
                await scenario(made, one, other)
            assert [event for event in made.events if "Crashed" in type(event).__name__] == []

    asyncio.run(main())


def message(subject: str, *fields: str) -> bytes:
    return "\r\n".join([f"Subject: {subject}", *fields, "", "some text", ""]).encode()


# -- what is remembered ---------------------------------------------------------------------------


def test_orders_and_threads_are_worked_out_once_and_stay_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5256 §3: whoever asks, and whatever came and went meanwhile."""
    worked: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def call(*args: object) -> object:
            worked.append(name)
            return real(*args)

        monkeypatch.setattr(module, name, call)

    counted(ordering, "_in_order")
    counted(thread, "_worked_out")
    by_subject, downwards = b"SORT (SUBJECT) UTF-8 ALL", b"SORT (REVERSE SUBJECT) UTF-8 ALL"
    threads, by_uid = b"THREAD REFS UTF-8 ALL", b"UID THREAD REFS UTF-8 ALL"

    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        async def first(client: Client, command: bytes) -> bytes:
            return (await client.ok(command))[0]

        await one.append(message("b", "Message-ID: <1@x>"))
        await one.append(message("c", "References: <1@x>"))
        await one.append(message("a", "Message-ID: <3@x>"))
        await one.ok(b"SELECT INBOX")
        await other.ok(b"SELECT INBOX")
        for client in (one, one, other):
            assert await first(client, by_subject) == b"* SORT 3 1 2"
            assert await first(client, threads) == b"* THREAD (1 2)(3)"
        assert worked == ["_in_order", "_worked_out"]
        assert await first(one, downwards) == b"* SORT 2 1 3"
        assert await first(one, b"SORT (SUBJECT) UTF-8 2:3") == b"* SORT 3 2"
        assert await first(one, b"THREAD REFS UTF-8 2:3") == b"* THREAD (2)(3)"
        assert len(worked) == 5
        await other.append(message("0", "In-Reply-To: <3@x>"))
        await one.ok(b"NOOP")
        assert await first(one, by_subject) == b"* SORT 4 3 1 2"
        assert await first(one, threads) == b"* THREAD (1 2)(3 4)"
        await other.ok(b"NOOP")
        await other.ok(b"STORE 1 +FLAGS (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await first(other, threads) == b"* THREAD (1)(2 3)"
        assert await first(one, b"UID SORT (SUBJECT) UTF-8 1:*") != b""
        await one.ok(b"NOOP")
        assert await first(one, threads) == b"* THREAD (1)(2 3)"
        assert await first(one, by_uid) == b"* THREAD (2)(3 4)"
        assert await first(one, by_subject) == b"* SORT 3 2 1"
        await one.ok(b"CREATE Box")
        await one.append(message("z"), mailbox=b"Box")
        await one.ok(b"SELECT Box")
        assert await first(one, b"UID " + by_subject) == b"* SORT 1"

    run(tmp_path, scenario)


# -- contexts -------------------------------------------------------------------------------------


def test_contexts_are_told_while_idling(tmp_path: Path) -> None:
    """RFC 5267 §4.3.2: also without a command of the client's own."""

    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        await one.append(message("b"))
        await one.ok(b"SELECT INBOX")
        await one.ok(b"UID SEARCH RETURN (UPDATE COUNT) SUBJECT b")
        await one.ok(b"SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 ALL")
        await one.send(b"i IDLE\r\n")
        assert (await one.response()).startswith(b"+")
        await other.append(message("a b"))
        heard = [await one.response() for _ in range(4)]
        assert heard == [
            b"* 2 EXISTS",
            b"* 2 RECENT",
            b'* ESEARCH (TAG "t4") UID ADDTO (0 2)',
            b'* ESEARCH (TAG "t5") ADDTO (1 2)',
        ]
        await other.ok(b"SELECT INBOX")
        await other.ok(b"UID STORE 1 +FLAGS (\\Deleted)")
        await other.ok(b"EXPUNGE")
        heard = []
        while not heard or b"EXPUNGE" not in heard[-1]:
            heard.append(await one.response())
        assert heard[-3:] == [
            b'* ESEARCH (TAG "t4") UID REMOVEFROM (0 1)',
            b'* ESEARCH (TAG "t5") REMOVEFROM (2 1)',
            b"* 1 EXPUNGE",
        ]
        await one.send(b"DONE\r\n")
        await one.until(b"i")

    run(tmp_path, scenario)


def test_a_result_that_vanished_is_told_before_it_may_be_expunged(tmp_path: Path) -> None:
    """RFC 5267 §4.3.4, appendix A.3: at once; the number stays until the client may be told."""

    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        for subject in "abc":
            await one.append(message(subject))
        await one.ok(b"SELECT INBOX")
        await one.ok(b"SEARCH RETURN (UPDATE COUNT) ALL")
        await other.ok(b"SELECT INBOX")
        await other.ok(b"STORE 2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        out = await one.ok(b"FETCH 3 (UID)")
        assert out[:2] == [b"* 3 FETCH (UID 3)", b'* ESEARCH (TAG "t6") REMOVEFROM (0 2)']
        assert not [line for line in out if b"EXPUNGE" in line and line.startswith(b"* ")]
        assert (await one.ok(b"FETCH 3 (UID)"))[0] == b"* 3 FETCH (UID 3)"
        out = await one.ok(b"NOOP")
        assert out[0] == b"* 2 EXPUNGE"

    run(tmp_path, scenario)


def test_a_context_waits_for_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        await one.ok(b"SELECT INBOX")
        await one.ok(b"UID SEARCH RETURN (UPDATE COUNT) BODY text")
        store = made.site.store

        def fails(row: MessageRow) -> bytes:
            raise Unavailable("the disk is away")

        with monkeypatch.context() as patch:
            patch.setattr(store, "octets", fails)
            await one.append(message("a"))
            refused = await one.ask(b"SEARCH BODY text")
            assert refused[-1].startswith(b"NO [UNAVAILABLE]")
            refused = await one.ask(b"SEARCH RETURN (SAVE) BODY text")
            assert refused[-1].startswith(b"NO [UNAVAILABLE]")
        out = await one.ok(b"NOOP")
        assert b'* ESEARCH (TAG "t3") UID ADDTO (0 1)' in out

    run(tmp_path, scenario)


# -- ids, UIDs only, others' mailboxes ------------------------------------------------------------


def test_object_ids(tmp_path: Path) -> None:
    """RFC 8474 §6."""

    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        await one.append(message("a", "Message-ID: <1@x>"))
        await one.append(message("b", "Message-ID: <2@x>", "References: <1@x>"))
        await one.append(message("c", "Message-ID: <3@x>"))
        await one.ok(b"SELECT INBOX")
        await one.ok(b"COPY 3 INBOX")
        out = await one.ok(b"FETCH 1:4 (EMAILID THREADID)")
        ids = [re.findall(rb"ID \(([^)]*)\)", line) for line in out if b"EMAILID" in line]
        assert (await one.ok(b"SEARCH EMAILID " + ids[0][0]))[0] == b"* SEARCH 1"
        assert (await one.ok(b"SEARCH EMAILID " + ids[2][0]))[0] == b"* SEARCH 3 4"
        assert (await one.ok(b"SEARCH THREADID " + ids[1][1]))[0] == b"* SEARCH 1 2"
        assert (await one.ok(b"SEARCH NOT THREADID " + ids[1][1]))[0] == b"* SEARCH 3 4"
        assert (await one.ok(b"SEARCH EMAILID " + ids[1][1]))[0] == b"* SEARCH"

    run(tmp_path, scenario)


def test_uid_only(tmp_path: Path) -> None:
    """RFC 9586 §3: UIDs in and out; `$` may be used."""

    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        for subject in "cab":
            await one.append(message(subject))
        await one.ok(b"ENABLE UIDONLY")
        await one.ok(b"SELECT INBOX")
        assert (await one.ask(b"SEARCH ALL"))[-1].startswith(b"BAD [UIDREQUIRED]")
        assert (await one.ask(b"UID SEARCH 1:2"))[-1].startswith(b"BAD [UIDREQUIRED]")
        assert (await one.ask(b"SORT (DATE) UTF-8 ALL"))[-1].startswith(b"BAD [UIDREQUIRED]")
        assert (await one.ok(b"UID SORT (SUBJECT) UTF-8 ALL"))[0] == b"* SORT 2 3 1"
        out = await one.ok(b"UID SEARCH RETURN (SAVE COUNT) UID 1:2")
        assert out[0] == b'* ESEARCH (TAG "t11") UID COUNT 2'
        assert (await one.ok(b"UID SEARCH $ SUBJECT a"))[0] == b"* SEARCH 2"

    run(tmp_path, scenario)


def test_seen_is_the_readers_own(tmp_path: Path) -> None:
    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        await one.ok(b"CREATE work")
        for flags in (b"(\\Seen)", b"(\\Flagged)", b"(\\Seen $X)"):
            await one.append(message("a"), b"work", flags)
        await one.ok(b"SETACL work bob@one.example lrs")
        await one.ok(b"SELECT work")
        await other.ok(b'SELECT "Users/ann@one.example/work"')
        await other.ok(b"STORE 2 +FLAGS (\\Seen)")
        assert (await one.ok(b"SEARCH SEEN"))[0] == b"* SEARCH 1 3"
        assert (await other.ok(b"SEARCH SEEN"))[0] == b"* SEARCH 2"
        assert (await other.ok(b"SEARCH UNSEEN KEYWORD $x"))[0] == b"* SEARCH 3"
        found = b'ESEARCH IN (mailboxes "Users/ann@one.example/work") SEEN'
        assert b"UID ALL 2" in (await other.ok(found))[0]
        # a mailbox without the right to read is passed over as if it were not there (RFC 7377 §2.2)
        await other.ok(b"UNSELECT")
        await one.ok(b"SETACL work bob@one.example l")
        assert len(await other.ok(found)) == 1

    run(tmp_path, scenario, "bob@one.example")


# -- hostile keys ---------------------------------------------------------------------------------


def _nested(depth: int) -> bytes:
    return b"NOT (" * depth + b"SEEN" + b")" * depth


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        (b"SEEN " * 900 + b"1", 0),
        (b" ".join(b"(OR SUBJECT a%d UNSEEN)" % n for n in range(240)), 3),
        (b"OR " + b" ".join(b"(%b)" % b" ".join(b"TEXT a%d" % n for n in range(k, k + 400))
                            for k in (0, 400)), 0),
        (_nested(24), 0),
        (b"OR (OR 1 2) (OR SEEN (OR SUBJECT x (OR BODY y (NOT ALL))))", 2),
        (b'BODY "%b"' % (b"x" * 60_000), 0),
        (b"FUZZY (%b)" % b" ".join(b"SUBJECT w%d" % n for n in range(100)), 0),
        (b"UID " + b",".join(b"%d" % n for n in range(1, 20_000, 2))[:60_000].rstrip(b","), 2),
    ],
    ids=range(8),
)  # fmt: skip
def test_hostile_keys_are_answered_soon(tmp_path: Path, keys: bytes, count: int) -> None:
    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        for subject in "abc":
            await one.append(message(subject))
        await one.ok(b"SELECT INBOX")
        began = time.process_time()
        out = await one.ok(b"SEARCH RETURN (COUNT) " + keys)
        assert time.process_time() - began < 3
        assert out[0].endswith(b"COUNT %d" % count), out[0]

    run(tmp_path, scenario)


def test_filters_within_filters_cannot_grow(tmp_path: Path) -> None:
    """Each names the next twice and nests deep: neither the tree nor its depth explodes."""

    async def scenario(made: TestSite, one: Client, other: Client) -> None:
        await one.ok(b"SELECT INBOX")
        nest = b"(" * 15, b")" * 15
        for name in range(8):
            inner = b" ".join([b"FILTER f%d" % (name + 1)] * 8)
            value = b"NOT %b%b%b" % (nest[0], inner, nest[1])
            await one.ok(b'SETMETADATA "" (/private/filters/values/f%d "%b")' % (name, value))
        await one.ok(b'SETMETADATA "" (/private/filters/values/f8 "SEEN")')
        began = time.process_time()
        for name in (0, 3, 6, 7, 8):
            answer = (await one.ask(b"SEARCH FILTER f%d" % name))[-1]
            assert re.match(rb"OK |NO \[UNDEFINED-FILTER f\d\] ", answer), answer
        assert time.process_time() - began < 3

    run(tmp_path, scenario)


# -- pieces ---------------------------------------------------------------------------------------


def test_what_to_read() -> None:
    everything = list(range(1, 1000))
    assert span_of([], everything)[0].ranges == ()
    assert span_of(everything, everything) == (span_of([1, 999], [1, 999])[0], None)
    some, counts = span_of(everything[::2], everything)
    assert some.ranges == ((1, 999),)
    assert counts == set(everything[::2])
    few, counts = span_of([3, 4, 900], everything)
    assert few.ranges == ((3, 4), (900, 900))
    assert counts is None


def test_runs_count_up_only() -> None:
    assert runs([]) == []
    assert runs(range(3, 9)) == [(3, 8)]
    assert runs([4, 3, 2, 1, 5, 6, 7]) == [(4, 4), (3, 3), (2, 2), (1, 1), (5, 7)]
    assert runs([1, 2, 3, 7, 8, 2]) == [(1, 3), (7, 8), (2, 2)]
