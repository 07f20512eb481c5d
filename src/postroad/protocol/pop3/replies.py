"""What a POP3 server says: status lines, multi-line answers, and the stuffing of dots.

Source: RFC 1939 §3 (answers of 512 octets, multi-line answers), RFC 2449 §8 (response codes),
RFC 3206 §4 (SYS/TEMP, SYS/PERM, AUTH).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LINE_OCTETS_MAX = 512
END = b".\r\n"


def ok(text: str = "") -> bytes:
    return _line(f"+OK {text}" if text else "+OK")


def err(text: str, code: str = "") -> bytes:
    """code: without brackets, as in "SYS/TEMP"."""
    return _line(f"-ERR [{code}] {text}" if code else f"-ERR {text}")


def challenge(base64: bytes) -> bytes:
    """RFC 5034 §4: `+ ` and the challenge."""
    return b"+ " + base64 + b"\r\n"


def listing(first: str, lines: Iterable[bytes], slice_octets: int = 65536) -> Iterator[bytes]:
    """A multi-line answer of lines that begin with no dot, in slices of about that many octets."""
    out = bytearray(ok(first))
    for line in lines:
        out += line
        out += b"\r\n"
        if len(out) >= slice_octets:
            yield bytes(out)
            out.clear()
    yield bytes(out) + END


def _line(text: str) -> bytes:
    octets = text.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace")
    return octets[: LINE_OCTETS_MAX - 2] + b"\r\n"


def stuffed(octets: bytes) -> bytes:
    """A whole message as it goes to the wire, with the end of the answer."""
    stuffer = DotStuffer()
    return stuffer.feed(octets) + stuffer.end()


class DotStuffer:
    """Message octets to the wire, fed in chunks of any size.

    A dot after any LF is doubled, not only after CRLF: to a reader that takes a bare LF for a line
    end, `LF . CR LF` would end the answer early.
    """

    __slots__ = ("_at_start", "_tail")

    def __init__(self) -> None:
        self._at_start = True
        self._tail = b"\r\n"

    def feed(self, octets: bytes) -> bytes:
        if not octets:
            return b""
        stuffed = octets.replace(b"\n.", b"\n..") if b"\n." in octets else octets
        if self._at_start and octets[:1] == b".":
            stuffed = b"." + stuffed
        self._at_start = octets[-1:] == b"\n"
        self._tail = (self._tail + octets[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """The end of the answer; a last line without CRLF gets one (RFC 1939 §3)."""
        return END if self._tail == b"\r\n" else b"\r\n" + END
