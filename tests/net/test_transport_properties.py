"""Whatever the sizes, the order and the cancellations: octets arrive whole and in order."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.net.contract import TimedOut
from postroad.net.transport import SocketStream
from support.streams import streams, tls_streams

SIZES = st.one_of(
    st.integers(0, 200),
    st.integers(16_300, 16_500),  # about one TLS record
    st.integers(65_000, 66_000),  # about one read
    st.integers(200_000, 400_000),
)
WRITES = st.lists(st.one_of(SIZES, st.lists(SIZES, max_size=5)), min_size=1, max_size=6)


def pattern(number: int, size: int) -> bytes:
    seed = hashlib.sha256(b"%d" % number).digest()
    return (seed * (size // 32 + 1))[:size]


def octets_of(write: int | list[int], number: int) -> bytes | list[bytes]:
    if isinstance(write, int):
        return pattern(number, write)
    return [pattern(number * 10 + part, size) for part, size in enumerate(write)]


def joined(octets: bytes | list[bytes]) -> bytes:
    return octets if isinstance(octets, bytes) else b"".join(octets)


async def impatient_read(stream: SocketStream, patience: list[int]) -> bytes:
    """Reads, but gives up by timeout or cancellation first, as often as `patience` says."""
    while True:
        turn = patience.pop() if patience else 0
        if turn == 1:
            try:
                return await stream.read(0.0)
            except TimedOut:
                continue
        if turn == 2:
            reading = asyncio.ensure_future(stream.read(5))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                return reading.result()
            continue
        return await stream.read(5)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@given(up=WRITES, down=WRITES, patience=st.lists(st.integers(0, 2), max_size=20))
@settings(max_examples=25, deadline=None)
def test_octets_arrive_whole_and_in_order(
    tls: bool, up: list[int | list[int]], down: list[int | list[int]], patience: list[int]
) -> None:
    async def send(stream: SocketStream, all_octets: list[bytes | list[bytes]]) -> None:
        for octets in all_octets:
            await stream.write(octets, 5)

    async def receive(stream: SocketStream, count: int, impatience: list[int]) -> bytes:
        got = bytearray()
        while len(got) < count:
            octets = await impatient_read(stream, impatience)
            assert octets and len(octets) <= 65536
            got += octets
        return bytes(got)

    async def main() -> None:
        client, server = await tls_streams() if tls else streams()
        rising = [octets_of(write, number) for number, write in enumerate(up)]
        falling = [octets_of(write, number + 100) for number, write in enumerate(down)]
        expected = b"".join(map(joined, rising)), b"".join(map(joined, falling))
        _, _, first, second = await asyncio.gather(
            send(client, rising),
            send(server, falling),
            receive(server, len(expected[0]), list(patience)),
            receive(client, len(expected[1]), list(reversed(patience))),
        )
        assert (first, second) == expected
        await client.close()
        assert await server.read(5) == b""
        await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@given(sizes=st.lists(st.integers(1, 3_000_000), min_size=1, max_size=3), delay=st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_a_cancelled_write_sends_a_beginning_and_the_next_follows(
    tls: bool, sizes: list[int], delay: int
) -> None:
    """What was begun is never repeated nor mixed with what comes next, TLS records included."""

    async def main() -> None:
        client, server = await tls_streams() if tls else streams()
        got = bytearray()

        async def collect() -> None:
            while octets := await server.read(5):
                got.extend(octets)
                await asyncio.sleep(0)

        collecting = asyncio.ensure_future(collect())
        begun = []
        for number, size in enumerate(sizes):
            writing = asyncio.ensure_future(client.write(bytes([number + 1]) * size, 5))
            for _ in range(delay):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
            begun.append(size)
        await client.write(b"\xff" * 1000, 5)
        await client.close()
        await collecting
        at = 0
        for number, size in enumerate(begun):
            run = len(got[at:]) - len(got[at:].lstrip(bytes([number + 1])))
            assert run <= size
            at += run
        assert got[at:] == b"\xff" * 1000
        await server.close()

    asyncio.run(main())
