"""COMPRESS and what ends it (RFC 4978 §3, RFC 8437 §4.1)."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

from postroad.net.contract import Disconnected
from postroad.net.deflate import DeflateStream
from postroad.service.imapd import IMAPService
from support.imap import MESSAGE, Client
from support.sites import make_site


class Compressing(Client):
    """From `compress` on, both sides compress."""

    async def compress(self) -> None:
        await self.ok(b"COMPRESS DEFLATE")
        assert not self.unread
        self.plain = self.stream
        self.stream = DeflateStream(self.stream)  # type: ignore[assignment] # same reads, writes


def test_a_session_goes_on_compressed(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Compressing(IMAPService(made.site, False)) as client:
                await client.login()
                assert any(b"COMPRESS=DEFLATE" in line for line in await client.ok(b"CAPABILITY"))
                await client.compress()
                words = (await client.ok(b"CAPABILITY"))[0].split()
                assert b"COMPRESS=DEFLATE" not in words
                await client.append(MESSAGE * 2000)
                await client.ok(b"SELECT INBOX")
                out = await client.ok(b"FETCH 1 BODY.PEEK[]")
                assert out[0].endswith(MESSAGE * 2000 + b")")
                again = await client.ask(b"COMPRESS DEFLATE")
                assert again[-1].startswith(b"NO [COMPRESSIONACTIVE]")
            assert [event for event in made.events if "Crashed" in type(event).__name__] == []

    asyncio.run(run())


def test_compression_that_cannot_be_had(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                assert (await client.ask(b"COMPRESS DEFLATE"))[-1].startswith(b"BAD")
                await client.login()
                for wrong in (b"COMPRESS", b"COMPRESS GZIP", b"COMPRESS DEFLATE x"):
                    assert (await client.ask(wrong))[-1].startswith(b"BAD")
                await client.send(b"p1 COMPRESS DEFLATE\r\np2 NOOP\r\n")
                assert (await client.until(b"p1"))[-1].startswith(b"p1 BAD")
                assert (await client.until(b"p2"))[-1].startswith(b"p2 OK")

    asyncio.run(run())


def test_unauthenticate_ends_compression_and_may_be_pipelined(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Compressing(IMAPService(made.site, False)) as client:
                await client.login()
                await client.compress()
                packer = zlib.compressobj(6, zlib.DEFLATED, -15)
                packed = packer.compress(b"u1 UNAUTHENTICATE\r\n")
                packed += packer.flush(zlib.Z_SYNC_FLUSH)
                await client.plain.write(packed + b"u2 NOOP\r\nu3 SELECT INBOX\r\n")
                assert (await client.until(b"u1"))[-1].startswith(b"u1 OK")
                assert isinstance(client.stream, DeflateStream)
                client.unread += client.stream.stop()
                client.stream = client.plain
                assert (await client.until(b"u2"))[-1].startswith(b"u2 OK")
                assert (await client.until(b"u3"))[-1].startswith(b"u3 BAD")
                await client.login("bob@one.example")
                await client.compress()
                await client.ok(b"NOOP")

    asyncio.run(run())


def test_a_client_that_does_not_compress_is_left(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            client = Client(IMAPService(made.site, False))
            async with client:
                await client.login()
                await client.ok(b"COMPRESS DEFLATE")
                await client.send(b"x NOOP\r\n" * 10)
                try:
                    while await client.stream.read(5):
                        pass
                except Disconnected:
                    pass
            closed = [event for event in made.events if "Closed" in type(event).__name__]
            assert "compressed" in closed[-1].reason  # type: ignore[attr-defined] # its class

    asyncio.run(run())
