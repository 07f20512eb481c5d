"""FETCH: which items of which messages.

Source: RFC 3501 §6.4.5 and §9 (fetch-att, section), RFC 7162 §3.1.4 (CHANGEDSINCE, MODSEQ).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

from postroad.mail import limits
from postroad.mail.errors import ProtocolError
from postroad.protocol.imap import render
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import MODSEQ_MAX, NUMBER_MAX, Scanner
from postroad.protocol.imap.sequence import SequenceSet

ITEMS_MAX = 200
"""Items of one FETCH: no client asks for more than some twenty; each is answered per message."""
FIELDS_MAX = 1000
REMEMBERED_OCTETS_MAX = 512
"""Of what is asked for; longer requests are read anew each time."""
_SECTION_PATH = re.compile(rb"\d{1,9}(?:\.\d{1,9})*")
_SECTION_TEXT = re.compile(rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME", re.IGNORECASE)
_ITEM = re.compile(rb"[A-Za-z0-9.]+")


class Item(Enum):
    """What needs no argument. The value is its name in command and response."""

    UID = b"UID"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    RFC822_SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"


class Text(Enum):
    """What of a part or message."""

    ALL = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """`BODY[path.text (fields)]<start.length>`, and the RFC822 items, which are sections too.

    label: what the response calls it, up to the space before the octets.
    fields: lower case. start, length: -1 when no part was asked for.
    """

    label: bytes
    path: tuple[int, ...]
    text: Text
    fields: tuple[bytes, ...]
    start: int
    length: int
    peek: bool


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """changedsince: -1 for none."""

    uid: bool
    messages: SequenceSet
    items: tuple[Item, ...]
    sections: tuple[Section, ...]
    changedsince: int

    @property
    def marks_seen(self) -> bool:
        return not all(section.peek for section in self.sections)


_MACROS: dict[bytes, tuple[Item, ...]] = {
    b"FAST": (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE),
    b"ALL": (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE, Item.ENVELOPE),
    b"FULL": (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE, Item.ENVELOPE, Item.BODY),
}
_BY_NAME = {item.value: item for item in Item}
_RFC822 = {
    b"RFC822": Section(b"RFC822", (), Text.ALL, (), -1, -1, peek=False),
    b"RFC822.HEADER": Section(b"RFC822.HEADER", (), Text.HEADER, (), -1, -1, peek=True),
    b"RFC822.TEXT": Section(b"RFC822.TEXT", (), Text.TEXT, (), -1, -1, peek=False),
}


def _header_list(scan: Scanner) -> tuple[bytes, tuple[bytes, ...]]:
    """The list as the response has it, and its names.

    A literal is written anew: the client's would be none in a response.
    """
    written = []
    scan.expect(b"(", "A list of header fields")
    names: dict[bytes, None] = {}
    while True:
        start = scan.at
        name = scan.astring("A header field name")
        as_written = scan.text[start : scan.at]
        names[name.lower()] = None
        written.append(render.astring(name) if as_written[:1] == b"{" else as_written)
        if len(written) > FIELDS_MAX:
            raise ProtocolError("Too many header fields")
        if scan.skip(b")"):
            return b"(" + b" ".join(written) + b")", tuple(names)
        scan.space()


def _path(scan: Scanner) -> tuple[int, ...]:
    match = _SECTION_PATH.match(scan.text, scan.at)
    if match is None:
        return ()
    path = tuple(int(number) for number in match[0].split(b"."))
    if 0 in path:
        raise ProtocolError("Part numbers begin with 1")
    if len(path) > limits.MIME_DEPTH_MAX:
        raise ProtocolError("Nested too deeply")
    scan.at = match.end()
    return path


def _section(scan: Scanner, peek: bool) -> Section:
    """From the opening bracket."""
    scan.expect(b"[", "A section")
    path = _path(scan)
    label = b"BODY[" + b".".join(b"%d" % number for number in path)
    text = Text.ALL
    fields: tuple[bytes, ...] = ()
    if not scan.peek(b"]"):
        if path:
            scan.expect(b".", "A section")
            label += b"."
        match = _SECTION_TEXT.match(scan.text, scan.at)
        if match is None:
            raise ProtocolError("A section expected")
        text = Text(match[0].upper())
        scan.at = match.end()
        label += text.value
        if text is Text.MIME and not path:
            raise ProtocolError("MIME needs a part number")
        if text in (Text.FIELDS, Text.FIELDS_NOT):
            scan.space()
            written, fields = _header_list(scan)
            label += b" " + written
    scan.expect(b"]", "A closing bracket")
    label += b"]"
    start = length = -1
    if scan.skip(b"<"):
        start = scan.number()
        scan.expect(b".", "A partial range")
        length = scan.number(NUMBER_MAX)
        if not length:
            raise ProtocolError("A partial range holds at least one octet")
        scan.expect(b">", "A closing angle")
        label += b"<%d>" % start
    return Section(label, path, text, fields, start, length, peek)


class _Wanted:
    __slots__ = ("items", "sections")

    def __init__(self) -> None:
        self.items: dict[bytes, Item] = {}
        self.sections: dict[Section, None] = {}

    def take(self, scan: Scanner) -> None:
        """Reads one item."""
        match = _ITEM.match(scan.text, scan.at)
        if match is None:
            raise ProtocolError("A fetch item expected")
        name = match[0].upper()
        scan.at = match.end()
        if name in (b"BODY", b"BODY.PEEK") and scan.peek(b"["):
            self.sections[_section(scan, peek=name == b"BODY.PEEK")] = None
        elif name in _RFC822:
            self.sections[_RFC822[name]] = None
        elif (item := _BY_NAME.get(name)) is not None:
            self.items[name] = item
        else:
            raise ProtocolError("The fetch item is not known")
        if len(self.items) + len(self.sections) > ITEMS_MAX:
            raise ProtocolError("Too many fetch items")


_Asked: TypeAlias = tuple[tuple[Item, ...], tuple[Section, ...], int]


def _asked(scan: Scanner, uid: bool) -> _Asked:
    """Everything behind the set: items, sections, CHANGEDSINCE."""
    wanted = _Wanted()
    if scan.skip(b"("):
        wanted.take(scan)
        while scan.skip(b" "):
            wanted.take(scan)
        scan.expect(b")", "A closing parenthesis")
    else:
        match = _ITEM.match(scan.text, scan.at)
        macro = _MACROS.get(match[0].upper()) if match is not None else None
        if match is not None and macro is not None:
            scan.at = match.end()
            wanted.items.update((item.value, item) for item in macro)
        else:
            wanted.take(scan)
    changedsince = -1
    if scan.skip(b" ("):
        if scan.word("CHANGEDSINCE") != b"CHANGEDSINCE":
            raise ProtocolError("The modifier is not known")
        scan.space()
        changedsince = scan.number(MODSEQ_MAX)
        scan.expect(b")", "A closing parenthesis")
        wanted.items[b"MODSEQ"] = Item.MODSEQ
    scan.end()
    if uid:
        wanted.items[b"UID"] = Item.UID
    items = wanted.items
    ordered = tuple([item for name, item in _BY_NAME.items() if name in items])
    return ordered, tuple(wanted.sections), changedsince


@lru_cache(maxsize=256)
def _asked_before(rest: bytes, uid: bool) -> _Asked:
    """Clients ask for the same things of one set after another."""
    return _asked(Scanner(rest), uid)


def parse_fetch(tag: bytes, scan: Scanner, uid: bool) -> Fetch:
    scan.space()
    messages = scan.sequence_set()
    scan.space()
    rest = scan.text[scan.at :]
    asked = _asked_before(rest, uid) if len(rest) <= REMEMBERED_OCTETS_MAX else _asked(scan, uid)
    return Fetch(tag, uid, messages, *asked)
