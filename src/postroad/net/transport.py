"""SocketStream: a Stream over a non-blocking socket or SSLSocket, and nothing in between.

asyncio's transports and readers hold some 280 KB for an idle TLS connection; this holds what
OpenSSL needs. No octet is kept while nobody reads: the socket is watched, and read into one
scratch buffer a thread shares. Plain becomes TLS by wrapping the same socket, hence plaintext that
came before the handshake is fed to OpenSSL, which refuses it: nothing can be smuggled across.

Knows no protocol. Peers are hostile: every wait has a deadline, nothing is queued.
Source: RFC 5929 §4 (channel binding), RFC 7457 §2.2 (STARTTLS injection).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from postroad.net.addresses import endpoint
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed, TLSInfo
from postroad.net.tls import ServerContext, end_point_of
from postroad.net.waiting import wait_until, wake

READ_OCTETS_MAX = 65536
RECORD_OCTETS_MAX = 16384
"""Of one TLS record (RFC 8446 §5.1)."""
RUN_OCTETS_MAX = 256 << 10
"""What a connection may move without the loop getting its turn."""
JOIN_OCTETS_MAX = 65536
"""Below, copying small pieces together is cheaper than a call for each."""
BUFFERS_PER_CALL_MAX = 512
"""Half of Linux's IOV_MAX."""
PACE_OCTETS_S = 512
"""What even a poor radio link takes."""
DRAIN_READS_MAX = 16
"""Of what the peer sent and nobody read, when closing."""

_RESET = struct.pack("ii", 1, 0)
_BUFFERS = threading.local()


def _scratch() -> memoryview:
    """This thread's buffer: its octets are copied out before anybody else runs."""
    buffer: memoryview | None = getattr(_BUFFERS, "scratch", None)
    if buffer is None:
        buffer = _BUFFERS.scratch = memoryview(bytearray(READ_OCTETS_MAX))
    return buffer


@lru_cache(maxsize=256)
def _tls_info(version: str, cipher: str, bits: int, verified: bool) -> TLSInfo:
    """One value for all connections that agreed on the same."""
    return TLSInfo(version=version, cipher=cipher, bits=bits, peer_verified=verified)


