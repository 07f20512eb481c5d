"""Compression of a stream (RFC 1951, RFC 4978 §3-4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.net import deflate
from postroad.net.contract import Disconnected
from postroad.net.deflate import DeflateStream
from postroad.net.memory import MemoryStream, pipe


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def read_all(stream: DeflateStream | MemoryStream, count: int) -> bytes:
    out = b""
    while len(out) < count:
        octets = await stream.read(5)
        assert octets, "the stream ended early"
        out += octets
    return out


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=300), st.just(None)), max_size=12))
def test_what_is_written_is_read_whatever_rests_in_between(writes: list[bytes | None]) -> None:
    async def main() -> None:
        ours, theirs = pipe()
        one, other = DeflateStream(ours), DeflateStream(theirs)
        for octets in writes:
            if octets is None:
                one.rest()
                continue
            await one.write(octets)
            assert await read_all(other, len(octets)) == octets

    run(main())


def test_a_quiet_connection_gives_its_memory_back_and_goes_on() -> None:
    """What comes after the rest refers to what came before it."""

    async def main() -> None:
        ours, theirs = pipe()
        stream = DeflateStream(theirs)
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        text = b"".join(b"a%d UID FETCH %d (FLAGS)\r\n" % (n, n * n) for n in range(4000))
        for start in range(0, len(text), 997):
            piece = text[start : start + 997]
            await ours.write(packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH))
            assert await read_all(stream, len(piece)) == piece
            stream.rest()
            assert stream._decompressor is None
            assert stream._compressor is None
            assert len(stream._asleep) < deflate.HISTORY_OCTETS // 3
        # in the midst of a block nothing can be given back
        packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
        await ours.write(packed[:500])
        first = await stream.read(5)
        stream.rest()
        assert stream._decompressor is not None
        await ours.write(packed[500:])
        assert first + await read_all(stream, len(text) - len(first)) == text

    run(main())


def test_rest_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(deflate, "REST_AFTER_S", 0.02)
        ours, theirs = pipe()
        one, other = DeflateStream(ours), DeflateStream(theirs)
        await one.write(b"abc")
        assert await other.read(5) == b"abc"
        assert one._compressor is not None
        reader = asyncio.ensure_future(other.read(5))
        for _ in range(200):
            await asyncio.sleep(0.005)
            if one._compressor is None and other._decompressor is None:
                break
        assert one._compressor is None
        assert other._decompressor is None
        assert one._timer is None
        await one.write(b"abcabc")
        assert await reader == b"abcabc"
        await one.close()
        await other.close()
        assert one._timer is None
        assert other._timer is None

    run(main())


def test_any_deflate_of_the_peer_is_read() -> None:
    """Full window, best compression, any packets: what other programs send."""

    async def main() -> None:
        ours, theirs = pipe(octets_max=1 << 20)
        text = b"".join(b"a%d NOOP\r\n" % number for number in range(20000))
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
        stream = DeflateStream(theirs)
        reader = asyncio.ensure_future(read_all(stream, len(text)))
        for start in range(0, len(packed), 97):
            await ours.write(packed[start : start + 97])
            await asyncio.sleep(0)
        assert await reader == text

    run(main())


def test_a_bomb_comes_in_pieces() -> None:
    async def main() -> None:
        ours, theirs = pipe(octets_max=1 << 20)
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(bytes(64 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert len(packed) < 70_000
        await ours.write(packed)
        stream = DeflateStream(theirs)
        total, turns = 0, 0
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        while total < 64 << 20:
            octets = await stream.read(5)
            assert 0 < len(octets) <= deflate.READ_OCTETS_MAX
            total += len(octets)
            turns += 1
        task.cancel()
        assert others > turns // 3, "the loop got no turn"

    run(main())


@pytest.mark.parametrize("junk", [b"a1 NOOP\r\n" * 20, b"\xff" * 100, b"\x07"])
def test_what_is_not_compressed_ends_the_connection(junk: bytes) -> None:
    async def main() -> None:
        ours, theirs = pipe()
        await ours.write(junk)
        ours.end()
        stream = DeflateStream(theirs)
        with pytest.raises(Disconnected, match="compressed"):
            while await stream.read(5):
                pass

    run(main())


def test_a_stream_that_says_it_has_ended_has() -> None:
    async def main() -> None:
        ours, theirs = pipe()
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        await ours.write(packer.compress(b"abc") + packer.flush(zlib.Z_FINISH))
        stream = DeflateStream(theirs)
        assert await stream.read(5) == b"abc"
        with pytest.raises(Disconnected):
            await stream.read(5)

    run(main())


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH])
def test_what_follows_in_the_same_packet_is_left_as_it_came(flush: int) -> None:
    """After UNAUTHENTICATE the client goes on without compression (RFC 8437 §4.1)."""

    async def main() -> None:
        ours, theirs = pipe()
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = packer.compress(b"a1 UNAUTHENTICATE\r\n") + packer.flush(flush)
        await ours.write(packed + b"a2 NOOP\r\n")
        stream = DeflateStream(theirs)
        assert await stream.read(5) == b"a1 UNAUTHENTICATE\r\n"
        assert stream.stop() == b"a2 NOOP\r\n"

    run(main())


def test_the_end_and_the_addresses_are_those_of_the_stream_inside() -> None:
    async def main() -> None:
        ours, theirs = pipe(client=("192.0.2.1", 4000))
        stream = DeflateStream(theirs)
        assert (stream.peer, stream.local) == (theirs.peer, theirs.local)
        assert stream.tls is None
        ours.end()
        assert await stream.read(5) == b""
        await stream.close()
        assert theirs.closed

    run(main())
