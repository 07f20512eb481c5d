"""The text of a message that searches look at: said once, for the index and for reading.

Header: its fields, one line each, encoded words decoded. Body: text parts decoded from whatever
charset Python knows, the headers of parts and embedded messages, and the names of attached files.
All of it folded, so that comparing octets compares without regard to case.
Input: hostile octets; never raises. Trusts only the packed structure.
Source: RFC 3501 §6.4.4, RFC 9051 §6.4.4; RFC 5051 §2 (i;unicode-casemap), RFC 5255 §4.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from postroad.message.header import field_octets
from postroad.message.structure import Kind, Node, unpack
from postroad.message.text import decode_text
from postroad.message.words import decode_words
from postroad.store.search.contract import Needle, Where

_NON_ASCII = re.compile("[^\x00-\x7f]+")
_FOLDED = re.compile(rb"\r?\n(?=[ \t])")
_TEXTUAL = frozenset((b"text", b"message"))
"""Types whose leaves are text; message: reports (RFC 3464) and parts nested too deep."""
WHITE = " \t\r\n"
"""What does not belong to a field's value at its ends."""
_FOLD_AT_ONCE = 65_536
"""Characters folded in one call: some hundred microseconds."""
_RUN_AT_ONCE = 256


class Sliceable(Protocol):
    """Octets of a message: bytes, or something that reads only what is asked for."""

    def __getitem__(self, part: slice, /) -> bytes: ...


def fold(text: str) -> str:
    """What comparisons see: decomposed, without regard to case.

    Departs: RFC 5051 §2 maps to title case by simple mappings; we fold in full, so that all it
    takes for equal is equal here, and STRASSE finds Straße as well. NUL, which separates texts in
    the index, becomes U+FFFD.
    """
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text.lower()
    if len(text) > _FOLD_AT_ONCE:
        pieces = range(0, len(text), _FOLD_AT_ONCE)
        folded = "".join([text[at : at + _FOLD_AT_ONCE].casefold() for at in pieces])
    else:
        folded = text.casefold()
    return _NON_ASCII.sub(_fold_run, folded)


def _fold_run(match: re.Match[str]) -> str:
    run = match[0]
    if len(run) <= 4:
        return _often_folded(run)
    return _decompose(run) if len(run) <= _RUN_AT_ONCE else "".join(map(_decompose, _cut(run)))


def _decompose(run: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", run).casefold())
    return folded.replace("\u0131", "i")  # dotless i has I as its capital


_often_folded = lru_cache(maxsize=4096)(_decompose)


def _cut(run: str) -> Iterator[str]:
    """Pieces that begin with no combining mark, where marks are as few as in any language.

    Putting marks in order takes the square of their number.
    """
    start = 0
    while start < len(run):
        stop = start + _RUN_AT_ONCE
        while stop < min(len(run), start + 2 * _RUN_AT_ONCE) and unicodedata.combining(run[stop]):
            stop += 1
        yield run[start:stop]
        start = stop


@lru_cache(maxsize=4096)
def _title(character: str) -> str:
    """The simple title case mapping."""
    title = character.title()
    return unicodedata.normalize("NFKD", title if len(title) == 1 else character)


def collate(text: str) -> bytes:
    """A sort key: i;unicode-casemap's form of the text, in UTF-8. Source: RFC 5051 §2."""
    if text.isascii():
        return text.upper().encode("ascii")
    titled = "".join(map(_title, text))
    return unicodedata.normalize("NFKD", titled).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class SearchText:
    """Folded text of one message, or of its header alone. Nothing in it holds a NUL.

    header: each field as one line, `name: value`. body: the pieces of the body.
    """

    header: tuple[str, ...]
    body: tuple[str, ...] = ()

    def holds(self, needle: Needle) -> bool:
        """Whether the message has the needle; one for BODY or TEXT asks for a read body."""
        text = needle.text
        match needle.where:
            case Where.BODY:
                return not text or any(text in piece for piece in self.body)
            case Where.TEXT:
                return (
                    not text
                    or any(text in line for line in self.header)
                    or any(text in piece for piece in self.body)
                )
            case Where.HEADER:
                if not is_field_name(needle.field):
                    return False
                name = needle.field.decode("ascii")
            case _:
                name = needle.where.value
        return any(field_holds(line, name, text) for line in self.header)


def field_holds(line: str, name: str, text: str) -> bool:
    """Whether the line is a field of this name (lower case) whose value holds the text."""
    if not line.startswith(name):
        return False
    rest = line[len(name) :].lstrip(" \t")
    return rest.startswith(":") and text in rest[1:].strip(WHITE)


_FIELD_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]+\Z")


def is_field_name(field: bytes) -> bool:
    """Whether a field can have this name at all (RFC 5322 §3.6.8)."""
    return _FIELD_NAME.match(field) is not None


def header_lines(header: bytes) -> tuple[str, ...]:
    """The fields of a header section, a folded line each."""
    if header.isascii() and b"=?" not in header and b"\0" not in header:
        end = header.find(b"\n\r\n")
        if end == -1 and b"\n\n" not in header and header[:1] not in b"\r\n":
            end = len(header)
        if end > 0 and b"\n\n" not in header[:end] and header[:1] not in b"\r\n":
            text = _FOLDED.sub(b"", header[:end]).lower().decode("ascii")
            lines = [line.rstrip("\r") for line in text.split("\n")]
            return tuple([line for line in lines if line])
    return tuple([line for raw in field_octets(header) if (line := _line(raw))])


def _line(raw: bytes) -> str:
    raw = raw.removesuffix(b"\n").rstrip(b"\r")
    return fold(decode_words(_FOLDED.sub(b"", raw)))


def body_texts(structure: bytes, octets: Sliceable) -> Iterator[str]:
    """The pieces of the body, folded, in their order."""
    waiting: list[Node] = [unpack(structure)]
    is_top = True
    while waiting:
        node = waiting.pop()
        name = "" if node.name is None else fold(node.name)
        if not is_top and node.body > node.start:
            for line in header_lines(octets[node.start : node.body]):
                yield line
                if name and name in line:
                    name = ""
        is_top = False
        if name:
            yield name
        if node.kind != Kind.LEAF:
            waiting += node.children[::-1]
        elif node.type in _TEXTUAL and node.stop > node.body:
            text = fold(decode_text(octets[node.body : node.stop], node.encoding, node.charset))
            if text:
                yield text


def text_octets(structure: bytes) -> int:
    """How many octets of the message `body_texts` would read."""
    total = 0
    waiting: list[Node] = [unpack(structure)]
    while waiting:
        node = waiting.pop()
        total += node.body - node.start
        waiting += node.children
        if node.kind == Kind.LEAF and node.type in _TEXTUAL:
            total += node.stop - node.body
    return total


def fields(header: bytes, structure: bytes, octets: Sliceable) -> SearchText:
    """The text of a message. header: its whole section; octets: head + blob."""
    return SearchText(header_lines(header), tuple(body_texts(structure, octets)))


def header_fields(header: bytes) -> SearchText:
    """The text of a header alone: for needles that do not ask for the body."""
    return SearchText(header_lines(header))
