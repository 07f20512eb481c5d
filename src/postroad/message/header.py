"""The header section: fields as they stand, found by one regular expression.

Every field keeps its raw octets, so that joining them gives back the section and signatures stay
whole. Knows nothing of what fields mean. Input: hostile octets of any line ends; never raises.
Source: RFC 5322 §2.2, §3.6.8, §4.5 (obsolete: white space before the colon).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroad.mail.limits import HEADER_FIELDS_MAX
from postroad.message.addresses import Group, MailboxAddress, parse_addresses
from postroad.message.dates import parse_date, render_date
from postroad.message.words import decode_words

__all__ = [
    "Field",
    "Group",
    "Header",
    "MailboxAddress",
    "decode_words",
    "field_octets",
    "header_end",
    "parse_addresses",
    "parse_date",
    "parse_header",
    "render_date",
    "unfold",
]

Octets = bytes | memoryview

_END = re.compile(rb"\n\r?\n")
_FIRST_EMPTY = re.compile(rb"\r?\n")
_FIELDS = re.compile(rb"[^\n]+\n?(?:[ \t][^\n]*\n?)*|\n(?:[ \t][^\n]*\n?)*")
_FOLD = re.compile(rb"\r?\n")
_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]+\Z")


def unfold(value: bytes) -> bytes:
    """The value without line ends and without white space at its ends (RFC 5322 §2.2.3)."""
    if b"\n" in value:
        value = _FOLD.sub(b"", value)
    return value.strip(b" \t\r\n")


@dataclass(frozen=True, slots=True)
class Field:
    """One field, or a line of the section that is none (`is_legal` tells).

    raw: from its name to its line end, folds included.
    """

    raw: bytes

    @property
    def name(self) -> bytes:
        """As written, without white space before the colon; b"" where there is no colon."""
        name, colon, _ = self.raw.partition(b":")
        return name.rstrip(b" \t") if colon and b"\n" not in name else b""

    @property
    def key(self) -> bytes:
        return self.name.lower()

    @property
    def value(self) -> bytes:
        """Unfolded, stripped; the whole line where there is no colon."""
        name, colon, rest = self.raw.partition(b":")
        return unfold(rest if colon and b"\n" not in name else self.raw)

    @property
    def is_legal(self) -> bool:
        """Whether it has a name of printable ASCII (RFC 5322 §2.2, ftext) and a colon."""
        return _NAME.match(self.name) is not None


class Header:
    """The fields of one header section, in their order.

    raw: the section's octets, closing empty line included where there was one.
    fields: at most HEADER_FIELDS_MAX of them; what follows stays in `raw` only, and
    `is_truncated` says so.
    """

    __slots__ = ("_index", "fields", "is_truncated", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        pieces = field_octets(raw)
        self.is_truncated = len(pieces) > HEADER_FIELDS_MAX
        self.fields = tuple(map(Field, pieces[:HEADER_FIELDS_MAX]))
        self._index: dict[bytes, list[Field]] | None = None

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __repr__(self) -> str:
        return f"Header({self.raw!r})"

    def all(self, key: bytes) -> list[Field]:
        """Fields of this name, in any case, from the top."""
        if self._index is None:
            index: dict[bytes, list[Field]] = {}
            for item in self.fields:
                index.setdefault(item.key, []).append(item)
            self._index = index
        return list(self._index.get(key.lower(), ()))

    def first(self, key: bytes) -> Field | None:
        found = self.all(key)
        return found[0] if found else None

    def value(self, key: bytes) -> bytes | None:
        """The value of the first field of this name."""
        found = self.first(key)
        return None if found is None else found.value


def field_octets(raw: bytes) -> list[bytes]:
    """The octets of each field of a section, without its closing empty line; all of them."""
    if _FIRST_EMPTY.match(raw):
        return []
    end = _END.search(raw)
    pieces: list[bytes] = _FIELDS.findall(raw, 0, len(raw) if end is None else end.start() + 1)
    return pieces


def header_end(octets: Octets) -> int:
    """Where the body begins: behind the first empty line, or the end of the octets."""
    first = _FIRST_EMPTY.match(octets)
    if first is not None:
        return first.end()
    end = _END.search(octets)
    return len(octets) if end is None else end.end()


def parse_header(octets: Octets) -> tuple[Header, int]:
    """The header section of a message or part, and the offset of its body."""
    end = header_end(octets)
    return Header(bytes(octets[:end])), end
