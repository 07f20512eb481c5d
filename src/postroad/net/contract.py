"""What the net gives to services and delivery: streams, dialled or accepted, and the clock.

`net.transport.SocketStream` is the Stream of real sockets; `net.memory` has one for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ssl import SSLContext
from typing import Protocol

from postroad.mail.errors import Disconnected as Disconnected
from postroad.mail.errors import TimedOut as TimedOut
from postroad.mail.errors import TLSFailed as TLSFailed


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """version: as in "TLSv1.3". peer_verified: the certificate matched what was asked."""

    version: str
    cipher: str
    bits: int
    peer_verified: bool = False


class Stream(Protocol):
    """One connection. One reader and one writer at a time; cancelling a call closes nothing."""

    @property
    def peer(self) -> tuple[str, int]:
        """Address text (no brackets, IPv4-mapped as IPv4) and port."""
        ...

    @property
    def local(self) -> tuple[str, int]: ...

    @property
    def tls(self) -> TLSInfo | None: ...

    async def read(self, timeout_s: float) -> bytes:
        """What has arrived, at least one octet and at most 64 KiB; b"" at the peer's end.

        Raises: TimedOut, Disconnected.
        """
        ...

    async def write(self, octets: bytes | Sequence[bytes], timeout_s: float = 300.0) -> None:
        """Sends all, waiting while the peer is slow (nothing is queued beyond this call).

        Raises: TimedOut, Disconnected.
        """
        ...

    async def start_tls_server(self, context: SSLContext, timeout_s: float = 30.0) -> None:
        """Raises: TLSFailed, TimedOut, Disconnected."""
        ...

    async def start_tls_client(
        self, context: SSLContext, server_hostname: str | None, timeout_s: float = 30.0
    ) -> None:
        """Raises: TLSFailed, TimedOut, Disconnected."""
        ...

    def channel_binding(self) -> bytes | None:
        """tls-server-end-point data (RFC 5929 §4), for SCRAM-PLUS; None without TLS."""
        ...

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER) when the handshake has verified it; None else."""
        ...

    async def close(self) -> None:
        """Flushes TLS's close_notify without waiting for the peer's, and closes. Idempotent."""
        ...

    def abort(self) -> None: ...


class Dialer(Protocol):
    async def dial(
        self, address: str, port: int, *, timeout_s: float = 30.0, source: str | None = None
    ) -> Stream:
        """Connects to one IP address. Raises: TimedOut, Disconnected (refused, unreachable)."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def random_bits(self, bits: int) -> int:
        """From the system's secure source; a test hands in a seeded one."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Jitter."""
        ...
