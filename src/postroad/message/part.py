"""The tree of a message's parts, by offset: an octet scanner that copies no body.

Boundaries are found by searching the whole buffer, never line by line. Deeper or more parts than
`mail.limits` allows, and nests that would cost more than SCAN_FACTOR readings of the message,
become opaque leaves. Input: hostile octets of any line ends; never raises.
Source: RFC 2045 §5, §6, RFC 2046 §5.1 (multipart), §5.2.1 (message/rfc822), RFC 6532 §3.7.
"""

from __future__ import annotations

import re
from mmap import mmap

from postroad.mail.limits import MIME_DEPTH_MAX, MIME_PARTS_MAX
from postroad.message.content_fields import (
    Parameters,
    parameter,
    parse_content_type,
    parse_disposition,
    parse_languages,
    parse_token,
)
from postroad.message.header import Octets, unfold

SCAN_FACTOR = 16
"""Octets looked at, as a multiple of the message's: nests of multiparts are searched once each."""
BOUNDARY_OCTETS_MAX = 998
"""RFC 2046 §5.1.1 allows 70; longer ones exist."""
_WINDOW = 1 << 18
_COPY_MAX = 1 << 18
_FAR_OCTETS = 1024
_NEAR_OCTETS = 16384

_END = re.compile(rb"\n\r?\n")
_FIRST_EMPTY = re.compile(rb"\r?\n")
_WANTED = re.compile(
    rb"^(from|to|cc|bcc|date|subject|sender|reply-to|in-reply-to|message-id"
    rb"|content-(?:type|transfer-encoding|id|description|disposition|language|location|md5))"
    rb"[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)",
    re.IGNORECASE | re.MULTILINE,
)
_DELIMITER_END = re.compile(rb"(--)?(?:[ \t][^\n]*+)?+(?:\r?\n|\r?\Z)")
"""What may stand behind a boundary. RFC 2046 §5.1.1 lets any text follow; we want a space before
it, since `--foobar` is more often the delimiter of `foobar` than one of `foo` with a tail."""
_ADDRESS_FIELDS = frozenset((b"from", b"to", b"cc", b"bcc", b"sender", b"reply-to"))

_TEXT_PLAIN = (b"text", b"plain", ((b"charset", b"us-ascii"),))
_DIGEST_DEFAULT = (b"message", b"rfc822", ())

Fields = dict[bytes, bytes]


class Part:
    """One part. Offsets count from the first octet of the whole message.

    start: of its header; body: of its body; stop: behind its body, the line end that belongs to
    a boundary left out. lines: line ends in [body, stop) of types text and message. fields:
    values of the known fields, unfolded, keys in lower case. For message/rfc822, children is the
    one embedded message.
    """

    __slots__ = (
        "body", "children", "description", "disposition", "encoding", "fields", "id", "languages",
        "lines", "location", "md5", "parameters", "start", "stop", "subtype", "type",
    )  # fmt: skip

    def __init__(self, start: int, body: int, stop: int, fields: Fields, in_digest: bool) -> None:
        self.start = start
        self.body = body
        self.stop = stop
        self.lines = 0
        self.fields = fields
        self.children: list[Part] = []
        given = fields.get(b"content-type")
        parsed = parse_content_type(given) if given is not None else None
        if parsed is None:
            parsed = _DIGEST_DEFAULT if in_digest and given is None else _TEXT_PLAIN
        self.type: bytes
        self.subtype: bytes
        self.parameters: Parameters
        self.type, self.subtype, self.parameters = parsed
        encoding = fields.get(b"content-transfer-encoding")
        self.encoding = (parse_token(encoding) if encoding else None) or b"7bit"
        self.id = fields.get(b"content-id")
        self.description = fields.get(b"content-description")
        self.md5 = fields.get(b"content-md5")
        self.location = fields.get(b"content-location")
        disposition = fields.get(b"content-disposition")
        self.disposition = parse_disposition(disposition) if disposition else None
        languages = fields.get(b"content-language")
        self.languages = parse_languages(languages) if languages else ()

    @property
    def size(self) -> int:
        return self.stop - self.body

    @property
    def is_multipart(self) -> bool:
        return self.type == b"multipart"

    @property
    def is_message(self) -> bool:
        """Holds a message we look into (RFC 6532 §3.7: global is rfc822 with UTF-8)."""
        return self.type == b"message" and self.subtype in (b"rfc822", b"global")

    @property
    def charset(self) -> bytes | None:
        return parameter(self.parameters, b"charset")


