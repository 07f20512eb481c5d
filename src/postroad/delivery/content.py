"""A message's octets on their way out: facts that decide how, and slices that keep the loop free.

Source: RFC 6152 §3 (8-bit), RFC 6531 §3.4 (UTF-8 in the header), RFC 5321 §2.3.8 (line ends).
"""

from __future__ import annotations

from collections.abc import Iterator

from postroad.protocol.smtp.data import DataFault, DotEncoder, Unsendable

SLICE_OCTETS = 128 << 10
"""Encoding one takes some 0.1 ms."""


class Content:
    """head, then blob; what a reader fetches is what a peer gets.

    Building one reads the octets several times: use a thread above some megabytes.
    """

    __slots__ = ("blob", "eight_bit", "fault", "head", "size", "utf8_header")

    def __init__(self, head: bytes, blob: bytes) -> None:
        self.head = head
        self.blob = blob
        self.size = len(head) + len(blob)
        head_ascii = head.isascii()
        self.eight_bit = not (head_ascii and blob.isascii())
        self.utf8_header = not head_ascii or (
            self.eight_bit and not blob[: blob.find(b"\r\n\r\n")].isascii()
        )
        self.fault = self._fault()

    def slices(self) -> Iterator[bytes]:
        if self.size <= SLICE_OCTETS:
            yield self.head + self.blob
            return
        if self.head:
            yield self.head
        for start in range(0, len(self.blob), SLICE_OCTETS):
            yield self.blob[start : start + SLICE_OCTETS]

    def _fault(self) -> DataFault | None:
        """Why SMTP cannot carry it: known before anybody is dialled."""
        encoder = DotEncoder()
        try:
            for piece in self.slices():
                encoder.feed(piece)
            encoder.finish()
        except Unsendable as error:
            return error.fault
        return None
