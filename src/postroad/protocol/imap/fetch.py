"""FETCH: which items of which messages.

Source: RFC 3501 §6.4.5 and §9 (fetch-att, section), RFC 3516 §7 (BINARY), RFC 7162 §3.1.4
(CHANGEDSINCE, MODSEQ), §3.2.6 (VANISHED), RFC 8474 §5.3, RFC 8514 §4.2, RFC 8970 §6 (PREVIEW),
RFC 9394 §3.3 (PARTIAL).
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
from postroad.protocol.imap.scanner import MODSEQ_MAX, Scanner
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
    SAVEDATE = b"SAVEDATE"
    EMAILID = b"EMAILID"
    THREADID = b"THREADID"
    PREVIEW = b"PREVIEW"


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
    decoded: BINARY, start and length count decoded octets. size: BINARY.SIZE.
    """

    label: bytes
    path: tuple[int, ...]
    text: Text
    fields: tuple[bytes, ...]
    start: int
    length: int
    peek: bool
    decoded: bool = False
    size: bool = False


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """changedsince: -1 for none. vanished: what was expunged since is asked for.

    partial: first and last place among the messages that there are, counted from 1, or from -1
    down for the last one; None for all. names_uid: UID is asked for, and not only implied.
    """

    uid: bool
    messages: SequenceSet
    items: tuple[Item, ...]
    sections: tuple[Section, ...]
    changedsince: int = -1
    vanished: bool = False
    partial: tuple[int, int] | None = None
    names_uid: bool = False

    @property
    def marks_seen(self) -> bool:
        return not all(section.peek for section in self.sections)


_MACROS: dict[bytes, tuple[Item, ...]] = {
    b"FAST": (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE),
    b"ALL": (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE, Item.ENVELOPE),
    b"FULL": (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE, Item.ENVELOPE, Item.BODY),
}
_BY_NAME = {item.value: item for item in Item}
_BINARY = frozenset((b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE"))
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
    start, length, origin = _partial(scan)
    return Section(label + b"]" + origin, path, text, fields, start, length, peek)


def _partial(scan: Scanner) -> tuple[int, int, bytes]:
    """`<start.length>`, if it comes next, and what the response says of it."""
    if not scan.skip(b"<"):
        return -1, -1, b""
    start = scan.number(MODSEQ_MAX)
    scan.expect(b".", "A partial range")
    length = scan.number(MODSEQ_MAX)
    if not length:
        raise ProtocolError("A partial range holds at least one octet")
    scan.expect(b">", "A closing angle")
    return start, length, b"<%d>" % start


def _binary(scan: Scanner, name: bytes) -> Section:
    """From the opening bracket. Source: RFC 3516 §7."""
    scan.expect(b"[", "A section")
    path = _path(scan)
    scan.expect(b"]", "A closing bracket")
    label = b"BINARY.SIZE[" if name == b"BINARY.SIZE" else b"BINARY["
    label += b".".join(b"%d" % number for number in path) + b"]"
    if name == b"BINARY.SIZE":
        return Section(label, path, Text.ALL, (), -1, -1, peek=True, decoded=True, size=True)
    start, length, origin = _partial(scan)
    peek = name == b"BINARY.PEEK"
    return Section(label + origin, path, Text.ALL, (), start, length, peek, decoded=True)


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
        elif name in _BINARY:
            self.sections[_binary(scan, name)] = None
        elif name in _RFC822:
            self.sections[_RFC822[name]] = None
        elif (item := _BY_NAME.get(name)) is not None:
            self.items[name] = item
            if item is Item.PREVIEW and scan.skip(b" ("):
                _preview_modifiers(scan)
        else:
            raise ProtocolError("The fetch item is not known")
        if len(self.items) + len(self.sections) > ITEMS_MAX:
            raise ProtocolError("Too many fetch items")


def _preview_modifiers(scan: Scanner) -> None:
    """LAZY is obeyed by answering at once: previews are kept. Source: RFC 8970 §4.1, §6."""
    while True:
        if scan.word("A modifier") != b"LAZY":
            raise ProtocolError("The modifier is not known")
        if scan.skip(b")"):
            return
        scan.space()


@dataclass(slots=True)
class _Modifiers:
    """What stands in parentheses behind the items."""

    changedsince: int = -1
    vanished: bool = False
    partial: tuple[int, int] | None = None

    def take(self, scan: Scanner, uid: bool) -> None:
        """Reads one."""
        word = scan.word("A modifier")
        if word == b"CHANGEDSINCE" and self.changedsince < 0:
            scan.space()
            self.changedsince = scan.number(MODSEQ_MAX)
        elif word == b"VANISHED" and uid and not self.vanished:
            self.vanished = True
        elif word == b"PARTIAL" and uid and self.partial is None:
            scan.space()
            self.partial = partial_range(scan)
        else:
            raise ProtocolError("The modifier is not known, or has no place here")


def partial_range(scan: Scanner) -> tuple[int, int]:
    """`1:100`, or `-1:-100` for the last ones. The nearer end comes first.

    Source: RFC 9394 §4 (partial-range).
    """
    last = scan.skip(b"-")
    first = scan.number()
    scan.expect(b":-" if last else b":", "A range of places")
    second = scan.number()
    if not first or not second:
        raise ProtocolError("Places are counted from 1")
    low, high = min(first, second), max(first, second)
    return (-low, -high) if last else (low, high)


_Asked: TypeAlias = tuple[
    tuple[Item, ...], tuple[Section, ...], int, bool, tuple[int, int] | None, bool
]


def _items(scan: Scanner) -> _Wanted:
    wanted = _Wanted()
    if scan.skip(b"("):
        wanted.take(scan)
        while scan.skip(b" "):
            wanted.take(scan)
        scan.expect(b")", "A closing parenthesis")
        return wanted
    match = _ITEM.match(scan.text, scan.at)
    macro = _MACROS.get(match[0].upper()) if match is not None else None
    if match is not None and macro is not None:
        scan.at = match.end()
        wanted.items.update((item.value, item) for item in macro)
    else:
        wanted.take(scan)
    return wanted


def _asked(scan: Scanner, uid: bool) -> _Asked:
    """Everything behind the set: items, sections, modifiers."""
    wanted = _items(scan)
    modifiers = _Modifiers()
    if scan.skip(b" ("):
        modifiers.take(scan, uid)
        while scan.skip(b" "):
            modifiers.take(scan, uid)
        scan.expect(b")", "A closing parenthesis")
    scan.end()
    changedsince = modifiers.changedsince
    if changedsince >= 0:
        wanted.items[b"MODSEQ"] = Item.MODSEQ
    elif modifiers.vanished:
        raise ProtocolError("VANISHED needs CHANGEDSINCE")
    items = wanted.items
    names_uid = b"UID" in items
    if uid:
        items[b"UID"] = Item.UID
    ordered = tuple([item for name, item in _BY_NAME.items() if name in items])
    return (
        ordered,
        tuple(wanted.sections),
        changedsince,
        modifiers.vanished,
        modifiers.partial,
        names_uid,
    )


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


def parse_attributes(scan: Scanner) -> tuple[tuple[Item, ...], tuple[Section, ...]]:
    """A list of fetch items by itself, as NOTIFY and UPDATE have it (RFC 5465 §8)."""
    if not scan.peek(b"("):
        raise ProtocolError("A list of fetch items expected")
    wanted = _items(scan)
    ordered = tuple([item for name, item in _BY_NAME.items() if name in wanted.items])
    return ordered, tuple(wanted.sections)
