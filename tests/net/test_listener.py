"""Listener: sessions, bounds, implicit TLS, draining, and running out of descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from postroad.net.contract import Disconnected, Stream
from postroad.net.dialer import NetDialer
from postroad.net.listener import (
    AcceptPaused,
    ConnectionTurnedAway,
    HandshakeFailed,
    Listener,
    SessionCrashed,
    adopt,
    bind,
)
from postroad.net.transport import SocketStream
from postroad.trace import Event
from support.streams import HOSTNAME, client_tls, server_tls

DIAL = NetDialer()


async def echo(stream: Stream) -> None:
    try:
        while octets := await stream.read(5):
            await stream.write(octets)
    finally:
        await stream.close()


def serving(
    handle: Callable[[Stream], Awaitable[None]],
    test: Callable[[Listener, list[Event]], Awaitable[None]],
    **options: object,
) -> None:
    async def main() -> None:
        events: list[Event] = []
        listener = Listener(
            bind("127.0.0.1", 0),
            handle,
            name="test",
            trace=events.append,
            **options,  # type: ignore[arg-type]
        )
        listener.start()
        try:
            await test(listener, events)
        finally:
            await listener.drain(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def dial(listener: Listener, source: str | None = None) -> SocketStream:
    address, port = listener.address
    return await DIAL.dial(address, port, timeout_s=5, source=source)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_sessions_run_side_by_side_and_end() -> None:
    async def test(listener: Listener, events: list[Event]) -> None:
        streams = [await dial(listener) for _ in range(100)]
        await until(lambda: listener.sessions == 100)
        for number, stream in enumerate(streams):
            await stream.write(b"%d" % number)
        for number, stream in enumerate(streams):
            assert await stream.read(5) == b"%d" % number
            await stream.close()
        await until(lambda: listener.sessions == 0)
        assert not events and not listener._by_address

    serving(echo, test)


def test_the_handler_sees_who_calls() -> None:
    seen: list[tuple[tuple[str, int], tuple[str, int]]] = []

    async def look(stream: Stream) -> None:
        seen.append((stream.peer, stream.local))
        await stream.close()

    async def test(listener: Listener, events: list[Event]) -> None:
        stream = await dial(listener, "127.0.0.9")
        assert await stream.read(5) == b""
        assert seen == [(stream.local, listener.address)]
        assert stream.local[0] == "127.0.0.9" and stream.peer == listener.address
        stream.abort()

    serving(look, test)


def test_bounds_in_total_and_per_address() -> None:
    async def test(listener: Listener, events: list[Event]) -> None:
        held = [await dial(listener) for _ in range(3)]
        await until(lambda: listener.sessions == 3)
        extra = await dial(listener)
        assert await extra.read(5) == b""
        assert events == [
            ConnectionTurnedAway(listener="test", peer="127.0.0.1", why="too many sessions")
        ]
        await held[0].close()
        await until(lambda: listener.sessions == 2)
        held.append(await dial(listener))
        await until(lambda: listener.sessions == 3)
        for stream in (*held, extra):
            stream.abort()

    serving(echo, test, sessions_max=3, sessions_per_address_max=1)  # loopback is exempt


def test_an_address_that_is_not_ours_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroad.net.listener.is_loopback", lambda a: a == "127.0.0.1")

    async def test(listener: Listener, events: list[Event]) -> None:
        one = await dial(listener, "127.0.0.2")
        await until(lambda: listener.sessions == 1)
        two = await dial(listener, "127.0.0.2")
        assert await two.read(5) == b""
        assert [event.why for event in events] == [  # type: ignore[attr-defined]
            "too many sessions of this address"
        ]
        other = await dial(listener, "127.0.0.3")
        await other.write(b"x")
        assert await other.read(5) == b"x"
        await one.close()
        await until(lambda: listener.sessions == 1)
        again = await dial(listener, "127.0.0.2")
        await again.write(b"y")
        assert await again.read(5) == b"y"
        for stream in (one, two, other, again):
            stream.abort()

    serving(echo, test, sessions_per_address_max=1)


def test_what_a_session_raises_is_traced_and_the_next_one_is_served() -> None:
    calls = 0

    async def sometimes(stream: Stream) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError("a bug")
        if calls == 2:
            raise Disconnected("the peer left")
        await echo(stream)

    async def test(listener: Listener, events: list[Event]) -> None:
        for _ in range(2):
            with pytest.raises(Disconnected):
                stream = await dial(listener)
                while await stream.read(5):
                    pass
                stream.abort()
                raise Disconnected("an end is as good as a reset")
        await until(lambda: calls == 2)
        (crash,) = events
        assert isinstance(crash, SessionCrashed) and "ZeroDivisionError: a bug" in crash.fault
        stream = await dial(listener)
        await stream.write(b"x")
        assert await stream.read(5) == b"x"
        stream.abort()

    serving(sometimes, test)


def test_implicit_tls_takes_the_context_of_the_moment() -> None:
    given: list[int] = []

    def context() -> object:
        given.append(1)
        return server_tls()

    async def test(listener: Listener, events: list[Event]) -> None:
        for count in (1, 2):
            stream = await dial(listener)
            await stream.start_tls_client(client_tls(), HOSTNAME)
            await stream.write(b"inside")
            assert await stream.read(5) == b"inside"
            await stream.close()
            assert len(given) == count
        plain = await dial(listener)
        await plain.write(b"EHLO x\r\n")
        await until(lambda: events)
        (failed,) = events
        assert isinstance(failed, HandshakeFailed) and failed.why
        silent = await dial(listener)
        await until(lambda: len(events) == 2)
        assert "kept us waiting" in events[1].why  # type: ignore[attr-defined]
        plain.abort()
        silent.abort()

    serving(echo, test, implicit_tls=context, handshake_timeout_s=0.1)


def test_close_stops_accepting_and_drain_waits_for_the_busy() -> None:
    async def test(listener: Listener, events: list[Event]) -> None:
        address, port = listener.address
        quick, slow = await dial(listener), await dial(listener)
        await until(lambda: listener.sessions == 2)
        listener.close()
        listener.close()
        with pytest.raises(Disconnected, match="refused"):
            await DIAL.dial(address, port)
        await quick.write(b"still here")
        assert await quick.read(5) == b"still here"
        draining = asyncio.ensure_future(listener.drain(0.05))
        await quick.close()
        await until(lambda: listener.sessions == 1)
        assert not draining.done()
        await draining
        assert listener.sessions == 0
        with pytest.raises(Disconnected):
            while await slow.read(5):
                pass
            raise Disconnected("an end")
        slow.abort()
        assert not events

    serving(echo, test)


def test_out_of_descriptors_it_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroad.net.listener.PAUSE_S", 0.02)

    class Exhausted(socket.socket):
        failures = 2

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().accept()

    async def main() -> None:
        plain = bind("127.0.0.1", 0)
        listening = Exhausted(fileno=plain.detach())
        events: list[Event] = []
        listener = Listener(listening, echo, name="test", trace=events.append)
        listener.start()
        stream = await dial(listener)
        await stream.write(b"x")
        assert await stream.read(5) == b"x"
        assert [type(event) for event in events] == [AcceptPaused, AcceptPaused]
        stream.abort()
        listening.failures = 10**6
        other = await dial(listener)
        await until(lambda: len(events) == 3)
        await listener.drain(0)  # in the middle of a pause
        await asyncio.sleep(0.05)
        other.abort()

    asyncio.run(main())


def test_sockets_bound_elsewhere_are_adopted() -> None:
    async def main() -> None:
        bound = bind("127.0.0.1", 0)
        listener = Listener(adopt(bound.detach()), echo, name="test")
        listener.start()
        stream = await dial(listener)
        await stream.write(b"x")
        assert await stream.read(5) == b"x"
        stream.abort()
        await listener.drain(0)

    asyncio.run(main())


def test_binding_names_what_fails_and_ports_can_be_shared() -> None:
    one = bind("127.0.0.1", 0, reuse_port=True)
    port = one.getsockname()[1]
    two = bind("127.0.0.1", port, reuse_port=True)
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}") as info:
        bind("127.0.0.1", port)
    assert info.value.errno == errno.EADDRINUSE
    one.close()
    two.close()
    six = bind("::1", 0)
    assert six.getsockname()[0] == "::1"
    six.close()


# -- dialling -----------------------------------------------------------------------------------


def test_dialling_what_does_not_answer() -> None:
    async def main() -> None:
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(Disconnected, match="refused"):
            await DIAL.dial("127.0.0.1", taken.getsockname()[1])
        taken.close()
        for address, source in (
            ("mx.one.example", None),
            ("", None),
            ("127.0.0.1", "192.0.2.77"),
            ("127.0.0.1", "::1"),
        ):
            with pytest.raises(Disconnected):
                await DIAL.dial(address, 9, source=source)
        with pytest.raises(Disconnected):
            await DIAL.dial("127.0.0.1", 70000)

    asyncio.run(main())


def test_dialling_ipv6_from_a_source() -> None:
    async def main() -> None:
        listener = Listener(bind("::1", 0), echo, name="six")
        listener.start()
        stream = await DIAL.dial(*listener.address, source="::1")
        assert stream.local[0] == "::1"
        stream.abort()
        await listener.drain(0)
        assert stream.closed

    asyncio.run(main())


def test_dialling_has_a_deadline() -> None:
    from postroad.net.contract import TimedOut

    async def main() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            held = []
            for _ in range(4):  # the backlog is full after one or two
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
                held.append(sock)
            with pytest.raises(TimedOut):
                await DIAL.dial("127.0.0.1", port, timeout_s=0.05)
            for sock in held:
                sock.close()

    asyncio.run(main())
