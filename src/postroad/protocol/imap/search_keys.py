"""Search keys: the tree that SEARCH, SORT, THREAD and ESEARCH ask with.

Values only; `search_program` reads them, the service answers them.
Source: RFC 3501 §6.4.4, RFC 5032 §3 (OLDER, YOUNGER), RFC 5466 §3.1 (FILTER), RFC 6203 §3 (FUZZY),
RFC 7162 §3.1.5 (MODSEQ), RFC 8474 §6 (EMAILID, THREADID), RFC 8514 §4.3 (SAVEDBEFORE...).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TypeAlias

from postroad.mail.flags import FLAG_BY_ATOM, Flag
from postroad.protocol.imap.sequence import SequenceSet


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
class Saved:
    """By the day it came into the mailbox, its time and zone disregarded."""

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
class EmailId:
    objectid: bytes


@dataclass(frozen=True, slots=True)
class ThreadId:
    objectid: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """A search that is kept under a name: the service puts its keys here."""

    name: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """Matched as loosely as the server can, with a score."""

    key: Key


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
    "All | HasFlag | HasKeyword | IsRecent | Arrived | Sent | Saved | Within | Larger | Smaller"
    " | InHeader | InText | InSet | ChangedSince | EmailId | ThreadId | Filter | Fuzzy | Not | Or"
    " | And"
)


SIMPLE: dict[bytes, Key] = {
    b"ALL": All(),
    b"NEW": And((IsRecent(), Not(HasFlag(Flag.SEEN)))),
    b"OLD": Not(IsRecent()),
    b"RECENT": IsRecent(),
    b"SAVEDATESUPPORTED": All(),
}
for _atom, _flag in FLAG_BY_ATOM.items():
    SIMPLE[_atom[1:].upper()] = HasFlag(_flag)
    SIMPLE[b"UN" + _atom[1:].upper()] = Not(HasFlag(_flag))
FIELDS = {b"FROM", b"TO", b"CC", b"BCC", b"SUBJECT"}
DATES: dict[bytes, tuple[type[Arrived] | type[Sent] | type[Saved], When]] = {
    b"BEFORE": (Arrived, When.BEFORE),
    b"ON": (Arrived, When.ON),
    b"SINCE": (Arrived, When.SINCE),
    b"SAVEDBEFORE": (Saved, When.BEFORE),
    b"SAVEDON": (Saved, When.ON),
    b"SAVEDSINCE": (Saved, When.SINCE),
    b"SENTBEFORE": (Sent, When.BEFORE),
    b"SENTON": (Sent, When.ON),
    b"SENTSINCE": (Sent, When.SINCE),
}