def _reason(error: BaseException) -> str:
    """What the trace shows of a socket's or OpenSSL's error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class SocketStream:
    """Owns `sock`, which is connected. `peer`: of accept(), where getpeername could fail by now."""

    __slots__ = (
        "_binding",
        "_deadline",
        "_eager",
        "_local",
        "_loop",
        "_moved",
        "_owed",
        "_peer",
        "_scratch",
        "_seat",
        "_sock",
        "_timer",
        "_tls",
        "_unread",
        "_watched",
        "_write_seat",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        loop: AbstractEventLoop | None = None,
        peer: tuple[str, int] | None = None,
    ) -> None:
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peer = peer or endpoint(sock.getpeername())
            self._local = endpoint(sock.getsockname())
        except OSError as error:
            sock.close()
            raise Disconnected(_reason(error)) from error
        self._sock: socket.socket | None = sock
        self._loop = loop or asyncio.get_running_loop()
        self._scratch = _scratch()
        self._tls: TLSInfo | None = None
        self._binding: bytes | None = None
        self._seat: Future[bytes] | None = None
        self._write_seat: Future[None] | None = None
        self._timer: TimerHandle | None = None
        self._deadline = 0.0
        self._watched = False
        self._eager = True
        self._moved = 0
        self._unread = b""
        self._owed = b""

    @property
    def peer(self) -> tuple[str, int]:
        return self._peer

    @property
    def local(self) -> tuple[str, int]:
        return self._local

    @property
    def tls(self) -> TLSInfo | None:
        return self._tls

    @property
    def closed(self) -> bool:
        return self._sock is None

    # -- reading ------------------------------------------------------------------------------

    async def read(self, timeout_s: float) -> bytes:
        if self._unread:
            octets, self._unread = self._unread, b""
            return octets
        if self._eager:
            if self._moved > RUN_OCTETS_MAX:
                self._moved = 0
                await asyncio.sleep(0)
            now = self._receive()
            if now is not None:
                return now
        sock = self._open()
        loop = self._loop
        seat: Future[bytes] = loop.create_future()
        self._seat = seat
        self._moved = 0
        if not self._watched:
            loop.add_reader(sock.fileno(), self._on_readable)
            self._watched = True
        self._arm(loop.time() + timeout_s)
        try:
            return await seat
        except asyncio.CancelledError:
            if seat.done() and not seat.cancelled() and seat.exception() is None:
                self._unread = seat.result()  # it came in the same turn: kept for the next read
            raise
        finally:
            self._seat = None

    def _open(self) -> socket.socket:
        if self._sock is None:
            raise Disconnected("closed")
        return self._sock

    def _receive(self) -> bytes | None:
        """What is there now; None when there is nothing, b"" at the peer's end.

        A read that filled the buffer (or a TLS record) makes the next one try before it waits.
        """
        sock = self._open()
        scratch = self._scratch
        try:
            count = sock.recv_into(scratch)
        except (BlockingIOError, ssl.SSLWantReadError, InterruptedError):
            self._eager = False
            return None
        except ssl.SSLWantWriteError:
            # OpenSSL owes the peer an answer (a TLS 1.3 key update) and the peer takes nothing:
            # it is sent with our next write, reading goes on as soon as more comes
            self._eager = False
            return None
        except OSError as error:
            raise Disconnected(_reason(error)) from error
        if self._tls is None:
            self._eager = count == READ_OCTETS_MAX
        elif count == RECORD_OCTETS_MAX:
            count = self._receive_records(sock, count)
            self._eager = True
        else:
            self._eager = False
        self._moved += count
        return bytes(scratch[:count])

    def _receive_records(self, sock: socket.socket, count: int) -> int:
        """After a full record, more of them: as many as fit. Returns the octets in the buffer.

        What goes wrong here is left for the next read to find.
        """
        scratch = self._scratch
        while count <= READ_OCTETS_MAX - RECORD_OCTETS_MAX:
            try:
                more = sock.recv_into(scratch[count:])
            except OSError:
                break
            if not more:
                break
            count += more
            if more != RECORD_OCTETS_MAX:
                break
        return count

    def _on_readable(self) -> None:
        seat = self._seat
        if seat is None or seat.done():
            # nobody reads just now: stop watching, and look first when somebody does
            self._unwatch()
            self._eager = True
            return
        try:
            octets = self._receive()
        except Disconnected as error:
            seat.set_exception(error)
            self._unwatch()
        else:
            if octets is not None:
                seat.set_result(octets)

    def _unwatch(self) -> None:
        if self._watched and self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
        self._watched = False

    def _arm(self, deadline: float) -> None:
        """One timer serves many reads: it looks at the deadline when it fires."""
        self._deadline = deadline
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(deadline, self._on_timer)
        elif timer.when() > deadline:
            timer.cancel()
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        seat = self._seat
        if seat is None or seat.done():
            return
        if self._loop.time() + 0.001 < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
            return
        seat.set_exception(TimedOut("nothing came in time"))

    # -- writing ------------------------------------------------------------------------------

    async def write(self, octets: bytes | Sequence[bytes], timeout_s: float = 300.0) -> None:
        """timeout_s: how long the peer may take nothing at all; and once it has passed, the peer
        must have kept up `PACE_OCTETS_S`, so that a drip of octets cannot hold a message for days.
        """
        if self._owed:
            owed, self._owed = self._owed, b""
            await self._send(memoryview(owed), timeout_s)
        if isinstance(octets, bytes | bytearray | memoryview):
            await self._send(memoryview(octets), timeout_s)
        elif self._tls is None and sum(map(len, octets)) > JOIN_OCTETS_MAX:
            await self._send_parts(octets, timeout_s)
        else:
            for piece in _pieces(octets):
                await self._send(piece, timeout_s)

    async def _send(self, view: memoryview, timeout_s: float) -> None:
        tls = self._tls is not None
        began, size = self._loop.time(), len(view)
        while len(view):
            sock = self._open()
            chunk = view[:RECORD_OCTETS_MAX] if tls else view
            try:
                sent = sock.send(chunk)
            except (BlockingIOError, ssl.SSLWantWriteError, InterruptedError):
                self._demand_pace(began + timeout_s, size - len(view))
                await self._writable(timeout_s, bytes(chunk) if tls else b"")
                continue
            except ssl.SSLWantReadError:
                # only a renegotiation makes writing wait for reading, and that is turned off
                raise Disconnected("the peer asks to renegotiate") from None
            except OSError as error:
                raise Disconnected(_reason(error)) from error
            view = view[sent:]
            await self._count(sent)

    async def _send_parts(self, parts: Sequence[bytes], timeout_s: float) -> None:
        """Large pieces of plaintext, gathered by the kernel instead of copied."""
        rest = [memoryview(part) for part in parts if len(part)]
        rest.reverse()
        began, gone = self._loop.time(), 0
        while rest:
            sock = self._open()
            try:
                sent = sock.sendmsg(rest[: -BUFFERS_PER_CALL_MAX - 1 : -1])
            except (BlockingIOError, InterruptedError):
                self._demand_pace(began + timeout_s, gone)
                await self._writable(timeout_s, b"")
                continue
            except OSError as error:
                raise Disconnected(_reason(error)) from error
            left = sent
            gone += sent
            while left:
                part = rest.pop()
                if left < len(part):
                    rest.append(part[left:])
                    break
                left -= len(part)
            await self._count(sent)

    def _demand_pace(self, since: float, sent: int) -> None:
        """Raises: TimedOut when the peer has taken less than it must since then."""
        if sent < (self._loop.time() - since) * PACE_OCTETS_S:
            raise TimedOut("the peer takes too little")

    async def _count(self, sent: int) -> None:
        self._moved += sent
        if self._moved > RUN_OCTETS_MAX:
            self._moved = 0
            await asyncio.sleep(0)

    async def _writable(self, timeout_s: float, owed: bytes) -> None:
        """Waits for room.

        owed: the record OpenSSL has begun; if the wait ends badly it must be the next one sent.
        """
        sock = self._open()
        loop = self._loop
        seat: Future[None] = loop.create_future()
        self._write_seat = seat
        self._moved = 0
        loop.add_writer(sock.fileno(), wake, seat)
        try:
            await wait_until(loop, seat, loop.time() + timeout_s)
        except BaseException:
            self._owed = owed
            raise
        finally:
            self._write_seat = None
            if self._sock is sock:
                loop.remove_writer(sock.fileno())

    # -- TLS ----------------------------------------------------------------------------------

    async def start_tls_server(self, context: ssl.SSLContext, timeout_s: float = 30.0) -> None:
        await self._start_tls(context, True, None, timeout_s)
        if isinstance(context, ServerContext):
            self._binding = context.end_point

    async def start_tls_client(
        self, context: ssl.SSLContext, server_hostname: str | None, timeout_s: float = 30.0
    ) -> None:
        await self._start_tls(context, False, server_hostname, timeout_s)

    async def _start_tls(
        self, context: ssl.SSLContext, server_side: bool, hostname: str | None, timeout_s: float
    ) -> None:
        if self._tls is not None:
            raise TLSFailed("TLS is already there")
        plain = self._open()
        if self._unread:
            self.abort()
            raise TLSFailed("plaintext where the handshake should be")
        self._unwatch()
        try:
            sock = context.wrap_socket(
                plain,
                server_side=server_side,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=True,
                server_hostname=hostname,
            )
        except (OSError, ValueError) as error:
            self.abort()
            raise TLSFailed(_reason(error)) from error
        self._sock = sock
        await self._handshake(sock, self._loop.time() + timeout_s)
        cipher = sock.cipher() or ("", "", 0)
        checked = context.verify_mode is ssl.CERT_REQUIRED and (
            server_side or context.check_hostname
        )
        self._tls = _tls_info(sock.version() or "", cipher[0], cipher[2], checked)
        self._eager = True

    async def _handshake(self, sock: ssl.SSLSocket, deadline: float) -> None:
        """Ends with TLS up, or with the connection closed."""
        loop = self._loop
        while True:
            self._open()
            try:
                sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                watch, unwatch = loop.add_reader, loop.remove_reader
            except ssl.SSLWantWriteError:
                watch, unwatch = loop.add_writer, loop.remove_writer
            except (OSError, ValueError) as error:
                self._shut(sock)
                raise TLSFailed(_reason(error)) from error
            seat: Future[None] = loop.create_future()
            self._write_seat = seat
            watch(sock.fileno(), wake, seat)
            try:
                await wait_until(loop, seat, deadline)
            finally:
                self._write_seat = None
                if self._sock is sock:
                    unwatch(sock.fileno())

    def channel_binding(self) -> bytes | None:
        sock = self._sock
        if self._tls is not None and isinstance(sock, ssl.SSLSocket) and not sock.server_side:
            certificate = sock.getpeercert(binary_form=True)
            return end_point_of(certificate) if certificate else None
        return self._binding

    def peer_certificate(self) -> bytes | None:
        sock = self._sock
        if not isinstance(sock, ssl.SSLSocket) or sock.context.verify_mode is ssl.CERT_NONE:
            return None
        return sock.getpeercert(binary_form=True)

    # -- leaving ------------------------------------------------------------------------------

    async def close(self) -> None:
        sock = self._sock
        if sock is None:
            return
        if self._tls is not None and isinstance(sock, ssl.SSLSocket) and not self._owed:
            try:
                sock.unwrap()  # sends close_notify, then finds that the peer's is not there yet
            except (OSError, ValueError):
                pass
        self._shut(sock)

    def abort(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
        self._shut(sock, drain=False)

    def _shut(self, sock: socket.socket, drain: bool = True) -> None:
        """Closes, and tells whoever waits.

        drain: unread octets would make the kernel send a reset, which can destroy our last
        reply before the peer has read it; those that are there already are taken away.
        """
        self._unwatch()
        self._sock = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for seat in (self._seat, self._write_seat):
            if seat is not None and not seat.done():
                seat.set_exception(Disconnected("closed"))
        if self._write_seat is not None:
            self._loop.remove_writer(sock.fileno())
            self._loop.remove_reader(sock.fileno())
        try:
            for _ in range(DRAIN_READS_MAX if drain else 0):
                if not socket.socket.recv_into(sock, self._scratch):
                    break
        except OSError:
            pass
        sock.close()


def _pieces(parts: Sequence[bytes]) -> Iterator[memoryview]:
    """The parts in order, small ones joined."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        if size + len(part) > JOIN_OCTETS_MAX and held:
            yield memoryview(b"".join(held))
            held, size = [], 0
        held.append(part)
        size += len(part)
    if held:
        yield memoryview(b"".join(held))


if TYPE_CHECKING:

    def _is_a_stream(stream: SocketStream) -> Stream:
        return stream
