"""SocketStream over real loopback sockets, plain and TLS."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from postroad.net.addresses import endpoint, is_loopback
from postroad.net.contract import Disconnected, TimedOut, TLSFailed
from postroad.net.memory import MemoryStream, pipe
from postroad.net.tls import end_point_of
from postroad.net.transport import SocketStream
from support.streams import HOSTNAME, client_tls, server_tls, sockets, streams, tls_streams

Pair = tuple[SocketStream, SocketStream]


async def plain() -> Pair:
    return streams()


async def memory() -> tuple[MemoryStream, MemoryStream]:
    return pipe()


KINDS = pytest.mark.parametrize("make", [plain, tls_streams], ids=["plain", "tls"])
EVERY = pytest.mark.parametrize(
    "make", [plain, tls_streams, memory], ids=["plain", "tls", "memory"]
)
"""What holds for real sockets holds for the pair in memory that services are tested with."""


def on_loop(test: Callable[[SocketStream, SocketStream], Awaitable[None]], make: object) -> None:
    """Runs the test with a pair of streams and demands that nothing is left on the loop."""

    async def main() -> None:
        client, server = await make()  # type: ignore[operator]
        try:
            await test(client, server)
        finally:
            client.abort()
            server.abort()
        loop = asyncio.get_running_loop()
        selector = getattr(loop, "_selector", None)
        assert selector is None or len(selector.get_map()) == 1, "a socket is still watched"

    asyncio.run(main())


async def read_exactly(stream: SocketStream, count: int) -> bytes:
    parts: list[bytes] = []
    while count > 0:
        octets = await stream.read(5)
        assert octets, "ended early"
        assert len(octets) <= 65536
        parts.append(octets)
        count -= len(octets)
    return b"".join(parts)


@EVERY
def test_lines_travel_both_ways_and_then_the_end(make: object) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        for _ in range(3):
            await client.write(b"NOOP\r\n")
            assert await server.read(5) == b"NOOP\r\n"
            await server.write([b"250 ", b"", b"OK\r\n"])
            assert await client.read(5) == b"250 OK\r\n"
        await server.close()
        assert server.closed
        assert await client.read(5) == b""
        assert await client.read(5) == b""
        await server.close()
        with pytest.raises(Disconnected):
            await server.read(5)
        with pytest.raises(Disconnected):
            await server.write(b"x")

    on_loop(test, make)


@EVERY
@pytest.mark.parametrize("pieces", [1, 3, 2000])
def test_large_writes_wait_for_a_slow_reader_and_arrive_whole(make: object, pieces: int) -> None:
    octets = os.urandom(4096) * 1536  # 6 MiB: more than the kernel's buffers
    step = -(-len(octets) // pieces)
    parts = [octets[at : at + step] for at in range(0, len(octets), step)]

    async def test(client: SocketStream, server: SocketStream) -> None:
        writing = asyncio.ensure_future(client.write(parts if pieces > 1 else octets))
        await asyncio.sleep(0.01)
        assert not writing.done(), "the writer does not wait for the reader"
        assert await read_exactly(server, len(octets)) == octets
        await writing

    on_loop(test, make)


@EVERY
def test_both_directions_at_once(make: object) -> None:
    octets = os.urandom(3 << 20)

    async def test(client: SocketStream, server: SocketStream) -> None:
        got = await asyncio.gather(
            client.write(octets),
            read_exactly(server, len(octets)),
            server.write(octets),
            read_exactly(client, len(octets)),
        )
        assert got[1] == octets and got[3] == octets

    on_loop(test, make)


@EVERY
def test_silence_ends_at_the_deadline_and_the_stream_lives_on(make: object) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        with pytest.raises(TimedOut):
            await server.read(0.02)
        waiting = asyncio.ensure_future(server.read(5))
        await asyncio.sleep(0.03)
        assert not waiting.done(), "the first read's timer ended the second"
        await client.write(b"late")
        assert await waiting == b"late"
        with pytest.raises(TimedOut):  # a nearer deadline than the timer that runs
            await asyncio.wait_for(server.read(0.02), 2)

    on_loop(test, make)


@EVERY
def test_a_peer_that_takes_nothing_ends_the_write(make: object) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        with pytest.raises(TimedOut):
            await client.write(bytes(8 << 20), timeout_s=0.05)

    on_loop(test, make)


@KINDS
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_peer_that_takes_drops_ends_the_write(
    make: object, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait is short; it is the pace that is too slow."""
    monkeypatch.setattr("postroad.net.transport.PACE_OCTETS_S", 1 << 30)
    octets = bytes(16 << 20)

    async def test(client: SocketStream, server: SocketStream) -> None:
        for stream, option in ((client, socket.SO_SNDBUF), (server, socket.SO_RCVBUF)):
            assert stream._sock is not None
            stream._sock.setsockopt(socket.SOL_SOCKET, option, 65536)

        async def drip() -> None:
            while True:
                await server.read(5)
                await asyncio.sleep(0.005)

        dripping = asyncio.ensure_future(drip())
        try:
            with pytest.raises(TimedOut, match="too little"):
                await client.write([octets] * pieces if pieces > 1 else octets, timeout_s=0.2)
        finally:
            dripping.cancel()
            await asyncio.wait([dripping])

    on_loop(test, make)


