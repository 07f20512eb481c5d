"""Content-Transfer-Encoding undone piece by piece, with little memory.

The octets that come out depend on the octets that go in and, for quoted-printable lines beyond any
length, on where they were cut: who reads a part twice cuts it alike. Damaged encodings give what
can be read of them; never raises.
Source: RFC 2045 §6.7, §6.8; RFC 3516 §4.3.
"""

from __future__ import annotations

import binascii
import re
from typing import Protocol

HELD_OCTETS_MAX = 1 << 16
"""Of a quoted-printable line whose end has not come: RFC 2045 §6.7 allows 76."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _BASE64)
_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")


class Decoder(Protocol):
    def feed(self, octets: bytes) -> bytes:
        """What can be said already."""
        ...

    def finish(self) -> bytes:
        """What was held back; nothing follows."""
        ...


class _Plain:
    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


class _Base64:
    """Foreign octets are passed over; padding ends it (RFC 2045 §6.8)."""

    def __init__(self) -> None:
        self._held = b""
        self._ended = False

    def feed(self, octets: bytes) -> bytes:
        if self._ended:
            return b""
        found = self._held + octets.translate(None, _NOT_BASE64)
        end = found.find(b"=")
        if end >= 0:
            self._held = found[:end]
            self._ended = True
            return b""
        whole = len(found) & ~3
        self._held = found[whole:]
        return binascii.a2b_base64(found[:whole])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        if len(held) & 3 == 1:  # six bits are no octet
            held = held[:-1]
        return binascii.a2b_base64(held + b"=" * (-len(held) & 3)) if held else b""


class _QuotedPrintable:
    """White space at line ends was put there by transport (RFC 2045 §6.7 rule 3)."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        found = self._held + octets
        cut = found.rfind(b"\n") + 1
        if len(found) - cut > HELD_OCTETS_MAX:
            cut = self._within_line(found)
        self._held = found[cut:]
        return self._decode(found[:cut])

    @staticmethod
    def _within_line(found: bytes) -> int:
        """Where a line of any length can be cut: before white space, and not within `=41`."""
        cut = len(found.rstrip(b" \t\r"))
        if len(found) - cut > HELD_OCTETS_MAX:
            cut = len(found)
        escape = found.rfind(b"=", max(cut - 2, 0), cut)
        return cut if escape < 0 else escape

    @staticmethod
    def _decode(lines: bytes) -> bytes:
        if b" \r" in lines or b" \n" in lines or b"\t" in lines:
            lines = _TRAILING.sub(b"", lines)
        return binascii.a2b_qp(lines)

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._decode(held.rstrip(b" \t"))


_PLAIN_ENCODINGS = frozenset((b"", b"7bit", b"8bit", b"binary"))


def decoder(encoding: bytes) -> Decoder | None:
    """For an encoding in lower case; None when it is not known."""
    match encoding:
        case b"base64":
            return _Base64()
        case b"quoted-printable":
            return _QuotedPrintable()
        case _:
            return _Plain() if encoding in _PLAIN_ENCODINGS else None
