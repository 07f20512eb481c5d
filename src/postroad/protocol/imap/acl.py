"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS.

Source: RFC 4314 §3, §7; RFC 4013 (identifiers are prepared by SASLprep).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.mail.rights import parse_rights
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner
from postroad.protocol.sasl.prep import saslprep

IDENTIFIER_OCTETS_MAX = 1024
"""Longer than any address can be, its minus sign included."""


class Change(Enum):
    """What is done with the rights an identifier has."""

    REPLACE = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class SetACL(Command):
    """identifier: prepared, its `-` of a negative right still before it. rights: without c, d."""

    mailbox: str
    identifier: str
    change: Change
    rights: frozenset[str]


@dataclass(frozen=True, slots=True)
class DeleteACL(Command):
    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class GetACL(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights(Command):
    """written: the identifier as the client wrote it, which the response repeats."""

    mailbox: str
    identifier: str
    written: bytes


@dataclass(frozen=True, slots=True)
class MyRights(Command):
    mailbox: str


def _identifier(scan: Scanner) -> tuple[str, bytes]:
    """Prepared, and as written. Raises: ProtocolError (RFC 4314 §3)."""
    written = scan.astring("An identifier")
    if len(written) > IDENTIFIER_OCTETS_MAX:
        raise ProtocolError("The identifier is too long")
    try:
        identifier = saslprep(written.decode("utf-8"))
    except ValueError as error:
        raise ProtocolError("The identifier cannot be prepared by SASLprep") from error
    if not identifier.removeprefix("-"):
        raise ProtocolError("The identifier is empty")
    return identifier, written


def _rights(scan: Scanner) -> tuple[Change, frozenset[str]]:
    written = scan.astring("Rights")
    try:
        text = written.decode("ascii")
        change = Change(text[:1]) if text[:1] in ("+", "-") else Change.REPLACE
        return change, parse_rights(text.removeprefix(change.value))
    except ValueError as error:
        raise ProtocolError("Rights are letters of lrswipkxtea, and c and d") from error


def parse_setacl(tag: bytes, scan: Scanner, uid: bool) -> SetACL:
    scan.space()
    mailbox = scan.mailbox()
    scan.space()
    identifier, _ = _identifier(scan)
    scan.space()
    change, rights = _rights(scan)
    scan.end()
    return SetACL(tag, mailbox, identifier, change, rights)


def parse_deleteacl(tag: bytes, scan: Scanner, uid: bool) -> DeleteACL:
    scan.space()
    mailbox = scan.mailbox()
    scan.space()
    identifier, _ = _identifier(scan)
    scan.end()
    return DeleteACL(tag, mailbox, identifier)


def parse_getacl(tag: bytes, scan: Scanner, uid: bool) -> GetACL:
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return GetACL(tag, mailbox)


def parse_listrights(tag: bytes, scan: Scanner, uid: bool) -> ListRights:
    scan.space()
    mailbox = scan.mailbox()
    scan.space()
    identifier, written = _identifier(scan)
    scan.end()
    return ListRights(tag, mailbox, identifier, written)


def parse_myrights(tag: bytes, scan: Scanner, uid: bool) -> MyRights:
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return MyRights(tag, mailbox)
