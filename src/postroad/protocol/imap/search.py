"""SEARCH: the tree of search keys.

Source: RFC 3501 §6.4.4, RFC 4731 §3.1 (RETURN), RFC 5032 §3 (OLDER, YOUNGER), RFC 7162 §3.1.5
(MODSEQ), RFC 9051 §6.4.4 (what UTF-8 does).
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TypeAlias

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import FLAG_BY_ATOM, Flag
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import MODSEQ_MAX, Scanner, check_depth
from postroad.protocol.imap.sequence import SequenceSet

KEYS_MAX = 1000
"""Search keys of one command: each is tried on every message."""
_RETURNS = frozenset((b"MIN", b"MAX", b"ALL", b"COUNT"))


class UnknownCharset(ProtocolError):
    """NO [BADCHARSET] (RFC 3501 §6.4.4)."""


class When(Enum):
    BEFORE = "before"
    ON = "on"
    SINCE = "since"


@dataclass(frozen=True, slots=True)
class All:
    pass


@dataclass(frozen=True, slots=True)
class HasFlag:
    flag: Flag


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """keyword: in lower case."""

    keyword: bytes


@dataclass(frozen=True, slots=True)
class IsRecent:
    pass


@dataclass(frozen=True, slots=True)
class Arrived:
    """By internal date, its time and zone disregarded."""

    when: When
    day: date


@dataclass(frozen=True, slots=True)
class Sent:
    """By the Date: field, its time and zone disregarded."""

    when: When
    day: date


@dataclass(frozen=True, slots=True)
class Within:
    """younger: arrived at most `seconds` ago; else at least."""

    younger: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class Larger:
    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    octets: int


@dataclass(frozen=True, slots=True)
class InHeader:
    """field: lower case. text: "" asks whether the field is there."""

    field: bytes
    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """header: the header is searched as well (TEXT, else BODY)."""

    text: str
    header: bool


@dataclass(frozen=True, slots=True)
class InSet:
    uid: bool
    messages: SequenceSet


@dataclass(frozen=True, slots=True)
class ChangedSince:
    """modseq at least this."""

    modseq: int


@dataclass(frozen=True, slots=True)
class Not:
    key: Key


@dataclass(frozen=True, slots=True)
class Or:
    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[Key, ...]


Key: TypeAlias = (
    "All | HasFlag | HasKeyword | IsRecent | Arrived | Sent | Within | Larger | Smaller"
    " | InHeader | InText | InSet | ChangedSince | Not | Or | And"
)


@dataclass(frozen=True, slots=True)
class Search(Command):
    """returns: None for the old response; else the options, in capitals, never empty."""

    uid: bool
    key: Key
    returns: frozenset[bytes] | None
    has_modseq: bool


_SIMPLE: dict[bytes, Key] = {
    b"ALL": All(),
    b"NEW": And((IsRecent(), Not(HasFlag(Flag.SEEN)))),
    b"OLD": Not(IsRecent()),
    b"RECENT": IsRecent(),
}
for _atom, _flag in FLAG_BY_ATOM.items():
    _SIMPLE[_atom[1:].upper()] = HasFlag(_flag)
    _SIMPLE[b"UN" + _atom[1:].upper()] = Not(HasFlag(_flag))
_FIELDS = {b"FROM", b"TO", b"CC", b"BCC", b"SUBJECT"}
_DATES: dict[bytes, tuple[type[Arrived] | type[Sent], When]] = {
    b"BEFORE": (Arrived, When.BEFORE),
    b"ON": (Arrived, When.ON),
    b"SINCE": (Arrived, When.SINCE),
    b"SENTBEFORE": (Sent, When.BEFORE),
    b"SENTON": (Sent, When.ON),
    b"SENTSINCE": (Sent, When.SINCE),
}


class _Keys:
    """Reads search keys; knows the charset and how many keys there were."""

    __slots__ = ("charset", "count", "has_modseq", "scan")

    def __init__(self, scan: Scanner, charset: str) -> None:
        self.scan = scan
        self.charset = charset
        self.count = 0
        self.has_modseq = False

    def text(self) -> str:
        octets = self.scan.astring("A search string")
        try:
            return octets.decode(self.charset)
        except (UnicodeDecodeError, ValueError) as error:
            raise ProtocolError("The search string is not in the charset") from error

    def several(self, depth: int) -> Key:
        """Keys up to what is not a space."""
        keys = [self.one(depth)]
        while not self.scan.at_end and self.scan.skip(b" "):
            if self.scan.at_end:
                break
            keys.append(self.one(depth))
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def one(self, depth: int) -> Key:
        check_depth(depth)
        self.count += 1
        if self.count > KEYS_MAX:
            raise ProtocolError("Too many search keys")
        scan = self.scan
        first = scan.text[scan.at : scan.at + 1]
        if first == b"(":
            scan.at += 1
            key = self.several(depth + 1)
            scan.expect(b")", "A closing parenthesis")
            return key
        if first == b"*" or first.isdigit():
            return InSet(False, scan.sequence_set())
        word = scan.word("A search key")
        simple = _SIMPLE.get(word)
        return simple if simple is not None else self.with_argument(word, depth)

    def with_argument(self, word: bytes, depth: int) -> Key:
        scan = self.scan
        scan.space()
        if word in _FIELDS:
            return InHeader(word.lower(), self.text())
        if word in _DATES:
            kind, when = _DATES[word]
            return kind(when, scan.day())
        match word:
            case b"NOT":
                return Not(self.one(depth + 1))
            case b"OR":
                left = self.one(depth + 1)
                scan.space()
                return Or(left, self.one(depth + 1))
            case b"UID":
                return InSet(True, scan.sequence_set())
            case b"HEADER":
                field = scan.astring("A header field name").lower()
                scan.space()
                return InHeader(field, self.text())
            case b"TEXT" | b"BODY":
                return InText(self.text(), header=word == b"TEXT")
            case b"KEYWORD":
                return HasKeyword(scan.flag().lower())
            case b"UNKEYWORD":
                return Not(HasKeyword(scan.flag().lower()))
            case b"LARGER":
                return Larger(scan.number(MODSEQ_MAX))  # 63 bits as in RFC 9051 §9
            case b"SMALLER":
                return Smaller(scan.number(MODSEQ_MAX))
            case b"OLDER" | b"YOUNGER":
                return self.within(word == b"YOUNGER")
            case b"MODSEQ":
                return self.modseq()
            case _:
                raise ProtocolError("The search key is not known")

    def within(self, younger: bool) -> Key:
        seconds = self.scan.number()
        if not seconds:
            raise ProtocolError("An interval has at least one second")  # RFC 5032 §4
        return Within(younger, seconds)

    def modseq(self) -> Key:
        """The entry name and type, if given, change nothing: one modseq is kept per message."""
        self.has_modseq = True
        scan = self.scan
        if scan.peek(b'"'):
            scan.string()
            scan.space()
            if scan.word("priv, shared or all") not in (b"PRIV", b"SHARED", b"ALL"):
                raise ProtocolError("priv, shared or all expected")
            scan.space()
        return ChangedSince(scan.number(MODSEQ_MAX))


def _returns(scan: Scanner) -> frozenset[bytes]:
    scan.expect(b"(", "A list of return options")
    options: set[bytes] = set()
    while not scan.skip(b")"):
        if options:
            scan.space()
        option = scan.word("A return option")
        if option not in _RETURNS:
            raise ProtocolError("The return option is not known")
        options.add(option)
    return frozenset(options or {b"ALL"})


def _charset(scan: Scanner) -> str:
    name = scan.astring("A charset").decode("ascii", "replace")
    if name.upper() not in ("US-ASCII", "UTF-8", "UTF8", "ASCII"):
        raise UnknownCharset("US-ASCII and UTF-8 are understood")
    return codecs.lookup(name).name


def parse_search(tag: bytes, scan: Scanner, uid: bool) -> Search:
    scan.space()
    returns = None
    if scan.text[scan.at : scan.at + 7].upper() == b"RETURN ":
        scan.at += 7
        returns = _returns(scan)
        scan.space()
    charset = "utf-8"  # without CHARSET, 8-bit is not legal; as RFC 9051 §6.4.4 reads it
    if scan.text[scan.at : scan.at + 8].upper() == b"CHARSET ":
        scan.at += 8
        charset = _charset(scan)
        scan.space()
    keys = _Keys(scan, charset)
    key = keys.several(0)
    scan.end()
    return Search(tag, uid, key, returns, keys.has_modseq)
