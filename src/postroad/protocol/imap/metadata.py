"""GETMETADATA and SETMETADATA; entry names, which LIST and NOTIFY use too.

Source: RFC 5464 §3.2 (entry names), §4.2, §4.3, §5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner

ENTRIES_MAX = 100
"""Of one command."""
ENTRY_OCTETS_MAX = 255
_ENTRY = re.compile(rb"(?:/[^/*%\x00-\x19\x7f-\xff]+)+\Z")
_SCOPES = ("shared", "private")


class Depth(Enum):
    """How far below a named entry GETMETADATA looks."""

    ZERO = b"0"
    ONE = b"1"
    INFINITY = b"INFINITY"


@dataclass(frozen=True, slots=True)
class GetMetadata(Command):
    """mailbox: "" for the server. entries: (in lower case, as written). maxsize -1: none."""

    mailbox: str
    entries: tuple[tuple[str, bytes], ...]
    depth: Depth
    maxsize: int


@dataclass(frozen=True, slots=True)
class SetMetadata(Command):
    """values: (entry in lower case, value); None removes it."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


def entry_name(scan: Scanner, *, whole: bool) -> tuple[str, bytes]:
    """An entry in lower case, and as written. whole: it must be one that can have a value."""
    written = scan.astring("An entry name")
    if len(written) > ENTRY_OCTETS_MAX:
        raise ProtocolError("The entry name is too long")
    if _ENTRY.match(written) is None:
        raise ProtocolError("The entry name is malformed")
    entry = written.decode("ascii").lower()
    levels = entry.split("/")[1:]
    if levels[0] not in _SCOPES:
        raise ProtocolError("Entry names begin with /shared or /private")
    if whole and (len(levels) < 2 or (levels[1] == "vendor" and len(levels) < 4)):
        raise ProtocolError("The entry name has too few levels")
    return entry, written


def entry_names(scan: Scanner) -> tuple[tuple[str, bytes], ...]:
    """One entry, or a list in parentheses."""
    if not scan.skip(b"("):
        return (entry_name(scan, whole=False),)
    found: dict[str, bytes] = {}
    while True:
        entry, written = entry_name(scan, whole=False)
        found.setdefault(entry, written)
        if len(found) > ENTRIES_MAX:
            raise ProtocolError("Too many entries")
        if scan.skip(b")"):
            return tuple(found.items())
        scan.space()


def _options(scan: Scanner, depth: Depth, maxsize: int) -> tuple[Depth, int]:
    """After the opening parenthesis."""
    while True:
        match scan.word("An option"):
            case b"DEPTH":
                scan.space()
                try:
                    depth = Depth(scan.word("A depth"))
                except ValueError as error:
                    raise ProtocolError("A depth is 0, 1 or infinity") from error
            case b"MAXSIZE":
                scan.space()
                maxsize = scan.number()
            case _:
                raise ProtocolError("The option is not known")
        if scan.skip(b")"):
            return depth, maxsize
        scan.space()


def _options_follow(scan: Scanner) -> bool:
    """A list that does not begin with an entry name."""
    return scan.peek(b"(") and scan.text[scan.at + 1 : scan.at + 2] not in (b"/", b'"', b"{")


def parse_getmetadata(tag: bytes, scan: Scanner, uid: bool) -> GetMetadata:
    """The options stand before the mailbox in the grammar, behind it in all examples, and clients
    do as either says; entries without parentheses are in the examples too (RFC 5464 §4.4.1)."""
    depth, maxsize = Depth.ZERO, -1
    scan.space()
    if scan.skip(b"("):
        depth, maxsize = _options(scan, depth, maxsize)
        scan.space()
    mailbox = scan.mailbox()
    scan.space()
    if _options_follow(scan):
        scan.skip(b"(")
        depth, maxsize = _options(scan, depth, maxsize)
        scan.space()
    entries = dict(entry_names(scan))
    while not scan.at_end and scan.skip(b" ") and not scan.at_end:
        entry, written = entry_name(scan, whole=False)
        entries.setdefault(entry, written)
        if len(entries) > ENTRIES_MAX:
            raise ProtocolError("Too many entries")
    scan.end()
    return GetMetadata(tag, mailbox, tuple(entries.items()), depth, maxsize)


def parse_setmetadata(tag: bytes, scan: Scanner, uid: bool) -> SetMetadata:
    scan.space()
    mailbox = scan.mailbox()
    scan.space()
    scan.expect(b"(", "A list of entries and values")
    values: dict[str, bytes | None] = {}
    while True:
        entry, _ = entry_name(scan, whole=True)
        scan.space()
        values[entry] = scan.nstring8()
        if len(values) > ENTRIES_MAX:
            raise ProtocolError("Too many entries")
        if scan.skip(b")"):
            break
        scan.space()
    scan.end()
    return SetMetadata(tag, mailbox, tuple(values.items()))
