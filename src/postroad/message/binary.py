"""Messages with NUL in them, made fit for what cannot carry NUL: such parts become base64.

Only parts that hold NUL are touched, and only where that loses nothing: in the body of a part
whose encoding is none at all (7bit, 8bit, binary). Everything else keeps its octets.
Source: RFC 3516 §4.4, §6; RFC 2045 §6.1, §6.8 (lines of 76).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from postroad.message.header import Octets
from postroad.message.part import Part, scan

LINES = 57 * 1024
"""Octets encoded at a time: whole lines."""
_WINDOW = 1 << 20
_PLAIN = (b"7bit", b"8bit", b"binary")
_ENCODING = re.compile(
    rb"^content-transfer-encoding[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_BASE64 = b"Content-Transfer-Encoding: base64\r\n"


class Unencodable(Exception):
    """NUL stands where it cannot be encoded."""


def encode_nul_parts(octets: Octets) -> Iterator[bytes]:
    """The message in pieces, without NUL. Raises: Unencodable, before the first piece or later."""
    at = 0
    for part in _with_nul(octets):
        if part.is_multipart:
            raise Unencodable("A multipart without parts cannot be encoded")
        if part.encoding.lower() not in _PLAIN:
            raise Unencodable(
                f"A part says it is {part.encoding.decode('ascii', 'replace')}, and holds NUL"
            )
        yield from _copy(octets, at, part.start)
        yield _relabel(bytes(octets[part.start : part.body]))
        yield from _encode(octets, part)
        at = part.stop
    yield from _copy(octets, at, len(octets))


def _with_nul(octets: Octets) -> Iterator[Part]:
    """The leaves whose bodies hold NUL, in order. Raises: Unencodable for NUL anywhere else."""
    at = 0
    waiting = [scan(octets)]
    leaves = []
    while waiting:
        part = waiting.pop()
        if part.children:
            waiting.extend(reversed(part.children))
        else:
            leaves.append(part)
    for part in leaves:
        if _has_nul(octets, at, part.body):
            raise Unencodable("NUL stands outside of the parts' bodies")
        if _has_nul(octets, part.body, part.stop):
            yield part
        at = part.stop
    if _has_nul(octets, at, len(octets)):
        raise Unencodable("NUL stands outside of the parts' bodies")


def _has_nul(octets: Octets, start: int, stop: int) -> bool:
    return any(
        b"\0" in bytes(octets[at : min(at + _WINDOW, stop)]) for at in range(start, stop, _WINDOW)
    )


def _copy(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    for at in range(start, stop, _WINDOW):
        yield bytes(octets[at : min(at + _WINDOW, stop)])


def _relabel(header: bytes) -> bytes:
    """The part's header, its empty line included, saying base64 in place of what it said."""
    said, again = _ENCODING.subn(b"", header)
    if again:
        at = _ENCODING.search(header)
        assert at is not None, "it was found just now"
        return said[: at.start()] + _BASE64 + said[at.start() :]
    return _BASE64 + header if header.strip(b"\r\n") else _BASE64 + b"\r\n"


def _encode(octets: Octets, part: Part) -> Iterator[bytes]:
    """A line end closes the last line only where no boundary brings one."""
    for at in range(part.body, part.stop, LINES):
        piece = bytes(octets[at : min(at + LINES, part.stop)])
        lines = [
            binascii.b2a_base64(piece[line : line + 57], newline=False)
            for line in range(0, len(piece), 57)
        ]
        last = at + LINES >= part.stop
        yield b"\r\n".join(lines) + (b"" if last and part.stop < len(octets) else b"\r\n")
