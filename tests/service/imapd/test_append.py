"""APPEND and REPLACE: many messages, slow and broken clients, failing disks, full accounts."""

from __future__ import annotations

import asyncio
import re
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroad.mail import limits
from postroad.mail.errors import Unavailable
from postroad.mail.flags import Flag
from postroad.message.header import Octets
from postroad.service.imapd import IMAPService, uploading
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.store.drafts import BlobDraft
from postroad.store.operations import DeleteMailbox
from postroad.store.quota import SetQuota
from postroad.store.values import unix
from service.imapd.test_sessions import selected, with_site
from support.imap import MESSAGE, Client
from support.sites import NOW, TestSite

BIG = MESSAGE + b"0123456789abcdef" * 20_000
"""Past what a draft keeps in memory."""


async def bodies(client: Client, uids: bytes = b"1:*") -> dict[int, bytes]:
    """BODY[] of the messages, by UID."""
    out = {}
    for line in (await client.ok(b"UID FETCH %b BODY.PEEK[]" % uids))[:-1]:
        match = re.match(rb"\* \d+ FETCH \(UID (\d+) BODY\[\] \{\d+\}\r\n", line)
        assert match is not None, line[:100]
        out[int(match[1])] = line[match.end() : -1]
    return out


def leftovers(path: Path) -> list[Path]:
    """Files of drafts."""
    return list(path.rglob("tmp/*"))


# -- many messages ----------------------------------------------------------------------------


def test_two_thousand_messages_in_one_command(tmp_path: Path) -> None:
    """One unit of work; what waits in memory is their summaries, not their octets."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            messages = [MESSAGE + b"%d\r\n" % number + b"x" * 4000 for number in range(2000)]
            await client.send(b"a APPEND INBOX")
            tracemalloc.start()
            began = time.perf_counter()
            for message in messages:
                await client.send(b" (\\Seen) {%d+}\r\n%b" % (len(message), message))
            await client.send(b"\r\n")
            *told, answer = await client.until(b"a")
            spent = time.perf_counter() - began
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert re.match(rb"a OK \[APPENDUID \d+ 1:2000\]", answer)
            assert b"* 2000 EXISTS" in told
            assert most < 12 << 20, f"{most} octets of memory at most"
            assert spent < 10, f"{spent} s"  # some 1 s alone and without tracing
            found = await bodies(client, b"1,1000,2000")
            assert found == {uid: messages[uid - 1] for uid in (1, 1000, 2000)}
        assert leftovers(tmp_path) == []

    with_site(tmp_path, body)


def test_nothing_is_appended_before_all_is(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client, selected(service) as other:
            await client.send(b"a APPEND INBOX {%d+}\r\n%b" % (len(BIG), BIG))
            await client.send(b" {%d+}\r\n%b" % (len(MESSAGE), MESSAGE))
            await client.send(b" {10+}\r\n12345")
            for _ in range(50):
                await asyncio.sleep(0)
            assert (await other.ok(b"NOOP"))[:-1] == []
            await client.send(b"67890\r\n")
            *told, answer = await client.until(b"a")
            assert b"* 3 EXISTS" in told
            assert b" 1:3]" in answer
            assert (await other.ok(b"NOOP"))[0] == b"* 3 EXISTS"
            assert await bodies(client) == {1: BIG, 2: MESSAGE, 3: b"1234567890"}
        assert leftovers(tmp_path) == []

    with_site(tmp_path, body)


def test_a_client_that_leaves_half_way_leaves_nothing(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with Client(service) as client:
            await client.login()
            await client.send(b"a APPEND INBOX {%d+}\r\n%b" % (len(MESSAGE), MESSAGE))
            await client.send(b" {%d+}\r\n%b" % (len(BIG), BIG[:-1]))
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(leftovers(tmp_path)) == 1
        assert leftovers(tmp_path) == []
        async with selected(service) as client:
            assert b"MESSAGES 0" in (await client.ok(b"STATUS INBOX (MESSAGES)"))[0]

    with_site(tmp_path, body)


def test_a_slow_client_is_waited_for(tmp_path: Path) -> None:
    """Octet by octet, with all kinds of parts."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.append(b"x: y\r\n\r\nold\r\n")
            wire = (
                b'a APPEND INBOX (\\Seen) {3+}\r\none ~{3+}\r\ntwo "10-Oct-2020 10:10:10 +0200"'
                b' CATENATE (TEXT {3+}\r\na:\n URL "/INBOX/;UID=1/;SECTION=TEXT")\r\n'
            )
            for at in range(len(wire)):
                await client.send(wire[at : at + 1])
                await asyncio.sleep(0)
            answer = (await client.until(b"a"))[-1]
            assert b" 2:4]" in answer
            assert await bodies(client, b"2:4") == {2: b"one", 3: b"two", 4: b"a:\nold\r\n"}

    with_site(tmp_path, body)


