"""FETCH of large messages and many messages: exact octets, bounded memory (RFC 3501 §6.4.5)."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from postroad.service.imapd import IMAPService
from postroad.service.imapd.sections import PIECE_OCTETS, WHOLE_OCTETS_MAX
from support.imap import MESSAGE, Client
from support.sites import make_site


def _message(size: int) -> bytes:
    head = MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 4]
    lines = random.Random(size).randbytes(size // 2 + 64).hex().encode()
    body = b"\r\n".join(lines[at : at + 76] for at in range(0, len(lines), 76))
    return (head + body)[:size]


@pytest.mark.parametrize(
    "size", [200, WHOLE_OCTETS_MAX, WHOLE_OCTETS_MAX + 1, 3 * PIECE_OCTETS, 1_000_003]
)
def test_octets_come_back_as_they_went_in(size: int, tmp_path: Path) -> None:
    message = _message(size)
    assert len(message) == size
    body = message.index(b"\r\n\r\n") + 4

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                await client.append(message)
                await client.ok(b"SELECT INBOX")
                head = b"* 1 FETCH (BODY[] {%d}\r\n" % size
                assert (await client.ok(b"FETCH 1 BODY.PEEK[]"))[0] == head + message + b")"
                for text, expected in (
                    (b"BODY.PEEK[]<10.50>", message[10:60]),
                    (b"BODY.PEEK[]<%d.400000>" % (size - 20), message[size - 20 :]),
                    (b"BODY.PEEK[TEXT]", message[body:]),
                    (b"BODY.PEEK[1]<0.300000>", message[body : body + 300_000]),
                    (b"BODY.PEEK[HEADER]", message[:body]),
                ):
                    [found, _] = await client.ok(b"FETCH 1 " + text)
                    assert found.partition(b"}\r\n")[2] == expected + b")"
                both = await client.ok(b"FETCH 1 (BODY.PEEK[] UID BODY.PEEK[TEXT])")
                assert both[0] == b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % size + message + (
                    b" BODY[TEXT] {%d}\r\n" % (size - body) + message[body:] + b")"
                )

    asyncio.run(run())


def test_a_slow_reader_costs_one_buffer(tmp_path: Path) -> None:
    message = _message(4_000_000)

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as client:
                await client.login()
                await client.append(message)
                await client.ok(b"SELECT INBOX")
                await client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
                [session] = service._sessions
                reads = 0
                whole = made.site.store.octets_range

                def counted(*arguments: object) -> bytes:
                    nonlocal reads
                    reads += 1
                    return whole(*arguments)  # type: ignore[arg-type]

                made.site.store.octets_range = counted  # type: ignore[method-assign]
                for _ in range(50):
                    await asyncio.sleep(0)
                assert reads <= 2, "pieces are read before the peer has taken the last ones"
                assert session._out_octets <= 2 * PIECE_OCTETS
                out = await client.until(b"a")
                assert out[0].partition(b"}\r\n")[2] == message + b")"
                assert reads == -(-len(message) // PIECE_OCTETS)

    asyncio.run(run())


def test_many_messages_come_in_order_while_others_are_served(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service, octets_max=4096) as one, Client(service) as two:
                await one.login()
                await two.login()
                for _ in range(60):
                    await one.append()
                for _ in range(5):
                    await one.ok(b"SELECT INBOX")
                    await one.ok(b"COPY 1:* INBOX")
                await one.ok(b"SELECT INBOX")
                await one.send(b"a FETCH 1:* (UID FLAGS ENVELOPE)\r\n")
                await one.octets()
                await two.ok(b"NOOP")  # before the first has read its answer
                out = await one.until(b"a")
                numbers = [
                    int(found[1])
                    for line in out[:-1]
                    if (found := re.match(rb"\* (\d+) FETCH \(UID \1 FLAGS", line))
                ]
                assert numbers == list(range(1, 60 * 32 + 1))

    asyncio.run(run())


def test_bodies_mark_seen_only_when_they_may(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                for _ in range(4):
                    await client.append()
                await client.ok(b"SELECT INBOX")
                for number, item in enumerate(
                    (b"BODY.PEEK[]", b"RFC822.HEADER", b"BODY[HEADER]", b"RFC822.TEXT"), 1
                ):
                    await client.ok(b"FETCH %d %b" % (number, item))
                assert (await client.ok(b"SEARCH SEEN"))[0] == b"* SEARCH 3 4"
                # nothing of it is news at the next command
                assert await client.ok(b"NOOP") == [b"OK Done"]

    asyncio.run(run())


def test_idle_sessions_are_small(tmp_path: Path) -> None:
    """What a session keeps for itself while nothing happens."""
    import tracemalloc

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            clients = [Client(service) for _ in range(40)]

            async def begin(client: Client) -> None:
                await client.response()
                await client.login()
                await client.ok(b"SELECT INBOX")
                await client.send(b"i IDLE\r\n")
                await client.response()

            await begin(clients[0])
            tracemalloc.start()
            before = tracemalloc.take_snapshot()
            for client in clients[1:]:
                await begin(client)
            after = tracemalloc.take_snapshot()
            tracemalloc.stop()
            kept = [
                item.size_diff
                for item in after.compare_to(before, "filename")
                if "/imapd/" in item.traceback[0].filename
                or "/protocol/imap/" in item.traceback[0].filename
            ]
            assert sum(kept) / (len(clients) - 1) < 5000
            for client in clients:
                await client.stream.close()
            await asyncio.wait([client.task for client in clients], timeout=5)

    asyncio.run(run())


def test_flags_alone_come_from_tuples_and_agree_with_rows(tmp_path: Path) -> None:
    """UID, FLAGS and MODSEQ take a path of their own; sizes beside them, the general one."""

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as one, Client(service) as two:
                for client in (one, two):
                    await client.login()
                for flags in (b"(\\Seen)", b"($a $B)", b"()", b"(\\Deleted $a)"):
                    await one.append(flags=flags)
                await one.ok(b"SELECT INBOX")
                await one.ok(b"STORE 2 +FLAGS.SILENT (\\Deleted)")
                await one.ok(b"UID EXPUNGE 2")
                await one.ok(b"UNSELECT")
                for flags in (b"(\\Seen $a)", b"()"):
                    await one.append(flags=flags)
                await two.ok(b"SELECT INBOX")  # the last two are recent here
                counts = {b"1:*": 5, b"2,4:5": 3, b"1,3": 2, b"5": 1}
                for items in (b"FLAGS", b"UID FLAGS", b"UID FLAGS MODSEQ", b"UID", b"MODSEQ"):
                    for messages, count in counts.items():
                        short = await two.ok(b"FETCH %b (%b)" % (messages, items))
                        long = await two.ok(b"FETCH %b (%b RFC822.SIZE)" % (messages, items))
                        short = [line for line in short if b"HIGHESTMODSEQ" not in line]
                        assert len(short) == len(long) == count + 1
                        for line, full in zip(short[:-1], long[:-1], strict=True):
                            without = re.sub(rb" ?RFC822.SIZE \d+", b"", full)
                            assert line == without.replace(b"( ", b"(")
                assert (await two.ok(b"FETCH 4 FLAGS"))[0].endswith(
                    b"(FLAGS (\\Seen $a \\Recent) MODSEQ (8))"
                )

    asyncio.run(run())


def test_names_of_fields_are_no_formats(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as one:
                await one.login()
                await one.append()
                await one.ok(b"SELECT INBOX")
                out = await one.ok(b'FETCH 1 BODY[HEADER.FIELDS ("%d%b" Subject)]')
                assert out[0] == (
                    b'* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[HEADER.FIELDS ("%d%b" Subject)] {18}'
                    b"\r\nSubject: first\r\n\r\n)"
                )
                out = await one.ok(b"FETCH 1 (BODY.PEEK[HEADER.FIELDS (X)] BODY.PEEK[HEADER]<0.6>)")
                assert out[0] == (
                    b"* 1 FETCH (BODY[HEADER.FIELDS (X)] {2}\r\n\r\n BODY[HEADER]<0> {6}\r\nFrom: )"
                )

    asyncio.run(run())
