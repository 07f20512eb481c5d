"""SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS.

Source: RFC 3501 §6.3, RFC 4466 §2.1-2.3 (parameters), RFC 6154 §3 (USE), RFC 7162 §3.1.8
(CONDSTORE), §3.1.7 and RFC 8438, RFC 7889, RFC 9051 §6.3.11 (status items).
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner

STATUS_ITEMS = frozenset(
    (b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN", b"HIGHESTMODSEQ")
    + (b"SIZE", b"DELETED", b"APPENDLIMIT")
)


@dataclass(frozen=True, slots=True)
class Select(Command):
    mailbox: str
    read_only: bool
    condstore: bool


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


def _select(tag: bytes, scan: Scanner, read_only: bool) -> Select:
    scan.space()
    mailbox = scan.mailbox()
    condstore = False
    if scan.skip(b" ("):
        while True:
            if scan.word("A parameter") != b"CONDSTORE":
                raise ProtocolError("The parameter is not known")
            condstore = True
            if scan.skip(b")"):
                break
            scan.space()
    scan.end()
    return Select(tag, mailbox, read_only, condstore)


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
