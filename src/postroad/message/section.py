"""Sections of a message: where BODY[1.2.MIME] lies, which parts are text, fields picked out.

Offsets are those of head + blob, as `message.structure` packed them; octets are never searched.
Source: RFC 3501 §6.4.5 (section-spec, part numbers), §7.4.2; RFC 5322 §2.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache, partial

from postroad.message.header import field_octets
from postroad.message.structure import Kind, Node, unpack

__all__ = [
    "TextPart",
    "encoding_of",
    "filter_header",
    "header_filter",
    "locate",
    "part_at",
    "text_parts",
]

_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]+\Z")
CHOSEN_MAX = 50
"""Names that one expression looks for; clients ask for some ten."""


def _numbered(node: Node) -> tuple[Node, ...]:
    """The parts that numbers below this one mean (RFC 3501 §6.4.5)."""
    if node.kind == Kind.MULTIPART:
        return node.children
    if node.kind == Kind.MESSAGE:
        inner = node.children[0]
        return inner.children if inner.kind == Kind.MULTIPART else (inner,)
    return ()


def part_at(root: Node, path: tuple[int, ...]) -> Node | None:
    """The part of this number; () is the message itself."""
    if not path:
        return root
    here = root
    steps = path
    if root.kind != Kind.MULTIPART:  # its only part is number 1
        if path[0] != 1:
            return None
        steps = path[1:]
    for step in steps:
        parts = _numbered(here)
        if not 1 <= step <= len(parts):
            return None
        here = parts[step - 1]
    return here


def locate(structure: bytes, path: tuple[int, ...], what: str = "") -> tuple[int, int] | None:
    """[start, stop) of a section in head + blob, or None when there is no such section.

    what: "", "HEADER", "TEXT" or "MIME". HEADER and TEXT of a numbered part exist only for
    embedded messages; MIME only for numbered parts.
    """
    root = unpack(structure)
    node = part_at(root, path)
    if node is None:
        return None
    match what:
        case "":
            return (node.start if not path else node.body, node.stop)
        case "MIME":
            return (node.start, node.body) if path else None
        case "HEADER" | "TEXT":
            if path:
                if node.kind != Kind.MESSAGE:
                    return None
                node = node.children[0]
            return (node.start, node.body) if what == "HEADER" else (node.body, node.stop)
        case _:
            return None


def encoding_of(structure: bytes, path: tuple[int, ...]) -> tuple[bytes, bytes | None] | None:
    """(transfer encoding in lower case, charset) of a part; None when there is no such part."""
    node = part_at(unpack(structure), path)
    return None if node is None else (node.encoding, node.charset)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A leaf of type text. Its body is [start, stop) of head + blob."""

    path: tuple[int, ...]
    start: int
    stop: int
    encoding: bytes
    charset: bytes | None
    subtype: bytes
    name: str | None
    attached: bool


def text_parts(structure: bytes) -> list[TextPart]:
    """All text leaves in order, those of embedded messages too."""
    root = unpack(structure)
    out: list[TextPart] = []
    first = root.children if root.kind == Kind.MULTIPART else (root,)
    waiting: list[tuple[tuple[int, ...], Node]] = []
    waiting += [((number,), node) for number, node in enumerate(first, 1)][::-1]
    while waiting:
        path, node = waiting.pop()
        below = _numbered(node)
        if below:
            waiting += [((*path, number), item) for number, item in enumerate(below, 1)][::-1]
        elif node.type == b"text":
            out.append(
                TextPart(
                    path=path,
                    start=node.body,
                    stop=node.stop,
                    encoding=node.encoding,
                    charset=node.charset,
                    subtype=node.subtype,
                    name=node.name,
                    attached=node.attached,
                )
            )
    return out


@lru_cache(maxsize=256)
def header_filter(names: tuple[bytes, ...], exclude: bool) -> Callable[[bytes], bytes]:
    """What makes of a header section its HEADER.FIELDS, or HEADER.FIELDS.NOT: the chosen fields as
    they stand, and an empty line. For many headers: the names are looked at once."""
    one_by_one = partial(_chosen, wanted={name.lower() for name in names}, exclude=exclude)
    if exclude or not 0 < len(names) <= CHOSEN_MAX or not all(map(_NAME.match, names)):
        return one_by_one
    wanted = b"|".join(map(re.escape, names))
    # From a line's end to the next: what begins with one fixed octet is found fastest.
    field = rb"\n(?:" + wanted + rb")[ \t]*:.*(?:\n[ \t].*)*"
    find = re.compile(field, re.IGNORECASE).findall

    def chosen(header: bytes) -> bytes:
        if header[-1:] != b"\n":
            return one_by_one(header)
        fields = find(b"\n" + header)
        fields.append(b"\n\r\n")
        return b"".join(fields)[1:]

    return chosen


def _chosen(header: bytes, wanted: set[bytes], exclude: bool) -> bytes:
    kept = []
    for raw in field_octets(header):
        name, colon, _ = raw.partition(b":")
        key = name.rstrip(b" \t").lower() if colon else b""
        if (key in wanted) is not exclude:
            kept.append(raw)
    if kept and not kept[-1].endswith(b"\n"):
        kept.append(b"\r\n")
    return b"".join(kept) + b"\r\n"


def filter_header(header: bytes, names: Collection[bytes], exclude: bool) -> bytes:
    """The same for one header."""
    return header_filter(tuple(names), exclude)(header)
