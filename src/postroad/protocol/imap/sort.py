"""SORT and UID SORT.

Source: RFC 5256 §3, §5; RFC 5267 §3 (RETURN), RFC 5957 §5 (DISPLAYFROM, DISPLAYTO),
RFC 6203 §6 (RELEVANCY).
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
    parse_returns,
    parse_sorted_program,
)

CRITERIA_MAX = 30
"""Sort criteria of one command: there are nine different ones."""


class SortKey(Enum):
    ARRIVAL = b"ARRIVAL"
    CC = b"CC"
    DATE = b"DATE"
    DISPLAYFROM = b"DISPLAYFROM"
    DISPLAYTO = b"DISPLAYTO"
    FROM = b"FROM"
    RELEVANCY = b"RELEVANCY"
    SIZE = b"SIZE"
    SUBJECT = b"SUBJECT"
    TO = b"TO"


@dataclass(frozen=True, slots=True)
class Criterion:
    key: SortKey
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort(Command):
    """by: at least one criterion. returns: None for the SORT response."""

    uid: bool
    by: tuple[Criterion, ...]
    criteria: Criteria
    returns: Returns | None


def parse_sort(tag: bytes, scan: Scanner, uid: bool) -> Sort:
    scan.space()
    returns = parse_returns(scan)
    by = _criteria(scan)
    scan.space()
    criteria = parse_sorted_program(scan)
    check_returns(returns, criteria)
    by_relevancy = any(item.key is SortKey.RELEVANCY for item in by)
    if by_relevancy and not (criteria.is_fuzzy or criteria.has_filter) and criteria.is_readable:
        raise ProtocolError("RELEVANCY needs a FUZZY key")
    return Sort(tag, uid, by, criteria, returns)


def _criteria(scan: Scanner) -> tuple[Criterion, ...]:
    scan.expect(b"(", "A list of sort criteria")
    found: list[Criterion] = []
    while not found or not scan.skip(b")"):
        if found:
            scan.space()
        word = scan.word("A sort criterion")
        reverse = word == b"REVERSE"
        if reverse:
            scan.space()
            word = scan.word("A sort criterion")
        try:
            found.append(Criterion(SortKey(word), reverse))
        except ValueError as error:
            raise ProtocolError("The sort criterion is not known") from error
        if len(found) > CRITERIA_MAX:
            raise ProtocolError("Too many sort criteria")
    return tuple(found)
