"""STORE, COPY and MOVE: commands on a set of messages.

Source: RFC 3501 §6.4.6-8, RFC 6851 §3, RFC 7162 §3.1.3 (UNCHANGEDSINCE).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import Flag
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import MODSEQ_MAX, Scanner
from postroad.protocol.imap.sequence import SequenceSet


class StoreMode(Enum):
    REPLACE = b"FLAGS"
    ADD = b"+FLAGS"
    REMOVE = b"-FLAGS"


@dataclass(frozen=True, slots=True)
class Store(Command):
    """uid: the set holds UIDs. unchangedsince: -1 for none."""

    uid: bool
    messages: SequenceSet
    mode: StoreMode
    silent: bool
    flags: Flag
    keywords: tuple[bytes, ...]
    unchangedsince: int


@dataclass(frozen=True, slots=True)
class Copy(Command):
    uid: bool
    messages: SequenceSet
    mailbox: str
    move: bool


def parse_store(tag: bytes, scan: Scanner, uid: bool) -> Store:
    scan.space()
    messages = scan.sequence_set()
    scan.space()
    unchangedsince = -1
    if scan.skip(b"("):
        if scan.word("UNCHANGEDSINCE") != b"UNCHANGEDSINCE":
            raise ProtocolError("The modifier is not known")
        scan.space()
        unchangedsince = scan.number(MODSEQ_MAX)
        scan.expect(b") ", "A closing parenthesis")
    item = scan.word("FLAGS")
    silent = item.endswith(b".SILENT")
    try:
        mode = StoreMode(item.removesuffix(b".SILENT"))
    except ValueError as error:
        raise ProtocolError("FLAGS, +FLAGS or -FLAGS expected") from error
    scan.space()
    flags, keywords = scan.flags()
    scan.end()
    return Store(tag, uid, messages, mode, silent, flags, keywords, unchangedsince)


def _copy(tag: bytes, scan: Scanner, uid: bool, move: bool) -> Copy:
    scan.space()
    messages = scan.sequence_set()
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return Copy(tag, uid, messages, mailbox, move)


def parse_copy(tag: bytes, scan: Scanner, uid: bool) -> Copy:
    return _copy(tag, scan, uid, move=False)


def parse_move(tag: bytes, scan: Scanner, uid: bool) -> Copy:
    return _copy(tag, scan, uid, move=True)
