"""DeflateStream: a Stream whose octets are compressed (raw DEFLATE) on the wire.

What a write gets is flushed with it, so the peer can read all of it. A raw DEFLATE stream has no
head and no memory beyond its window: after a flush any compressor may go on where the last one
stopped, and any decompressor that is shown the last 32 KB. Hence a connection that is quiet keeps
neither (`rest`).

Peers are hostile: one octet may stand for a thousand, so what a read returns is bounded, and what
is left waits compressed.
Source: RFC 1951, RFC 4978 §3-4.
"""

from __future__ import annotations

import asyncio
import zlib
from asyncio import TimerHandle
from collections.abc import Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING

from postroad.net.contract import Disconnected, Stream, TLSInfo

READ_OCTETS_MAX = 65536
LEVEL = 4
"""Two thirds of the time of the default (6) for 5 % more octets, on IMAP responses and text."""
WINDOW_BITS = 13
MEMORY_LEVEL = 6
"""With the window: 64 KB while a connection is busy, nothing while it rests."""
HISTORY_OCTETS = 32 << 10
"""How far back a peer's compressor may refer (RFC 1951 §2)."""
REST_AFTER_S = 5.0
"""Of quiet, give or take as much: an idle connection is told so, a busy one does not begin anew."""
PIECE_OCTETS = 32 << 10
"""Compressed between two looks at the loop: 0.3 ms."""
_FLUSHED = b"\x00\x00\xff\xff"
"""What a flush ends with: octets behind it need not be compressed any more."""


class DeflateStream:
    """Owns neither end: `inner` is closed by whoever opened it, or through this."""

    __slots__ = (
        "_asleep",
        "_compressor",
        "_decompressor",
        "_heard",
        "_is_aligned",
        "_pending",
        "_served",
        "_timer",
        "_used",
        "inner",
    )

    def __init__(self, inner: Stream) -> None:
        self.inner = inner
        self._compressor: zlib._Compress | None = None
        self._decompressor: zlib._Decompress | None = zlib.decompressobj(-zlib.MAX_WBITS)
        self._heard = b""
        """What the peer may still refer to: the last of what it has sent, decompressed."""
        self._asleep = b""
        """The same, compressed, while there is no decompressor."""
        self._is_aligned = False
        """All that has come ends with a flush: any decompressor that knows `_heard` can go on."""
        self._pending = b""
        """Arrived, not decompressed."""
        self._served = 0
        """Octets given out since the loop had its turn."""
        self._used = False
        """Something was read or written since the timer last looked."""
        self._timer: TimerHandle | None = None

    @property
    def peer(self) -> tuple[str, int]:
        return self.inner.peer

    @property
    def local(self) -> tuple[str, int]:
        return self.inner.local

    @property
    def tls(self) -> TLSInfo | None:
        return self.inner.tls

    # -- reading ------------------------------------------------------------------------------

    async def read(self, timeout_s: float) -> bytes:
        """Up to one flush of the peer's, so that octets behind it are still as they came."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if self._pending:
                octets = self._inflate()
                if octets:
                    await self._be_fair(len(octets))
                    return octets
                continue
            if self._decompressor is not None and self._decompressor.eof:
                raise Disconnected("the compressed stream has ended")
            self._served = 0
            self._pending = await self.inner.read(max(0.0, deadline - loop.time()))
            self._use()
            if not self._pending:
                return b""

    def _inflate(self) -> bytes:
        """Some of what is pending. Raises: Disconnected when it is not DEFLATE."""
        decompressor = self._decompressor or self._wake()
        if decompressor.eof:
            raise Disconnected("the compressed stream has ended")
        pending = self._pending
        end = pending.find(_FLUSHED) + len(_FLUSHED)
        if end < len(_FLUSHED):
            end = len(pending)
        try:
            octets = decompressor.decompress(pending[:end], READ_OCTETS_MAX)
        except zlib.error as error:
            raise Disconnected("what came is not compressed") from error
        left = decompressor.unconsumed_tail or decompressor.unused_data
        self._is_aligned = not left and pending.endswith(_FLUSHED, 0, end)
        self._pending = left + pending[end:]
        self._heard = (self._heard + octets)[-HISTORY_OCTETS:]
        return octets

    async def _be_fair(self, octets: int) -> None:
        """A small packet may hold a lot: the loop gets its turn all the same."""
        self._served += octets
        if self._served > READ_OCTETS_MAX:
            self._served = 0
            await asyncio.sleep(0)

    # -- writing ------------------------------------------------------------------------------

    async def write(self, octets: bytes | Sequence[bytes], timeout_s: float = 300.0) -> None:
        plain = octets if isinstance(octets, bytes) else b"".join(octets)
        if not plain:
            return
        self._use()
        compressor = self._compressor
        if compressor is None:
            compressor = self._compressor = zlib.compressobj(
                LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL
            )
        out = []
        for start in range(0, len(plain), PIECE_OCTETS):
            if start:
                await asyncio.sleep(0)
            out.append(compressor.compress(plain[start : start + PIECE_OCTETS]))
        out.append(compressor.flush(zlib.Z_SYNC_FLUSH))
        await self.inner.write(b"".join(out), timeout_s)

    # -- resting ------------------------------------------------------------------------------

    def _use(self) -> None:
        self._used = True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REST_AFTER_S, self._look)

    def _look(self) -> None:
        """On the timer, which goes with what it would free."""
        self._timer = None
        if self._used:
            self._used = False
            self._timer = asyncio.get_running_loop().call_later(REST_AFTER_S, self._look)
        else:
            self.rest()

    def rest(self) -> None:
        """The connection is quiet: 100 KB are given back, until the next octet."""
        self._compressor = None
        decompressor = self._decompressor
        if decompressor is None or decompressor.eof or self._pending or not self._is_aligned:
            return
        self._asleep = zlib.compress(self._heard, 1)
        self._heard = b""
        self._decompressor = None

    def _wake(self) -> zlib._Decompress:
        self._heard, self._asleep = zlib.decompress(self._asleep), b""
        self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS, zdict=self._heard)
        return self._decompressor

    # -- the end ------------------------------------------------------------------------------

    def stop(self) -> bytes:
        """Compression ends here, both ways; `inner` goes on. Returns what has come for it.

        All that was written is flushed, hence the peer has it (RFC 8437 §4.1).
        """
        self._compressor = None
        self._cancel()
        pending, self._pending = self._pending, b""
        return pending

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def start_tls_server(self, context: SSLContext, timeout_s: float = 30.0) -> None:
        raise AssertionError("TLS begins before compression")

    async def start_tls_client(
        self, context: SSLContext, server_hostname: str | None, timeout_s: float = 30.0
    ) -> None:
        raise AssertionError("TLS begins before compression")

    def channel_binding(self) -> bytes | None:
        return self.inner.channel_binding()

    def peer_certificate(self) -> bytes | None:
        return self.inner.peer_certificate()

    async def close(self) -> None:
        self._cancel()
        await self.inner.close()

    def abort(self) -> None:
        self._cancel()
        self.inner.abort()


if TYPE_CHECKING:

    def _is_a_stream(stream: DeflateStream) -> Stream:
        return stream
