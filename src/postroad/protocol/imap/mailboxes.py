"""SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS.

Source: RFC 3501 §6.3, RFC 4466 §2.1-2.3 (parameters), RFC 6154 §3 (USE), RFC 7162 §3.1.8
(CONDSTORE), §3.2.5 (QRESYNC), §3.1.7 and RFC 8438, RFC 7889, RFC 8474 §4.2, RFC 9051 §6.3.11,
RFC 9208 §4.1.4 (status items).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import MODSEQ_MAX, Scanner
from postroad.protocol.imap.sequence import SequenceSet

_CLOSED_SET = re.compile(rb"[0-9:,]+")

STATUS_ITEMS = frozenset(
    (b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN", b"HIGHESTMODSEQ")
    + (b"SIZE", b"DELETED", b"DELETED-STORAGE", b"APPENDLIMIT", b"MAILBOXID")
)


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client knows of the mailbox that it selects (RFC 7162 §3.2.5).

    known: UIDs; None for all. matches: message numbers and their UIDs, as many of each.
    """

    uidvalidity: int
    modseq: int
    known: SequenceSet | None
    matches: tuple[SequenceSet, SequenceSet] | None


@dataclass(frozen=True, slots=True)
class Select(Command):
    mailbox: str
    read_only: bool
    condstore: bool
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create(Command):
    """use: attributes of RFC 6154 §3, as written."""

    mailbox: str
    use: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Delete(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename(Command):
    mailbox: str
    to: str


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    mailbox: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class Status(Command):
    mailbox: str
    items: tuple[bytes, ...]


def _closed_set(scan: Scanner) -> SequenceSet:
    """A set without `*`, and no result of a search (RFC 7162 §7, known-uids)."""
    start = scan.at
    found = scan.sequence_set()
    if not _CLOSED_SET.fullmatch(scan.text[start : scan.at]):
        raise ProtocolError("Numbers expected")
    return found


def _resync(scan: Scanner) -> Resync:
    """Source: RFC 7162 §7 (select-param)."""
    scan.expect(b" (", "What is known of the mailbox")
    uidvalidity = scan.number()
    scan.space()
    modseq = scan.number(MODSEQ_MAX)
    if not uidvalidity or not modseq:
        raise ProtocolError("UIDVALIDITY and mod-sequence are above 0")
    known = matches = None
    if scan.peek(b" ") and not scan.peek(b" ("):
        scan.space()
        known = _closed_set(scan)
    if scan.skip(b" ("):
        numbers = _closed_set(scan)
        scan.space()
        matches = (numbers, _closed_set(scan))
        if len(matches[0].resolve(0)) != len(matches[1].resolve(0)):
            raise ProtocolError("As many UIDs as message numbers expected")
        scan.expect(b")", "A closing parenthesis")
    scan.expect(b")", "A closing parenthesis")
    return Resync(uidvalidity, modseq, known, matches)


def _select(tag: bytes, scan: Scanner, read_only: bool) -> Select:
    scan.space()
    mailbox = scan.mailbox()
    condstore = False
    resync: Resync | None = None
    if scan.skip(b" ("):
        while True:
            word = scan.word("A parameter")
            if word == b"CONDSTORE":
                condstore = True
            elif word == b"QRESYNC" and resync is None:
                resync = _resync(scan)
            else:
                raise ProtocolError("The parameter is not known")
            if scan.skip(b")"):
                break
            scan.space()
    scan.end()
    return Select(tag, mailbox, read_only, condstore, resync)


def parse_select(tag: bytes, scan: Scanner, uid: bool) -> Select:
    return _select(tag, scan, read_only=False)


def parse_examine(tag: bytes, scan: Scanner, uid: bool) -> Select:
    return _select(tag, scan, read_only=True)


def parse_create(tag: bytes, scan: Scanner, uid: bool) -> Create:
    scan.space()
    mailbox = scan.mailbox()
    use: list[bytes] = []
    if scan.skip(b" ("):
        if scan.word("A parameter") != b"USE":
            raise ProtocolError("The parameter is not known")
        scan.expect(b" (", "A list of uses")
        while not scan.skip(b")"):
            if use:
                scan.space()
            use.append(scan.flag())
        scan.expect(b")", "A closing parenthesis")
    scan.end()
    return Create(tag, mailbox, tuple(use))


def parse_delete(tag: bytes, scan: Scanner, uid: bool) -> Delete:
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return Delete(tag, mailbox)


def parse_rename(tag: bytes, scan: Scanner, uid: bool) -> Rename:
    scan.space()
    mailbox = scan.mailbox()
    scan.space()
    to = scan.mailbox()
    scan.end()
    return Rename(tag, mailbox, to)


def parse_subscribe(tag: bytes, scan: Scanner, uid: bool) -> Subscribe:
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return Subscribe(tag, mailbox, True)


def parse_unsubscribe(tag: bytes, scan: Scanner, uid: bool) -> Subscribe:
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return Subscribe(tag, mailbox, False)


def status_items(scan: Scanner) -> tuple[bytes, ...]:
    """`(MESSAGES UIDNEXT ...)`, each once."""
    scan.expect(b"(", "A list of status items")
    items: dict[bytes, None] = {}
    while True:
        item = scan.word("A status item")
        if item not in STATUS_ITEMS:
            raise ProtocolError("The status item is not known")
        items[item] = None
        if scan.skip(b")"):
            return tuple(items)
        scan.space()


def parse_status(tag: bytes, scan: Scanner, uid: bool) -> Status:
    scan.space()
    mailbox = scan.mailbox()
    scan.space()
    items = status_items(scan)
    scan.end()
    return Status(tag, mailbox, items)
