"""SEARCH and UID SEARCH.

Source: RFC 3501 §6.4.4, RFC 9051 §6.4.4, RFC 4731 §3.1 (RETURN).
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner
from postroad.protocol.imap.search_program import (
    Criteria,
    Returns,
    check_returns,
    parse_program,
    parse_returns,
)


@dataclass(frozen=True, slots=True)
class Search(Command):
    """returns: None when the client did not say how it wants the result."""

    uid: bool
    criteria: Criteria
    returns: Returns | None


def parse_search(tag: bytes, scan: Scanner, uid: bool) -> Search:
    scan.space()
    returns = parse_returns(scan)
    criteria = parse_program(scan)
    check_returns(returns, criteria)
    return Search(tag, uid, criteria, returns)