@EVERY
def test_a_cancelled_read_loses_nothing(make: object) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        for _ in range(20):
            reading = asyncio.ensure_future(server.read(5))
            await asyncio.sleep(0)
            await client.write(b"kept")
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            octets = b"" if reading.cancelled() else reading.result()
            while len(octets) < 4:
                octets += await server.read(5)
            assert octets == b"kept"

    on_loop(test, make)


def test_octets_that_came_with_the_cancellation_are_kept() -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        reading = asyncio.ensure_future(server.read(5))
        await asyncio.sleep(0)
        await client.write(b"kept")
        while not server._seat.done():  # type: ignore[union-attr]
            server._on_readable()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert await server.read(5) == b"kept"

    on_loop(test, plain)


@EVERY
def test_a_cancelled_write_leaves_a_stream_that_works(make: object) -> None:
    octets = bytes(8 << 20)

    async def test(client: SocketStream, server: SocketStream) -> None:
        writing = asyncio.ensure_future(client.write(octets))
        await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        finishing = asyncio.ensure_future(client.write(b"\x01end"))
        got = b""
        while not got.endswith(b"\x01end"):
            got += await server.read(5)
        await finishing
        assert not got[:-4].strip(b"\0") and len(got) < len(octets)

    on_loop(test, make)


@EVERY
def test_an_aborting_peer_is_disconnected(make: object) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        reading = asyncio.ensure_future(server.read(5))
        await asyncio.sleep(0)
        client.abort()
        try:
            assert await reading == b"" and server.tls  # OpenSSL may call a reset an end
        except Disconnected:
            pass
        with pytest.raises(Disconnected):
            for _ in range(100):
                await server.write(b"x" * 100)

    on_loop(test, make)


@EVERY
def test_closing_our_end_wakes_who_reads_and_who_writes(make: object) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        reading = asyncio.ensure_future(server.read(5))
        writing = asyncio.ensure_future(server.write(bytes(8 << 20)))
        await asyncio.sleep(0.01)
        server.abort()
        for task in (reading, writing):
            with pytest.raises(Disconnected):
                await task

    on_loop(test, make)


@KINDS
def test_the_last_reply_survives_what_nobody_read(make: object) -> None:
    """Unread octets in our buffer would make the kernel reset the connection at close."""

    async def test(client: SocketStream, server: SocketStream) -> None:
        await client.write(bytes(5000))
        await asyncio.sleep(0.01)
        await server.write(b"421 bye\r\n")
        await server.close()
        await asyncio.sleep(0.01)
        assert await client.read(5) == b"421 bye\r\n"
        assert await client.read(5) == b""

    on_loop(test, make)


@KINDS
def test_a_stream_nobody_reads_burns_no_time(make: object) -> None:
    """The socket stays readable; after one look it is not watched until somebody reads."""

    async def test(client: SocketStream, server: SocketStream) -> None:
        reading = asyncio.ensure_future(server.read(5))
        await client.write(b"a")
        assert await reading == b"a"
        calls = 0
        original = SocketStream._on_readable

        def counted(self: SocketStream) -> None:
            nonlocal calls
            calls += 1
            original(self)

        SocketStream._on_readable = counted  # type: ignore[method-assign]
        try:
            waiting = asyncio.ensure_future(server.read(5))
            await asyncio.sleep(0)
            await client.write(b"b")
            await waiting
            await client.write(b"c")
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert calls <= 3
        finally:
            SocketStream._on_readable = original  # type: ignore[method-assign]
        assert await server.read(5) in (b"c", b"bc")

    on_loop(test, make)


