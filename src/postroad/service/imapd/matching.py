"""What a search key asks of a message: a tree of tests, cheap ones first.

Text is compared as RFC 3501 §6.4.4 asks: substring, without regard to case, decoded headers
(RFC 2047) and decoded text parts in whatever charset Python knows.
Source: RFC 3501 §6.4.4, RFC 5032 §3, RFC 7162 §3.1.5.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

from postroad.mail.uidset import UIDSet
from postroad.message.dates import parse_date
from postroad.message.structure import Kind, Node, unpack
from postroad.message.text import decode_text
from postroad.message.words import decode_words
from postroad.protocol.imap import search as keys
from postroad.protocol.imap.search import Key, When
from postroad.service.imapd.view import View
from postroad.store.contract import Store
from postroad.store.values import MessageRow, Want, unix

Test: TypeAlias = Callable[[MessageRow], bool]

ZONE_S_MAX = 24 * 3600
"""A Date: field's own day is at most this far from its day in UTC."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """A test, and what it costs: columns to be read, and the order to try it in."""

    test: Test
    want: Want = Want.BASE
    cost: int = 0


def fold(text: str) -> str:
    """What comparisons see: composed, case folded."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


class Matcher:
    """A search key made ready for one view at one moment."""

    __slots__ = ("_now", "_store", "_test", "_view", "candidates", "want")

    def __init__(self, key: Key, view: View, store: Store, now: datetime) -> None:
        self._view = view
        self._store = store
        self._now = now
        tried = self._tried(key)
        self._test = tried.test
        self.want = tried.want
        self.candidates = self._candidates(key)

    def matching(self, rows: list[MessageRow]) -> list[MessageRow]:
        """May run in a thread. Raises: Unavailable."""
        test = self._test
        return [row for row in rows if test(row)]

    def _candidates(self, key: Key) -> UIDSet:
        """UIDs outside of which nothing can match."""
        view = self._view
        everything = view.known(UIDSet(((1, 0xFFFF_FFFF),)))
        parts = key.keys if isinstance(key, keys.And) else (key,)
        for part in parts:
            if isinstance(part, keys.InSet):
                everything = meet(everything, self._uids(part))
        return everything

    def _uids(self, key: keys.InSet) -> UIDSet:
        return self._view.uids_of(key.messages, uid=key.uid, strict=False)

    def _tried(self, key: Key) -> _Tried:
        match key:
            case keys.And():
                return _all([self._tried(part) for part in key.keys])
            case keys.Or():
                return _either(self._tried(key.left), self._tried(key.right))
            case keys.Not(keys.HasFlag(flag)):
                bits, both = int(flag), int.__and__  # Flag's own `&` is many times slower
                return _Tried(lambda row: not both(row.flags, bits))
            case keys.Not():
                inner = self._tried(key.key)
                return _Tried(lambda row: not inner.test(row), inner.want, inner.cost)
            case keys.InHeader():
                return _Tried(_header_test(key), Want.HEADER, 2)
            case keys.InText():
                return self._text_test(key)
            case keys.Sent():
                return _Tried(_sent_test(key), Want.SENT | Want.HEADER, 1)
            case _:
                return _Tried(self._base_test(key))

    def _base_test(self, key: Key) -> Test:
        match key:
            case keys.All():
                return lambda row: True
            case keys.HasFlag(flag):
                bits, both = int(flag), int.__and__
                return lambda row: bool(both(row.flags, bits))
            case keys.HasKeyword(keyword):
                return lambda row: any(word.lower() == keyword for word in row.keywords)
            case keys.IsRecent():
                first = self._view.first_recent
                return lambda row: row.uid >= first
            case keys.Arrived(when, day):
                return _arrived_test(when, day)
            case keys.Within(younger, seconds):
                moment = unix(self._now) - seconds
                if younger:
                    return lambda row: row.internal_date >= moment
                return lambda row: row.internal_date <= moment
            case keys.Larger(octets):
                return lambda row: row.size > octets
            case keys.Smaller(octets):
                return lambda row: row.size < octets
            case keys.ChangedSince(modseq):
                return lambda row: row.modseq >= modseq
            case keys.InSet():
                uids = self._uids(key)
                return lambda row: row.uid in uids
            case _:
                raise AssertionError(f"{key} is no key over plain columns")

    def _text_test(self, key: keys.InText) -> _Tried:
        wanted = fold(key.text)
        store = self._store
        want = Want.OCTETS | (Want.HEADER if key.header else Want.BASE)

        def test(row: MessageRow) -> bool:
            header = row.header if key.header else None
            if header is not None and wanted in fold(decode_words(_unfold(header))):
                return True
            assert row.structure is not None, "the row was read with Want.OCTETS"
            return any(wanted in fold(text) for text in texts(row.structure, store.octets(row)))

        return _Tried(test, want, 3)


def meet(one: UIDSet, other: UIDSet) -> UIDSet:
    """What is in both; both ascending."""
    out = []
    left, right = iter(one.ranges), iter(other.ranges)
    mine, theirs = next(left, None), next(right, None)
    while mine is not None and theirs is not None:
        low, high = max(mine[0], theirs[0]), min(mine[1], theirs[1])
        if low <= high:
            out.append((low, high))
        if mine[1] < theirs[1]:
            mine = next(left, None)
        else:
            theirs = next(right, None)
    return UIDSet(tuple(out))


def _all(parts: list[_Tried]) -> _Tried:
    parts.sort(key=lambda part: part.cost)
    want = Want.BASE
    for part in parts:
        want |= part.want
    test = parts[0].test
    for part in parts[1:]:
        test = _both(test, part.test)
    return _Tried(test, want, parts[-1].cost)


def _both(first: Test, second: Test) -> Test:
    return lambda row: first(row) and second(row)


def _either(left: _Tried, right: _Tried) -> _Tried:
    first, second = sorted((left, right), key=lambda part: part.cost)
    return _Tried(
        lambda row: first.test(row) or second.test(row), left.want | right.want, second.cost
    )


def _day_start(day: date) -> int:
    return unix(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _arrived_test(when: When, day: date) -> Test:
    """INTERNALDATE is told in UTC, so its day is UTC's."""
    start = _day_start(day)
    stop = start + 86400
    match when:
        case When.BEFORE:
            return lambda row: row.internal_date < start
        case When.ON:
            return lambda row: start <= row.internal_date < stop
        case When.SINCE:
            return lambda row: row.internal_date >= start


