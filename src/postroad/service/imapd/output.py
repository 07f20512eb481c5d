"""What a session has to say: put piece by piece, written whole, in the client's manner.

Knows no command. Nothing is written but in `flush`, which waits for the peer.
Source: RFC 3501 §7; RFC 5255 §3.2.
"""

from __future__ import annotations

from postroad.net.contract import Stream
from postroad.service.imapd.answers import Answer
from postroad.service.imapd.features import Features
from postroad.service.imapd.languages import DEFAULT

OUT_OCTETS_MAX = 128 << 10
"""Past it what was put is written before more is made."""
WRITE_TIMEOUT_S = 300.0


class Output(Features):
    __slots__ = ("_out", "_out_octets", "language", "stream")

    def __init__(self, stream: Stream, enabled: set[bytes]) -> None:
        super().__init__(enabled)
        self.stream = stream
        self.language = DEFAULT
        """What LANGUAGE chose (RFC 5255 §3.2)."""
        self._out: list[bytes] = []
        self._out_octets = 0

    def put(self, *octets: bytes) -> None:
        """To be written with the next flush."""
        self._out += octets
        for piece in octets:
            self._out_octets += len(piece)

    def tagged(self, tag: bytes, answer: Answer) -> None:
        """The tagged response, in the client's language."""
        self.put(answer.render(tag, self.language, utf8=self.utf8))

    @property
    def is_full(self) -> bool:
        return self._out_octets >= OUT_OCTETS_MAX

    async def flush(self, timeout_s: float = WRITE_TIMEOUT_S) -> None:
        """Writes what was put. Raises: TimedOut, Disconnected."""
        if self._out:
            out, self._out, self._out_octets = self._out, [], 0
            await self.stream.write(out[0] if len(out) == 1 else b"".join(out), timeout_s)
