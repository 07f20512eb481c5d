"""The pair of streams in memory behaves as sockets do, where a service can tell."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from postroad.net.contract import Disconnected, TimedOut, TLSFailed
from postroad.net.memory import pipe

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_octets_travel_both_ways_and_then_the_end() -> None:
    async def main() -> None:
        client, server = pipe(client=("192.0.2.7", 1234), server=("192.0.2.8", 25))
        assert server.peer == ("192.0.2.7", 1234) and client.peer == ("192.0.2.8", 25)
        await client.write([b"EHLO ", b"x\r\n"])
        assert await server.read(1) == b"EHLO x\r\n"
        await server.write(b"250 x\r\n")
        await server.close()
        assert await client.read(1) == b"250 x\r\n"
        assert await client.read(1) == b""
        with pytest.raises(Disconnected):
            await client.write(b"QUIT\r\n")

    asyncio.run(main())


def test_a_writer_waits_for_a_slow_reader() -> None:
    async def main() -> None:
        client, server = pipe(octets_max=10)
        writing = asyncio.ensure_future(client.write(b"0123456789abcdef"))
        await asyncio.sleep(0)
        assert not writing.done()
        assert await server.read(1) == b"0123456789"
        await writing
        assert await server.read(1) == b"abcdef"
        with pytest.raises(TimedOut):
            await client.write(b"x" * 11, timeout_s=0.01)

    asyncio.run(main())


def test_a_cancelled_read_loses_nothing() -> None:
    async def main() -> None:
        client, server = pipe()
        reading = asyncio.ensure_future(server.read(1))
        await asyncio.sleep(0)
        await client.write(b"kept")
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert await server.read(1) == b"kept"

    asyncio.run(main())


def test_silence_ends_at_the_deadline_and_a_reset_is_told_from_an_end() -> None:
    async def main() -> None:
        client, server = pipe()
        with pytest.raises(TimedOut):
            await server.read(0.01)
        client.abort()
        with pytest.raises(Disconnected):
            await server.read(1)

    asyncio.run(main())


def test_both_sides_start_tls() -> None:
    async def main() -> None:
        client, server = pipe()
        server.binding = b"binding"
        assert server.channel_binding() is None

        async def serve() -> None:
            await server.start_tls_server(CONTEXT)

        serving = asyncio.ensure_future(serve())
        await client.start_tls_client(CONTEXT, "mx.one.example")
        await client.write(b"inside")
        await serving
        assert server.tls is not None and server.tls.version == "TLSv1.3"
        assert server.channel_binding() == b"binding"
        assert await server.read(1) == b"inside"

    asyncio.run(main())


def test_plaintext_in_front_of_the_handshake_spoils_it() -> None:
    async def main() -> None:
        client, server = pipe()
        await client.write(b"RSET\r\n")
        starting = asyncio.ensure_future(client.start_tls_client(CONTEXT, None, 1))
        with pytest.raises(TLSFailed):
            await server.start_tls_server(CONTEXT, 1)
        with pytest.raises(Disconnected):
            await starting

    asyncio.run(main())
