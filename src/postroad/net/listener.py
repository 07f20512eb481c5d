"""Listener: accepts connections on one socket and runs a session task for each.

Bounded in total and per address; a peer past the bound is closed at once, and asked again later
by its own retries. What a session raises is traced, never lost. Sockets may be bound elsewhere (by
a supervisor with the privilege for port 25) and handed in.

Knows no protocol. Peers are strangers.
Source: RFC 8314 §3.3 (implicit TLS).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import traceback
from asyncio import Task
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext

from postroad.mail import limits
from postroad.net.addresses import endpoint, is_loopback
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.net.transport import SocketStream
from postroad.trace import Event, Trace, discard

BACKLOG = 2048
ACCEPTS_PER_TURN = 64
PAUSE_S = 0.5
"""After the process ran out of descriptors or memory: some sessions end meanwhile."""
SESSIONS_MAX_DEFAULT = 20_000
SESSIONS_PER_ADDRESS_MAX_DEFAULT = 50
"""A provider's NAT or a mail program with many folders stays below; a flood does not."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Handle = Callable[[Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTurnedAway(Event):
    """why: "too many sessions", "too many sessions of this address"."""

    listener: str
    peer: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptPaused(Event):
    """The system is out of something; accepting goes on after a pause."""

    listener: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFailed(Event):
    """Implicit TLS did not come up."""

    listener: str
    peer: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCrashed(Event):
    """A bug of ours ended a session. fault: the traceback."""

    listener: str
    peer: str
    fault: str


def bind(address: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket, non-blocking. port: 0 takes a free one.

    reuse_port: several processes accept on the same port, the kernel deals connections out.

    Raises: OSError that names address and port.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on {address} port {port}: {reason}") from error
    return sock


def adopt(descriptor: int) -> socket.socket:
    """The listening socket another process bound and handed over; owned from here on."""
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


class Listener:
    """Serves one listening socket until closed.

    handle: owns each stream and closes it; it gets TLS already up where `implicit_tls` is given.
    implicit_tls: gives the server's context of the moment, so that a reload reaches new sessions.
    """

    def __init__(
        self,
        sock: socket.socket,
        handle: Handle,
        *,
        name: str,
        trace: Trace = discard,
        implicit_tls: Callable[[], SSLContext] | None = None,
        handshake_timeout_s: float = limits.TLS_HANDSHAKE_TIMEOUT_S,
        sessions_max: int = SESSIONS_MAX_DEFAULT,
        sessions_per_address_max: int = SESSIONS_PER_ADDRESS_MAX_DEFAULT,
    ) -> None:
        self.name = name
        self._sock = sock
        self._handle = handle
        self._trace = trace
        self._implicit_tls = implicit_tls
        self._handshake_timeout_s = handshake_timeout_s
        self._sessions_max = sessions_max
        self._sessions_per_address_max = sessions_per_address_max
        self._sessions: set[Task[None]] = set()
        self._by_address: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause: asyncio.TimerHandle | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return endpoint(self._sock.getsockname())

    @property
    def sessions(self) -> int:
        """How many are being served."""
        return len(self._sessions)

    def start(self) -> None:
        """Begins to accept, on the running loop."""
        assert self._loop is None, "started twice"
        self._loop = asyncio.get_running_loop()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock.fileno(), self._on_connections)

    def _on_connections(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, name = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause_accepting(error)
                    return
                continue  # this connection died in the backlog (ECONNABORTED and its like)
            self._admit(sock, endpoint(name))

    def _pause_accepting(self, error: OSError) -> None:
        assert self._loop is not None
        self._trace(AcceptPaused(listener=self.name, why=error.strerror or str(error)))
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        assert self._loop is not None
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._on_connections)

    def _admit(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        assert self._loop is not None
        address = peer[0]
        count = self._by_address.get(address, 0)
        if len(self._sessions) >= self._sessions_max:
            self._turn_away(sock, address, "too many sessions")
            return
        if count >= self._sessions_per_address_max and not is_loopback(address):
            self._turn_away(sock, address, "too many sessions of this address")
            return
        try:
            stream = SocketStream(sock, loop=self._loop, peer=peer)
        except Disconnected:
            return
        self._by_address[address] = count + 1
        task = self._loop.create_task(self._run(stream))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    def _turn_away(self, sock: socket.socket, address: str, why: str) -> None:
        sock.close()
        self._trace(ConnectionTurnedAway(listener=self.name, peer=address, why=why))

    async def _run(self, stream: SocketStream) -> None:
        """One session, from accept to close."""
        address = stream.peer[0]
        try:
            if self._implicit_tls is not None:
                await stream.start_tls_server(self._implicit_tls(), self._handshake_timeout_s)
            await self._handle(stream)
        except (TLSFailed, TimedOut, Disconnected) as error:
            if stream.tls is None and self._implicit_tls is not None:
                self._trace(HandshakeFailed(listener=self.name, peer=address, why=str(error)))
        except Exception:
            fault = traceback.format_exc()
            self._trace(SessionCrashed(listener=self.name, peer=address, fault=fault))
        finally:
            stream.abort()  # does nothing to a stream its owner has closed
            count = self._by_address[address] - 1
            if count:
                self._by_address[address] = count
            else:
                del self._by_address[address]

    def close(self) -> None:
        """Stops accepting; sessions go on. Idempotent."""
        if self._sock.fileno() < 0:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._sock.close()

    async def drain(self, grace_s: float) -> None:
        """Closes, lets the sessions end for `grace_s`, then cancels those that have not."""
        self.close()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=grace_s)
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)