_MESSAGES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"0")),
        st.lists(st.binary(min_size=1, max_size=30).map(lambda raw: raw.replace(b"\0", b"0")),
                 min_size=1, max_size=4),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


def test_any_messages_are_kept_octet_for_octet(tmp_path: Path) -> None:
    """Whatever they hold, however they are cut into parts and packets."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.ok(b"ENABLE UTF8=ACCEPT")

            async def one(messages: list[bytes | list[bytes]], step: int) -> None:
                wire = b"a APPEND INBOX"
                for message in messages:
                    if isinstance(message, bytes):
                        wire += b" {%d+}\r\n%b" % (len(message), message)
                    else:
                        parts = [b"TEXT {%d+}\r\n%b" % (len(part), part) for part in message]
                        wire += b" CATENATE (" + b" ".join(parts) + b")"
                wire += b"\r\n"
                for at in range(0, len(wire), step):
                    await client.send(wire[at : at + step])
                answer = (await client.until(b"a"))[-1]
                uids = re.search(rb"APPENDUID \d+ (\S+)\]", answer)
                assert uids is not None, answer
                found = await bodies(client, uids[1])
                wanted = [item if isinstance(item, bytes) else b"".join(item) for item in messages]
                assert list(found.values()) == wanted

            loop = asyncio.get_running_loop()

            @settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
            @given(_MESSAGES, st.integers(1, 200))
            def examples(messages: list[bytes | list[bytes]], step: int) -> None:
                asyncio.run_coroutine_threadsafe(one(messages, step), loop).result(20)

            await asyncio.to_thread(examples)

    with_site(tmp_path, body)


# -- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"31-Dec-9999 23:59:59 +0000", b"31-Dec-9999 23:59:59 +0000"),
        (b" 1-Jan-1970 00:00:00 +0000", b"01-Jan-1970 00:00:00 +0000"),
        (b"17-Jul-1966 02:44:25 -0700", b"17-Jul-1966 09:44:25 +0000"),
        (b" 1-Jan-1901 00:00:00 +0000", b"01-Jan-1901 00:00:00 +0000"),
        (b"29-Feb-2000 23:30:60 -1200", b"01-Mar-2000 11:30:59 +0000"),
        (b"01-jAn-2026 00:00:00 +1400", b"31-Dec-2025 10:00:00 +0000"),
    ],
)
def test_any_date_is_kept(tmp_path: Path, written: bytes, told: bytes) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.ok(b'APPEND INBOX "%b" {5+}\r\na: b\n' % written)
            assert await client.ok(b"FETCH 1 INTERNALDATE") == [
                b'* 1 FETCH (INTERNALDATE "%b")' % told,
                b"OK Fetched",
            ]
            await client.ok(b"SEARCH SENTBEFORE 1-Jan-2030 BEFORE 2-Jan-2030")

    with_site(tmp_path, body)


def test_a_date_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            for date in (b"30-Feb-2026 00:00:00 +0000", b"01-Foo-2026 00:00:00 +0000"):
                answer = await client.ask(b'APPEND INBOX "%b" {5+}\r\na: b\n' % date)
                assert answer[-1].startswith(b"BAD")

    with_site(tmp_path, body)


def test_when_it_was_saved_is_kept_beside_its_date(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.ok(b'APPEND INBOX " 1-Jan-2020 00:00:00 +0000" {5+}\r\na: b\n')
            [row] = made.rows("ann@one.example")
            assert (row.internal_date, row.saved) == (1577836800, unix(NOW))

    with_site(tmp_path, body)


def test_flags_are_the_clients_and_no_others(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.append()
            await client.append(flags=b"(\\Seen $Forwarded \\deleted work)")
            *_, one, two, _ = await client.ok(b"FETCH 1:2 FLAGS")
            assert one == b"* 1 FETCH (FLAGS (\\Recent))"
            words = two.removeprefix(b"* 2 FETCH (FLAGS (").removesuffix(b"))").split()
            assert set(words) == {b"\\Recent", b"\\Seen", b"$Forwarded", b"\\Deleted", b"work"}

    with_site(tmp_path, body)


def test_nul_in_a_large_part_is_encoded_and_comes_back(tmp_path: Path) -> None:
    """RFC 3516 §4.4: nothing is lost; BINARY gives the octets as they were sent."""
    octets = bytes(range(256)) * 3000
    message = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\nplain\r\n--b\r\nContent-Type: application/x\r\n"
        b"Content-Transfer-Encoding: binary\r\n\r\n" + octets + b"\r\n--b--\r\n"
    )

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.ok(b"APPEND INBOX ~{%d+}\r\n%b" % (len(message), message))
            [kept] = (await bodies(client)).values()
            assert b"\0" not in kept
            assert kept.startswith(message[: message.index(b"binary")])
            assert b"Content-Transfer-Encoding: base64" in kept
            [told, _] = (await client.ok(b"FETCH 1 BINARY.PEEK[2]"))[-2:]
            assert told == b"* 1 FETCH (BINARY[2] ~{%d}\r\n%b)" % (len(octets), octets)
        assert leftovers(tmp_path) == []

    with_site(tmp_path, body, message_octets_max=1 << 21)


# -- who may, and what fits -------------------------------------------------------------------


def test_a_full_account_takes_none_of_several(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        ann = made.accounts["ann@one.example"]
        await made.site.database.submit(SetQuota(account=ann, messages_max=2))
        async with selected(service) as client:
            await client.append()
            answer = await client.ask(b"APPEND INBOX {5+}\r\na: b\n {5+}\r\na: c\n")
            assert answer[-1].startswith(b"NO [OVERQUOTA]")
            assert b"MESSAGES 1" in (await client.ok(b"STATUS INBOX (MESSAGES)"))[0]
            await client.append()
            # RFC 8508 §3.4: only what is more counts
            told = await client.ok(b"REPLACE 1 INBOX {5+}\r\na: d\n")
            assert b"* 1 EXPUNGE" in told
            assert set((await bodies(client)).values()) == {MESSAGE, b"a: d\n"}

    with_site(tmp_path, body)


def test_what_does_not_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        ann = made.accounts["ann@one.example"]
        async with selected(service) as client:
            await client.append(b"x: y\r\n\r\n" + b"z" * 92)
            await made.site.database.submit(SetQuota(account=ann, octets_max=150))
            for command in (b"APPEND INBOX {51}", b"APPEND INBOX CATENATE (TEXT {51}"):
                answer = await client.ask(command)
                assert answer[-1].startswith(b"NO [OVERQUOTA]")
            answer = await client.ask(b"REPLACE 1 INBOX {151}")
            assert answer[-1].startswith(b"NO [OVERQUOTA]")
            await client.send(b"a REPLACE 1 INBOX {150}\r\n")
            assert (await client.response()).startswith(b"+")
            await client.send(b"a: b\r\n\r\n" + b"c" * 142 + b"\r\n")
            assert (await client.until(b"a"))[-1].startswith(b"a OK")
            answer = await client.ask(b"APPEND INBOX {1}")
            assert answer[-1].startswith(b"NO [OVERQUOTA]")

    with_site(tmp_path, body)


def test_another_users_mailbox(tmp_path: Path) -> None:
    """RFC 4314 §4: `i`, and the flags there is a right for; RFC 4315 §3: UIDs for who may read."""

    async def body(made: TestSite, service: IMAPService) -> None:
        box = b'"Users/ann@one.example/INBOX"'
        async with selected(service) as ann, Client(service) as bob:
            await bob.login("bob@one.example")

            async def append() -> bytes:
                return (await bob.ask(b"APPEND %b (\\Seen \\Flagged k) {5+}\r\na: b\n" % box))[-1]

            assert not (await append()).startswith(b"OK")
            assert b"TRYCREATE" not in await append()
            await ann.ok(b"SETACL INBOX bob@one.example l")
            assert (await append()).startswith(b"NO [NOPERM]")
            await ann.ok(b"SETACL INBOX bob@one.example li")
            assert await append() == b"OK Appended"
            await ann.ok(b"SETACL INBOX bob@one.example lriws")
            assert (await append()).startswith(b"OK [APPENDUID ")
            flags = [set(row.flags) | set(row.keywords) for row in made.rows("ann@one.example")]
            assert [b"k" in found for found in flags] == [False, True]
            assert [Flag.FLAGGED in found for found in flags] == [False, True]
            assert [Flag.SEEN in found for found in flags] == [False, False]
            await bob.ok(b"EXAMINE " + box)
            assert b"\\Seen" in (await bob.ok(b"FETCH 2 FLAGS"))[-2]
            assert b"\\Seen" not in (await bob.ok(b"FETCH 1 FLAGS"))[-2]

    with_site(tmp_path, body)


def test_a_url_means_the_selected_mailbox_whatever_its_name_is_now(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as other:
            await other.ok(b"CREATE x")
            await other.append(b"a: b\n", mailbox=b"x")
            async with selected(service, b"x") as client:
                await other.ok(b"RENAME x y")
                await client.ok(b'APPEND INBOX CATENATE (URL ";UID=1")')
                await other.ok(b"NOOP")
                assert await bodies(other) == {1: b"a: b\n"}

    with_site(tmp_path, body)


def test_the_mailbox_goes_while_the_message_comes(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        ann = made.accounts["ann@one.example"]
        async with selected(service) as client:
            await client.ok(b"CREATE x")
            await client.send(b"a APPEND x {10+}\r\n12345")
            for _ in range(20):
                await asyncio.sleep(0)
            await made.site.database.submit(DeleteMailbox(account=ann, name="x", now=unix(NOW)))
            await client.send(b"67890\r\n")
            assert (await client.until(b"a"))[-1].startswith(b"a NO [TRYCREATE]")
            await client.ok(b"NOOP")

    with_site(tmp_path, body)


def test_the_replaced_message_goes_while_its_successor_comes(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client, selected(service) as other:
            await client.append()
            await client.append()
            await client.send(b"a REPLACE 1 INBOX {10+}\r\n12345")
            for _ in range(20):
                await asyncio.sleep(0)
            await other.ok(b"NOOP")
            await other.ok(b"STORE 1 FLAGS (\\Deleted)")
            await other.ok(b"EXPUNGE")
            await client.send(b"67890\r\n")
            *told, answer = await client.until(b"a")
            assert answer.startswith(b"a NO [EXPUNGEISSUED]")
            assert told == [b"* 1 EXPUNGE"]
            assert await bodies(client) == {2: MESSAGE}

    with_site(tmp_path, body)


# -- what fails -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["write", "view", "commit"])
@pytest.mark.parametrize("octets", [MESSAGE, BIG], ids=["small", "big"])
def test_a_failing_disk_is_told_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, octets: bytes
) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            await client.append()
            real = getattr(BlobDraft, method)
            calls = 0

            def fail(self: BlobDraft, *args: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > 1:
                    raise Unavailable("no space left on device")
                return real(self, *args)

            with monkeypatch.context() as patch:
                patch.setattr(BlobDraft, method, fail)
                answer = await client.ask(
                    b"APPEND INBOX {5+}\r\na: b\n {%d+}\r\n%b {9+}\r\nz LOGOUT\r"
                    % (len(octets), octets)
                )
            assert answer[-1].startswith(b"NO [UNAVAILABLE]")
            [deferred] = made.traced(IMAPCommandDeferred)
            assert deferred.what == "no space left on device"
            assert b"MESSAGES 1" in (await client.ok(b"STATUS INBOX (MESSAGES)"))[0]
            await client.append(octets)
        assert leftovers(tmp_path) == []

    with_site(tmp_path, body)


def test_a_bug_costs_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What still comes of the command is dropped, and the next one is read."""

    def broken(octets: Octets) -> None:
        raise RuntimeError("a bug")

    async def run(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            with monkeypatch.context() as patch:
                patch.setattr(uploading, "summarize", broken)
                answer = await client.ask(
                    b"APPEND INBOX {%d+}\r\n%b {9+}\r\nz LOGOUT\r" % (len(BIG), BIG)
                )
            assert answer[-1].startswith(b"NO [SERVERBUG]")
            await client.append()
        assert leftovers(tmp_path) == []
        made.events.clear()

    with_site(tmp_path, run)


def test_summaries_of_one_command_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "SUMMARY_OCTETS_MAX", 4000)
    message = b"x: " + b"y" * 900 + b"\r\n\r\n"

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            part = b" {%d+}\r\n%b" % (len(message), message)
            answer = await client.ask(b"APPEND INBOX" + part * 10)
            assert answer[-1].startswith(b"NO [LIMIT]")
            await client.ok(b"APPEND INBOX" + part * 2)

    with_site(tmp_path, body)


def test_a_refused_literal_of_any_size_is_passed_over(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as client:
            size = limits.MESSAGE_OCTETS_MAX_DEFAULT // 10
            await client.send(b"a APPEND nope {%d+}\r\n" % size)
            for _ in range(10):
                await client.send(b"z" * (size // 10))
            await client.send(b"\r\nb NOOP\r\n")
            assert (await client.until(b"a"))[-1].startswith(b"a NO [TRYCREATE]")
            assert (await client.until(b"b"))[-1].startswith(b"b OK")
            await client.send(b"c APPEND INBOX {99999999999+}\r\n")
            assert (await client.response()).startswith(b"* BYE")

    with_site(tmp_path, body)