def _sent_test(key: keys.Sent) -> Test:
    """The Date: field's day as it is written there; it is parsed only when near the border.

    A message without a date matches nothing.
    """
    start = _day_start(key.day)
    low, high = start - ZONE_S_MAX, start + 86400 + ZONE_S_MAX

    def test(row: MessageRow) -> bool:
        sent = row.sent or 0
        if not sent:
            return False
        if low <= sent < high:
            day = _written_day(row.header or b"", sent)
        else:
            day = key.day + timedelta(days=-1 if sent < low else 1)
        match key.when:
            case When.BEFORE:
                return day < key.day
            case When.ON:
                return day == key.day
            case When.SINCE:
                return day >= key.day

    return test


_DATE_FIELD = re.compile(rb"^date[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)


def _written_day(header: bytes, sent: int) -> date:
    field = _DATE_FIELD.search(header)
    moment = parse_date(_unfold(field[1]).strip()) if field is not None else None
    return moment.date() if moment is not None else datetime.fromtimestamp(sent, UTC).date()


def _unfold(octets: bytes) -> bytes:
    """Field values on one line each (RFC 5322 §2.2.3)."""
    return re.sub(rb"\r?\n(?=[ \t])", b"", octets)


def _header_test(key: keys.InHeader) -> Test:
    """Any field of that name whose decoded value holds the text (RFC 3501 §6.4.4, HEADER)."""
    field = re.compile(
        rb"^" + re.escape(key.field) + rb"[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE
    )
    wanted = fold(key.text)

    def test(row: MessageRow) -> bool:
        assert row.header is not None, "the row was read with Want.HEADER"
        for found in field.finditer(row.header):
            if not wanted:
                return True
            value = found[1].strip()
            if wanted in fold(decode_words(_unfold(value))):
                return True
        return False

    return test


def texts(structure: bytes, octets: bytes) -> Iterator[str]:
    """The body of a message as text: text parts decoded, and the headers of parts and embedded
    messages, which belong to the body too."""
    waiting: list[Node] = [unpack(structure)]
    top = True
    while waiting:
        node = waiting.pop()
        if not top and node.body > node.start:
            yield decode_words(_unfold(octets[node.start : node.body]))
        top = False
        if node.kind != Kind.LEAF:
            waiting += node.children[::-1]
        elif node.type == b"text":
            yield decode_text(octets[node.body : node.stop], node.encoding, node.charset)