class _Buffer:
    """find, count and slices over bytes, a mapped file, or any view, none copied whole."""

    __slots__ = ("octets", "searchable", "size", "spent", "spent_max")

    def __init__(self, octets: Octets) -> None:
        self.size = len(octets)
        self.octets = octets
        self.searchable: bytes | bytearray | mmap | None = None
        if isinstance(octets, bytes):
            self.searchable = octets
        elif self.size <= _COPY_MAX:
            self.octets = self.searchable = bytes(octets)
        else:
            under = octets.obj
            if isinstance(under, bytes | bytearray | mmap) and len(under) == self.size:
                self.searchable = under
        self.spent = 0
        self.spent_max = SCAN_FACTOR * self.size + (1 << 20)

    def find(self, needle: bytes, start: int, stop: int) -> int:
        """Where `needle`, a line end and two dashes first, stands in [start, stop), or -1."""
        octets = self.searchable
        if octets is not None:
            # Base64 has no dash: one octet is sought 30 times faster than several. Where dashes
            # are near, the needle itself is sought for a while.
            at = start
            while (dash := octets.find(b"-", at, stop)) != -1:
                if dash > start and octets[dash - 1 : dash - 1 + len(needle)] == needle:
                    return dash - 1 if dash - 1 + len(needle) <= stop else -1
                if dash - at >= _FAR_OCTETS:
                    at = dash + 1
                    continue
                at = dash + _NEAR_OCTETS
                found = octets.find(needle, dash, min(at + len(needle), stop))
                if found != -1:
                    return found
            return -1
        overlap = len(needle) - 1
        at = start
        while at < stop:
            end = min(at + _WINDOW + overlap, stop)
            found = bytes(self.octets[at:end]).find(needle)
            if found != -1:
                return at + found
            at += _WINDOW
        return -1

    def count_lines(self, start: int, stop: int) -> int:
        self.spent += stop - start
        octets = self.octets
        if isinstance(octets, bytes):
            return octets.count(b"\n", start, stop)
        return sum(
            bytes(octets[at : min(at + _WINDOW, stop)]).count(b"\n")
            for at in range(start, stop, _WINDOW)
        )

    def header_end(self, start: int, stop: int) -> int:
        first = _FIRST_EMPTY.match(self.octets, start, stop)
        if first is not None:
            return first.end()
        end = _END.search(self.octets, start, stop)
        return stop if end is None else end.end()


def known_fields(header: bytes) -> Fields:
    """Values of the fields that summaries need, unfolded; the first of each name counts.

    Address fields given twice are joined by a comma, so that a second From: cannot hide. NUL is
    left out here already: without it a type may become one that IMAP wants more of.
    """
    if b"\0" in header:
        header = header.replace(b"\0", b"")
    fields: Fields = {}
    again: dict[bytes, list[bytes]] = {}
    for name, value in _WANTED.findall(header):
        key = name.lower()
        if key not in fields:
            fields[key] = unfold(value)
        elif key in _ADDRESS_FIELDS:
            again.setdefault(key, []).append(unfold(value))
    for key, values in again.items():
        fields[key] = b", ".join([fields[key], *values])
    return fields


def _delimiters(buffer: _Buffer, boundary: bytes, start: int, stop: int) -> list[tuple[int, int]]:
    """Spans (line end before the dashes, behind the line) of a multipart's delimiters.

    A closing delimiter is the last one and has no second offset (-1).
    """
    needle = b"--" + boundary
    spans: list[tuple[int, int]] = []
    octets = buffer.octets
    buffer.spent += stop - start
    at = start
    if bytes(octets[start : start + len(needle)]) != needle:
        at = buffer.find(b"\n" + needle, start, stop)
        at = at + 1 if at != -1 else -1
    while at != -1 and len(spans) < MIME_PARTS_MAX:
        end = _DELIMITER_END.match(octets, at + len(needle), stop)
        if end is not None:
            before = at
            if before > start:
                before -= 1
                if before > start and octets[before - 1] == 13:
                    before -= 1
            if end[1] is not None:
                spans.append((before, -1))
                break
            spans.append((before, end.end()))
        at = buffer.find(b"\n" + needle, max(at - 1, start) + 1, stop)
        at = at + 1 if at != -1 else -1
    return spans


class _Scanner:
    __slots__ = ("buffer", "parts")

    def __init__(self, buffer: _Buffer) -> None:
        self.buffer = buffer
        self.parts = 0

    def part(self, start: int, stop: int, depth: int, in_digest: bool) -> Part:
        body = self.buffer.header_end(start, stop)
        return self.known(
            start, body, stop, depth, in_digest, bytes(self.buffer.octets[start:body])
        )

    def known(
        self, start: int, body: int, stop: int, depth: int, in_digest: bool, header: bytes
    ) -> Part:
        self.parts += 1
        part = Part(start, body, stop, known_fields(header), in_digest)
        if part.type in (b"text", b"message"):  # no one asks it of others, and it costs
            part.lines = self.buffer.count_lines(body, stop)
        within = (
            depth < MIME_DEPTH_MAX
            and self.parts < MIME_PARTS_MAX
            and self.buffer.spent < self.buffer.spent_max
        )
        if part.is_multipart and within:
            self._multipart(part, depth)
        elif part.is_message:
            # IMAP has no message/rfc822 without a message (RFC 3501 §9, body-type-msg): one that
            # lies too deep is an empty one. Base64, forbidden here, is read as it stands.
            inner = (
                self.part(body, stop, depth + 1, False)
                if within
                else Part(body, stop, stop, {}, False)
            )
            part.children.append(inner)
        return part

    def _multipart(self, part: Part, depth: int) -> None:
        boundary = parameter(part.parameters, b"boundary")
        if not boundary or len(boundary) > BOUNDARY_OCTETS_MAX:
            return
        in_digest = part.subtype == b"digest"
        spans = _delimiters(self.buffer, boundary, part.body, part.stop)
        for index, (_, begin) in enumerate(spans):
            if begin == -1 or self.parts >= MIME_PARTS_MAX:
                break
            end = spans[index + 1][0] if index + 1 < len(spans) else part.stop
            part.children.append(self.part(begin, max(begin, end), depth + 1, in_digest))


def scan(octets: Octets) -> Part:
    """The tree of a whole message."""
    return _Scanner(_Buffer(octets)).part(0, len(octets), 0, False)


def scan_below(octets: Octets, header: bytes, body: int) -> Part:
    """The tree of a message whose header section is `header` and whose body is at `body`.

    For messages with fields on top that are not in `octets`: offsets count within `octets`,
    and the first part's `start` is 0.
    """
    return _Scanner(_Buffer(octets)).known(0, body, len(octets), 0, False, header)
