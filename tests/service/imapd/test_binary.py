"""BINARY of parts of any size: measured once, decoded in pieces, never held whole (RFC 3516)."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from postroad.mail.errors import Unavailable
from postroad.service.imapd import IMAPService, binary
from postroad.service.imapd.events import IMAPCommandCrashed
from support.imap import Client
from support.sites import TestSite, make_site


def message(octets: bytes, encoding: bytes = b"base64") -> bytes:
    body = base64.encodebytes(octets).replace(b"\n", b"\r\n") if encoding == b"base64" else octets
    return (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: " + encoding
        + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    )  # fmt: skip


def with_client(path: Path, body: Any) -> None:
    async def run() -> None:
        async with make_site(path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as client:
                await client.login()
                await asyncio.wait_for(body(made, client), 60)
            crashes = made.traced(IMAPCommandCrashed)
            assert not crashes, crashes[0].error

    asyncio.run(run())


async def literal(client: Client, command: bytes) -> tuple[bytes, bytes]:
    """(what announces it, its octets) of the one literal that a FETCH answers with."""
    out = await client.ok(command)
    found = re.search(rb"~?\{(\d+)\}\r\n", out[0])
    assert found is not None, out
    octets = out[0][found.end() : found.end() + int(found[1])]
    assert out[0][found.end() + int(found[1]) :] == b")"
    return found[0], octets


@pytest.mark.parametrize("nul", [True, False])
def test_large_parts_are_decoded_in_pieces(nul: bool, tmp_path: Path) -> None:
    octets = random.Random(1).randbytes(1_500_000)
    if not nul:
        octets = octets.replace(b"\0", b"\1")

    async def body(made: TestSite, client: Client) -> None:
        await client.append(message(octets))
        await client.ok(b"SELECT INBOX")
        out = await client.ok(b"FETCH 1 BINARY.SIZE[1]")
        assert out[0] == b"* 1 FETCH (BINARY.SIZE[1] %d)" % len(octets)
        head, found = await literal(client, b"FETCH 1 BINARY.PEEK[1]")
        assert found == octets
        assert head.startswith(b"~") is nul
        for start, length in ((0, 10), (131_000, 400_000), (1_499_990, 99), (2_000_000, 5)):
            _, found = await literal(client, b"FETCH 1 BINARY.PEEK[1]<%d.%d>" % (start, length))
            assert found == octets[start : start + length]

    with_client(tmp_path, body)


def test_a_slow_reader_costs_a_buffer(tmp_path: Path) -> None:
    octets = random.Random(2).randbytes(6_000_000)

    async def body(made: TestSite, client: Client) -> None:
        await client.append(message(octets))
        await client.ok(b"SELECT INBOX")
        tracemalloc.start()
        await client.send(b"x FETCH 1 BINARY.PEEK[1]\r\n")
        await asyncio.sleep(0.5)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 4_000_000
        assert octets in (await client.until(b"x"))[0]

    with_client(tmp_path, body)


def test_sizes_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(made: TestSite, client: Client) -> None:
        await client.append(message(b"hello" * 100))
        await client.ok(b"SELECT INBOX")
        first = await client.ok(b"FETCH 1 BINARY.SIZE[1]")

        def never(*_: object) -> Any:
            raise AssertionError("it was measured before")

        monkeypatch.setattr(binary.Decoded, "_pieces", never)
        assert await client.ok(b"FETCH 1 BINARY.SIZE[1]") == first

    with_client(tmp_path, body)


def test_few_sizes_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "MEASURES_MAX", 2)

    async def body(made: TestSite, client: Client) -> None:
        for number in range(5):
            await client.append(message(b"x" * number))
        await client.ok(b"SELECT INBOX")
        out = await client.ok(b"FETCH 1:* BINARY.SIZE[1]")
        assert out[:-1] == [
            b"* %d FETCH (BINARY.SIZE[1] %d)" % (number + 1, number) for number in range(5)
        ]
        assert len(binary._by_store[made.site.store]) == 2

    with_client(tmp_path, body)


def test_a_disk_that_fails_in_a_literal_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(made: TestSite, client: Client) -> None:
        await client.append(message(random.Random(3).randbytes(1_000_000)))
        await client.ok(b"SELECT INBOX")
        await client.ok(b"FETCH 1 BINARY.SIZE[1]")

        def broken(row: object, start: int, stop: int) -> bytes:
            raise Unavailable("the disk")

        monkeypatch.setattr(made.site.store, "octets_range", broken)
        await client.send(b"a FETCH 1 BINARY.PEEK[1]\r\n")
        with pytest.raises(EOFError) as end:
            await client.response()
        assert b"NO" not in end.value.args[0][-100:]

    with_client(tmp_path, body)


def test_other_messages_are_told_beside_one_of_unknown_encoding(tmp_path: Path) -> None:
    async def body(made: TestSite, client: Client) -> None:
        await client.append(message(b"one"))
        await client.append(message(b"two", b"x-odd"))
        await client.append(message(b"three"))
        await client.ok(b"SELECT INBOX")
        out = await client.ask(b"FETCH 1:3 BINARY[1]")
        assert out[0].endswith(b"BINARY[1] {3}\r\none)")
        assert out[1].endswith(b"BINARY[1] {5}\r\nthree)")
        # \Seen was set before the part was looked at: that is told all the same
        assert out[2] == b"* 2 FETCH (UID 2 FLAGS (\\Seen \\Recent))"
        assert out[3].startswith(b"NO [UNKNOWN-CTE]")

    with_client(tmp_path, body)