def test_a_busy_connection_gives_others_their_turn() -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def pour() -> None:
            try:
                for _ in range(64):
                    peer.sendall(bytes(1 << 18))
            except OSError:
                pass

        ours, peer = sockets()
        busy = SocketStream(ours)
        pouring = threading.Thread(target=pour)
        pouring.start()
        watching = asyncio.ensure_future(other())
        await read_exactly(busy, 64 << 18)
        watching.cancel()
        pouring.join()
        peer.close()
        busy.abort()
        assert turns >= 16

    on_loop(test, plain)


# -- TLS ----------------------------------------------------------------------------------------


def test_starttls_upgrades_the_same_socket() -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        assert server.tls is None and server.channel_binding() is None
        await client.write(b"STARTTLS\r\n")
        assert await server.read(5) == b"STARTTLS\r\n"
        await server.write(b"220 go\r\n")
        assert await client.read(5) == b"220 go\r\n"

        async def upgrade() -> None:
            await client.start_tls_client(client_tls(), HOSTNAME)
            await client.write(b"EHLO x\r\n")  # before the server's coroutine has run on

        await asyncio.gather(upgrade(), server.start_tls_server(server_tls()))
        assert await server.read(5) == b"EHLO x\r\n"
        for stream in (client, server):
            assert stream.tls is not None
            assert stream.tls.version == "TLSv1.3" and stream.tls.bits >= 128
            assert not stream.tls.peer_verified
        assert server.channel_binding() == server_tls().end_point is not None
        assert client.channel_binding() == server.channel_binding()
        with pytest.raises(TLSFailed):
            await server.start_tls_server(server_tls())

    on_loop(test, plain)


def test_a_verified_peer_is_said_to_be() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def main() -> None:
        pem = ssl.DER_cert_to_PEM_cert(certificate)
        context.load_verify_locations(cadata=pem)
        for hostname, good in ((HOSTNAME, True), ("127.0.0.1", True), ("other.example", False)):
            client, server = streams()
            serving = asyncio.ensure_future(server.start_tls_server(server_tls()))
            try:
                await client.start_tls_client(context, hostname)
                assert good and client.tls is not None and client.tls.peer_verified
            except TLSFailed as error:
                assert not good and "certificate" in str(error)
                assert client.closed
            await asyncio.wait([serving])
            serving.exception()
            client.abort()
            server.abort()

    async def fetch() -> bytes:
        client, server = await tls_streams()
        found = client._sock.getpeercert(binary_form=True)  # type: ignore[union-attr]
        client.abort()
        server.abort()
        return found  # type: ignore[no-any-return]

    certificate = asyncio.run(fetch())
    assert end_point_of(certificate) == server_tls().end_point
    asyncio.run(main())


@pytest.mark.parametrize(
    "garbage",
    [
        b"EHLO client.example\r\nMAIL FROM:<a@b>\r\n",
        b"\x16\x03\x01\x40\x00" + b"\xff" * 600,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x80\x2e\x01\x00\x02" + bytes(64),
        bytes(512),
    ],
)
def test_garbage_instead_of_a_handshake(garbage: bytes) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        await client.write(garbage)
        with pytest.raises((TLSFailed, TimedOut)) as info:
            await server.start_tls_server(server_tls(), 0.2)
        if info.type is TLSFailed:
            assert server.closed and str(info.value)

    on_loop(test, plain)


