"""ESEARCH: one search in many mailboxes. Also `filter-mailboxes`, which NOTIFY shares.

Source: RFC 7377 §2, §4; RFC 5465 §6, §8 (filter-mailboxes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner
from postroad.protocol.imap.search_program import (
    Criteria,
    Returns,
    check_returns,
    parse_program,
    parse_returns,
)

NAMES_MAX = 1000
"""Mailboxes named in one command."""


class Scope(Enum):
    SELECTED = b"SELECTED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


_NAMED = (Scope.SUBTREE, Scope.SUBTREE_ONE, Scope.MAILBOXES)


@dataclass(frozen=True, slots=True)
class Source:
    """names: of mailboxes, with the scopes that take some."""

    scope: Scope
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ESearch(Command):
    """sources: what to search; the selected mailbox when the client named nothing."""

    sources: tuple[Source, ...]
    criteria: Criteria
    returns: Returns

    @property
    def only_selected(self) -> bool:
        return all(source.scope is Scope.SELECTED for source in self.sources)


def parse_esearch(tag: bytes, scan: Scanner, uid: bool) -> ESearch:
    scan.space()
    sources: tuple[Source, ...] = (Source(Scope.SELECTED),)
    if scan.text[scan.at : scan.at + 3].upper() == b"IN ":
        scan.at += 3
        sources = _sources(scan)
        scan.space()
    returns = parse_returns(scan)
    criteria = parse_program(scan)
    check_returns(returns, criteria)
    command = ESearch(tag, sources, criteria, returns or Returns(frozenset((b"ALL",))))
    if not command.only_selected and (b"SAVE" in command.returns or b"UPDATE" in command.returns):
        raise ProtocolError("SAVE and UPDATE are for the selected mailbox")  # RFC 7377 §2.2
    return command


def _sources(scan: Scanner) -> tuple[Source, ...]:
    scan.expect(b"(", "A list of mailboxes to search")
    found: list[Source] = []
    names = 0
    while True:
        found.append(parse_source(scan))
        names += len(found[-1].names)
        if names > NAMES_MAX or len(found) > NAMES_MAX:
            raise ProtocolError("Too many mailboxes")
        if scan.skip(b")"):
            return tuple(found)
        scan.space()
        if scan.peek(b"("):
            raise ProtocolError("The scope option is not known")


def parse_source(scan: Scanner) -> Source:
    """One `filter-mailboxes`."""
    try:
        scope = Scope(scan.word("Which mailboxes"))
    except ValueError as error:
        raise ProtocolError("Which mailboxes is not known") from error
    if scope not in _NAMED:
        return Source(scope)
    scan.space()
    if not scan.skip(b"("):
        return Source(scope, (scan.mailbox(),))
    names = [scan.mailbox()]
    while not scan.skip(b")"):
        scan.space()
        names.append(scan.mailbox())
        if len(names) > NAMES_MAX:
            raise ProtocolError("Too many mailboxes")
    return Source(scope, tuple(names))
