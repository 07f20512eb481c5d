"""FILTER keys: searches that are kept under a name, put in where they are named.

The values are annotations of the server, one's own before those of everybody.
Source: RFC 5466 §3.1, §3.2, §5 (loops).
"""

from __future__ import annotations

from postroad.mail import limits
from postroad.mail.errors import ProtocolError
from postroad.protocol.imap import search_keys as keys
from postroad.protocol.imap.scanner import Scanner
from postroad.protocol.imap.search_keys import Key
from postroad.protocol.imap.search_program import UTF_8, Criteria, parse_criteria
from postroad.service.imapd.session import Session
from postroad.store.metadata import SHARED, SITE

PASSES_MAX = 10
"""Filters within filters; at least three (RFC 5466 §3.1)."""
KEYS_MAX = 5000
"""Keys after all filters were put in: some of them may be named more than once."""


class UndefinedFilter(Exception):
    """There is no such filter, or it is no search, or it leads in a ring."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Expansion:
    __slots__ = ("_enabled", "_everybodys", "_own", "count", "has_modseq", "is_fuzzy")

    def __init__(self, session: Session) -> None:
        store = session.site.store
        self._own = store.annotations(session.user, 0, session.user)
        self._everybodys = store.annotations(SITE, 0, SHARED)
        self._enabled = session.enabled
        self.count = 0
        self.has_modseq = False
        self.is_fuzzy = False

    def value(self, name: str) -> bytes:
        entry = name.lower()
        found = self._own.get(f"/private/filters/values/{entry}")
        if found is None:
            found = self._everybodys.get(f"/shared/filters/values/{entry}")
        if found is None:
            raise UndefinedFilter(name)
        return found

    def key(self, key: Key, inside: tuple[str, ...], depth: int) -> Key:
        self.count += 1
        match key:
            case keys.Filter(name):
                return self._filter(name, inside, depth)
            case keys.And():
                return keys.And(tuple([self.key(part, inside, depth + 1) for part in key.keys]))
            case keys.Or():
                left = self.key(key.left, inside, depth + 1)
                return keys.Or(left, self.key(key.right, inside, depth + 1))
            case keys.Not():
                return keys.Not(self.key(key.key, inside, depth + 1))
            case keys.Fuzzy():
                return keys.Fuzzy(self.key(key.key, inside, depth + 1))
            case _:
                return key

    def _filter(self, name: str, inside: tuple[str, ...], depth: int) -> Key:
        lower = name.lower()
        too_much = len(inside) >= PASSES_MAX or self.count > KEYS_MAX
        if lower in inside or too_much or depth > limits.IMAP_NESTING_MAX:
            raise UndefinedFilter(name)
        value = self.value(name)
        try:
            scan = Scanner(value.strip() + b"\r\n", 0, self._enabled)
            criteria = parse_criteria(scan, charset=UTF_8.encode())
        except ProtocolError as error:
            raise UndefinedFilter(name) from error
        self.has_modseq |= criteria.has_modseq
        self.is_fuzzy |= criteria.is_fuzzy
        return self.key(criteria.key, (*inside, lower), depth)


def expand(session: Session, criteria: Criteria) -> Criteria:
    """The criteria without FILTER keys. Raises: UndefinedFilter."""
    if not criteria.has_filter:
        return criteria
    expansion = _Expansion(session)
    key = expansion.key(criteria.key, (), 0)
    return Criteria(
        key,
        criteria.charset,
        has_modseq=criteria.has_modseq or expansion.has_modseq,
        is_fuzzy=criteria.is_fuzzy or expansion.is_fuzzy,
    )
