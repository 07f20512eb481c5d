"""Two Streams joined back to back in memory: what a service is tested with.

Behaves as sockets do where it matters: a bounded buffer (a writer waits for a slow reader), the
peer's end, resets, deadlines, and plaintext left in front of a handshake spoils it. TLS itself is
played, not spoken: both sides start it, and from then on `tls` says so.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING

from postroad.net.contract import Disconnected, Stream, TLSFailed, TLSInfo
from postroad.net.waiting import wait_until

READ_OCTETS_MAX = 65536
BUFFER_OCTETS_DEFAULT = 65536

HELLO = b"\x16\x03\x01\x00\x04play"
"""What stands for a handshake: the client sends it first, then the server."""

PLAYED_TLS = TLSInfo(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", bits=256)


class _Direction:
    """The octets on their way to one of the two."""

    __slots__ = ("arrived", "ended", "octets", "octets_max", "reset", "room")

    def __init__(self, octets_max: int) -> None:
        self.octets = bytearray()
        self.octets_max = octets_max
        self.ended = False
        self.reset = False
        self.arrived: Future[None] | None = None
        self.room: Future[None] | None = None

    def wake(self) -> None:
        """Whoever waits looks again."""
        for seat in (self.arrived, self.room):
            if seat is not None and not seat.done():
                seat.set_result(None)
        self.arrived = self.room = None


class MemoryStream:
    """One end of a `pipe()`; its plain attributes may be set to what a test needs."""

    __slots__ = (
        "_closed",
        "_inbound",
        "_outbound",
        "_tls",
        "binding",
        "certificate",
        "local",
        "peer",
    )

    def __init__(
        self,
        inbound: _Direction,
        outbound: _Direction,
        peer: tuple[str, int],
        local: tuple[str, int],
    ) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._tls: TLSInfo | None = None
        self._closed = False
        self.peer = peer
        self.local = local
        self.binding: bytes | None = None
        """What `channel_binding` gives once TLS is up."""
        self.certificate: bytes | None = None
        """What `peer_certificate` gives once TLS is up."""

    @property
    def tls(self) -> TLSInfo | None:
        return self._tls

    @property
    def closed(self) -> bool:
        """Whether this end was closed or aborted."""
        return self._closed

    async def read(self, timeout_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        inbound = self._inbound
        while not inbound.octets:
            if self._closed:
                raise Disconnected("closed")
            if inbound.reset:
                raise Disconnected("reset by the peer")
            if inbound.ended:
                return b""
            inbound.arrived = loop.create_future()
            await wait_until(loop, inbound.arrived, deadline)
        octets = bytes(inbound.octets[:READ_OCTETS_MAX])
        del inbound.octets[:READ_OCTETS_MAX]
        inbound.wake()
        return octets

    async def write(self, octets: bytes | Sequence[bytes], timeout_s: float = 300.0) -> None:
        loop = asyncio.get_running_loop()
        outbound = self._outbound
        rest = memoryview(octets if isinstance(octets, bytes) else b"".join(octets))
        while len(rest):
            if self._closed or outbound.ended:
                raise Disconnected("the peer is gone")
            room = outbound.octets_max - len(outbound.octets)
            if room > 0:
                outbound.octets += rest[:room]
                rest = rest[room:]
                outbound.wake()
            else:
                outbound.room = loop.create_future()
                await wait_until(loop, outbound.room, loop.time() + timeout_s)

    async def start_tls_server(self, context: SSLContext, timeout_s: float = 30.0) -> None:
        self._demand_no_tls()
        await self._take_hello(timeout_s)
        await self.write(HELLO, timeout_s)
        self._tls = PLAYED_TLS

    async def start_tls_client(
        self, context: SSLContext, server_hostname: str | None, timeout_s: float = 30.0
    ) -> None:
        self._demand_no_tls()
        await self.write(HELLO, timeout_s)
        await self._take_hello(timeout_s)
        self._tls = PLAYED_TLS

    def _demand_no_tls(self) -> None:
        if self._tls is not None:
            raise TLSFailed("TLS is already there")

    async def _take_hello(self, timeout_s: float) -> None:
        """The first octets must be the peer's greeting; plaintext in its place spoils it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        inbound = self._inbound
        while len(inbound.octets) < len(HELLO):
            if not HELLO.startswith(inbound.octets):
                break
            if self._closed or inbound.ended:
                raise Disconnected("the peer is gone")
            inbound.arrived = loop.create_future()
            await wait_until(loop, inbound.arrived, deadline)
        if not inbound.octets.startswith(HELLO):
            self.abort()
            raise TLSFailed("plaintext where the handshake should be")
        del inbound.octets[: len(HELLO)]
        inbound.wake()

    def channel_binding(self) -> bytes | None:
        return self.binding if self._tls is not None else None

    def peer_certificate(self) -> bytes | None:
        return self.certificate if self._tls is not None else None

    def end(self) -> None:
        """Half-close: the peer sees the end, and can still be heard."""
        self._outbound.ended = True
        self._outbound.wake()

    async def close(self) -> None:
        """What was written can still be read by the peer, who then sees the end."""
        self._closed = True
        self._outbound.ended = True
        self._inbound.ended = True
        self._inbound.octets.clear()
        self._outbound.wake()
        self._inbound.wake()

    def abort(self) -> None:
        """What was written is lost; the peer sees a reset."""
        if self._closed:
            return
        self._closed = True
        for direction in (self._inbound, self._outbound):
            direction.ended = True
            direction.octets.clear()
        self._outbound.reset = True
        self._outbound.wake()
        self._inbound.wake()


def pipe(
    *,
    client: tuple[str, int] = ("127.0.0.1", 40000),
    server: tuple[str, int] = ("127.0.0.1", 25),
    octets_max: int = BUFFER_OCTETS_DEFAULT,
) -> tuple[MemoryStream, MemoryStream]:
    """The client's stream and the server's.

    client, server: the addresses each sees of the other.
    octets_max: of each direction; past it a writer waits.
    """
    up = _Direction(octets_max)
    down = _Direction(octets_max)
    return (
        MemoryStream(inbound=down, outbound=up, peer=server, local=client),
        MemoryStream(inbound=up, outbound=down, peer=client, local=server),
    )


if TYPE_CHECKING:
    _ends: tuple[Stream, Stream] = pipe()