def test_plaintext_pipelined_behind_starttls_never_gets_in() -> None:
    """RFC 3207 §6: what follows STARTTLS in plaintext is not read inside TLS."""

    async def test(client: SocketStream, server: SocketStream) -> None:
        await client.write(b"STARTTLS\r\n")
        assert await server.read(5) == b"STARTTLS\r\n"
        await client.write(b"RCPT TO:<injected@x>\r\n")
        starting = asyncio.ensure_future(client.start_tls_client(client_tls(), HOSTNAME, 2))
        with pytest.raises(TLSFailed):
            await server.start_tls_server(server_tls(), 2)
        with pytest.raises((TLSFailed, Disconnected)):
            await starting

    on_loop(test, plain)


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_silent_or_leaving_peer_ends_the_handshake(side: str) -> None:
    async def test(client: SocketStream, server: SocketStream) -> None:
        async def start(stream: SocketStream) -> None:
            if side == "server":
                await stream.start_tls_server(server_tls(), 0.05)
            else:
                await stream.start_tls_client(client_tls(), HOSTNAME, 0.05)

        ours, theirs = (server, client) if side == "server" else (client, server)
        with pytest.raises(TimedOut):
            await start(ours)
        await ours.close()
        one, two = streams()
        await two.close()
        with pytest.raises(TLSFailed):
            await start(one)
        one, two = streams()
        starting = asyncio.ensure_future(start(one))
        await asyncio.sleep(0)
        two.abort()
        with pytest.raises((TLSFailed, Disconnected)):
            await starting
        assert theirs.tls is None

    on_loop(test, plain)


def test_tls_older_than_1_2_is_refused() -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1

    async def test(client: SocketStream, server: SocketStream) -> None:
        starting = asyncio.ensure_future(client.start_tls_client(old, HOSTNAME, 2))
        with pytest.raises(TLSFailed):
            await server.start_tls_server(server_tls(), 2)
        with pytest.raises((TLSFailed, Disconnected)):
            await starting

    on_loop(test, plain)


def test_a_ragged_end_is_an_end() -> None:
    """Many clients leave without close_notify; that is no error of the session."""

    async def test(client: SocketStream, server: SocketStream) -> None:
        sock = client._sock
        assert sock is not None
        sock.shutdown(socket.SHUT_WR)
        assert await server.read(5) == b""

    on_loop(test, tls_streams)


def test_tls_1_2_with_many_small_records() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def test(client: SocketStream, server: SocketStream) -> None:
        await asyncio.gather(
            client.start_tls_client(context, HOSTNAME), server.start_tls_server(server_tls())
        )
        assert server.tls is not None and server.tls.version == "TLSv1.2"
        expected = b""
        for count in range(1, 400, 7):
            octets = bytes([count % 251]) * count
            expected += octets
            await client.write(octets)
        assert await read_exactly(server, len(expected)) == expected

    on_loop(test, plain)


# -- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("192.0.2.1", 25), ("192.0.2.1", 25)),
        (("::ffff:192.0.2.1", 25, 0, 0), ("192.0.2.1", 25)),
        (("2001:db8::1", 25, 0, 0), ("2001:db8::1", 25)),
        (("fe80::1%eth0", 25, 0, 3), ("fe80::1", 25)),
        ("", ("", 0)),
    ],
)
def test_endpoints_are_plain_addresses(name: object, expected: tuple[str, int]) -> None:
    assert endpoint(name) == expected


def test_what_is_loopback() -> None:
    assert is_loopback("127.0.0.9") and is_loopback("::1")
    assert not is_loopback("192.0.2.1") and not is_loopback("") and not is_loopback("localhost")


def test_idle_connections_hold_no_buffers() -> None:
    """A thousand sessions that wait: what Python holds for each, both ends, tasks and timers.

    Without the kernel's and OpenSSL's share, which Python cannot see.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    count = 1000 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 2200 else 300

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
            warm = [SocketStream(sock) for sock in sockets()]
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            held: list[SocketStream] = warm
            reading = []
            for _ in range(count):
                client = socket.create_connection(listening.getsockname())
                server, _ = listening.accept()
                held += [SocketStream(client), SocketStream(server)]
                reading.append(asyncio.ensure_future(held[-1].read(1860)))
            await asyncio.sleep(0)
            await asyncio.gather(*(stream.write(b"NOOP\r\n") for stream in held[2::2]))
            await asyncio.gather(*reading)
            reading = [asyncio.ensure_future(stream.read(1860)) for stream in held[3::2]]
            await asyncio.sleep(0.01)
            each = (tracemalloc.get_traced_memory()[0] - before) / count
            tracemalloc.stop()
            for stream in held:
                stream.abort()
            await asyncio.gather(*reading, return_exceptions=True)
        assert each < 6000, f"{each:.0f} octets for each idle connection"

    asyncio.run(main())
