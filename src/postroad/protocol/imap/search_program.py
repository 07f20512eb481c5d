"""Search programs: what the commands that search have in common. RETURN options, charset, keys.

Source: RFC 3501 §6.4.4, RFC 4466 §2.6, RFC 9051 §6.4.4; RFC 4731 §3.1, RFC 5182 §2 (SAVE),
RFC 5267 §4 (CONTEXT, UPDATE, PARTIAL), RFC 6203 §4 (RELEVANCY), RFC 9394 §3.1 (PARTIAL).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroad.mail.errors import ProtocolError
from postroad.message.words import codec_name
from postroad.protocol.imap import search_keys as keys
from postroad.protocol.imap.scanner import MODSEQ_MAX, Scanner, UIDRequired, check_depth
from postroad.protocol.imap.search_keys import DATES, FIELDS, SIMPLE, Key

KEYS_MAX = 1000
"""Search keys of one command: each is tried on every message."""
UTF_8 = "utf-8"
"""Also without CHARSET, where 8-bit is not legal: as RFC 9051 §6.4.4 reads it."""

_PARTIAL = re.compile(rb"(-?)([1-9]\d{0,9}):(-?)([1-9]\d{0,9})(?=[ )])")
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}\Z")
_PLAIN_OPTIONS = frozenset(
    (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"CONTEXT", b"UPDATE", b"RELEVANCY")
)


@dataclass(frozen=True, slots=True)
class Partial:
    """A window of the results. asked: as the client wrote it. first <= last, both from 1 on.

    from_end: counted from the last result backwards.
    """

    asked: bytes
    first: int
    last: int
    from_end: bool

    def span(self, count: int) -> tuple[int, int]:
        """[start, stop) of a list of `count` results; empty where there are none."""
        if self.from_end:
            return max(count - self.last, 0), max(count - self.first + 1, 0)
        return min(self.first - 1, count), min(self.last, count)


@dataclass(frozen=True, slots=True)
class Returns:
    """RETURN: options in capitals, perhaps with a window. `()` is ALL."""

    options: frozenset[bytes]
    partial: Partial | None = None

    def __contains__(self, option: bytes) -> bool:
        return option in self.options

    @property
    def is_silent(self) -> bool:
        """SAVE alone: nothing is to be said (RFC 5182 §1)."""
        return self.options == {b"SAVE"} and self.partial is None


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is searched for. charset: as named, None when it was not.

    is_readable: the charset is one we know; else `key` is nothing but a place holder.
    has_modseq, is_fuzzy, has_filter: such a key is somewhere in the tree.
    """

    key: Key
    charset: bytes | None = None
    is_readable: bool = True
    has_modseq: bool = False
    is_fuzzy: bool = False
    has_filter: bool = False

    @property
    def is_unicode(self) -> bool:
        """Whether filters, which are UTF-8, may stand beside it (RFC 5466 §3.1)."""
        return self.charset is None or self.charset.upper() in (b"UTF-8", b"US-ASCII")


class _Keys:
    """Reads search keys; knows the charset, and what kinds of keys there were."""

    __slots__ = ("charset", "count", "has_filter", "has_modseq", "is_fuzzy", "scan")

    def __init__(self, scan: Scanner, charset: str) -> None:
        self.scan = scan
        self.charset = charset
        self.count = 0
        self.has_filter = False
        self.has_modseq = False
        self.is_fuzzy = False

    def text(self) -> str:
        octets = self.scan.astring("A search string")
        try:
            return octets.decode(self.charset)
        except (UnicodeDecodeError, ValueError) as error:
            raise ProtocolError("The search string is not in the charset") from error

    def several(self, depth: int) -> Key:
        """Keys up to what is not a space."""
        found = [self.one(depth)]
        while not self.scan.at_end and self.scan.skip(b" "):
            if self.scan.at_end:
                break
            found.append(self.one(depth))
        return found[0] if len(found) == 1 else keys.And(tuple(found))

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
        if first in (b"*", b"$") or first.isdigit():
            messages = scan.sequence_set()
            if scan.uid_only and not messages.is_saved:
                raise UIDRequired
            return keys.InSet(False, messages)
        word = scan.word("A search key")
        simple = SIMPLE.get(word)
        return simple if simple is not None else self.with_argument(word, depth)

    def with_argument(self, word: bytes, depth: int) -> Key:
        scan = self.scan
        scan.space()
        if word in FIELDS:
            return keys.InHeader(word.lower(), self.text())
        if word in DATES:
            kind, when = DATES[word]
            return kind(when, scan.day())
        match word:
            case b"NOT":
                return keys.Not(self.one(depth + 1))
            case b"OR":
                left = self.one(depth + 1)
                scan.space()
                return keys.Or(left, self.one(depth + 1))
            case b"UID":
                return keys.InSet(True, scan.sequence_set())
            case b"HEADER":
                field = scan.astring("A header field name").lower()
                scan.space()
                return keys.InHeader(field, self.text())
            case b"TEXT" | b"BODY":
                return keys.InText(self.text(), header=word == b"TEXT")
            case b"KEYWORD":
                return keys.HasKeyword(scan.flag().lower())
            case b"UNKEYWORD":
                return keys.Not(keys.HasKeyword(scan.flag().lower()))
            case b"LARGER":
                return keys.Larger(scan.number(MODSEQ_MAX))  # 63 bits as in RFC 9051 §9
            case b"SMALLER":
                return keys.Smaller(scan.number(MODSEQ_MAX))
            case b"OLDER" | b"YOUNGER":
                return self.within(word == b"YOUNGER")
            case b"MODSEQ":
                return self.modseq()
            case b"EMAILID":
                return keys.EmailId(self.objectid())
            case b"THREADID":
                return keys.ThreadId(self.objectid())
            case b"FUZZY":
                self.is_fuzzy = True
                return keys.Fuzzy(self.one(depth + 1))
            case b"FILTER":
                return self.filter()
            case _:
                raise ProtocolError("The search key is not known")

    def within(self, younger: bool) -> Key:
        seconds = self.scan.number()
        if not seconds:
            raise ProtocolError("An interval has at least one second")  # RFC 5032 §4
        return keys.Within(younger, seconds)

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
        return keys.ChangedSince(scan.number(MODSEQ_MAX))

    def objectid(self) -> bytes:
        octets = self.scan.astring("An object id")
        if _OBJECT_ID.match(octets) is None:
            raise ProtocolError("An object id has letters, digits, - and _")
        return octets

    def filter(self) -> Key:
        name = self.scan.atom("The name of a filter")
        if b"/" in name:
            raise ProtocolError("The name of a filter has no /")
        self.has_filter = True
        return keys.Filter(name.decode("ascii"))


def parse_returns(scan: Scanner) -> Returns | None:
    """`RETURN (...)` and the space behind it, if that comes next."""
    if scan.text[scan.at : scan.at + 7].upper() != b"RETURN ":
        return None
    scan.at += 7
    scan.expect(b"(", "A list of return options")
    options: set[bytes] = set()
    partial: Partial | None = None
    is_first = True
    while not scan.skip(b")"):
        if not is_first:
            scan.space()
        is_first = False
        option = scan.word("A return option")
        if option == b"PARTIAL":
            if partial is not None:
                raise ProtocolError("PARTIAL may be given once")
            scan.space()
            partial = parse_partial(scan)
        elif option in _PLAIN_OPTIONS:
            options.add(option)
        else:
            raise ProtocolError("The return option is not known")
    if partial is not None and b"ALL" in options:
        raise ProtocolError("PARTIAL and ALL exclude each other")  # RFC 9394 §3.1
    if not options and partial is None:
        options.add(b"ALL")
    scan.space()
    return Returns(frozenset(options), partial)


def parse_partial(scan: Scanner) -> Partial:
    """`1:500`, or `-1:-500` from the end (RFC 9394 §4)."""
    match = _PARTIAL.match(scan.text, scan.at)
    if match is None or match[1] != match[3]:
        raise ProtocolError("A range as in 1:500 or -1:-500 expected")
    scan.at = match.end()
    low, high = sorted((int(match[2]), int(match[4])))
    return Partial(match[0], low, high, bool(match[1]))


def parse_criteria(scan: Scanner, *, charset: bytes | None) -> Criteria:
    """Keys up to the line's end."""
    codec = UTF_8 if charset is None else codec_name(charset.decode("ascii", "replace"))
    if codec is None:
        return Criteria(keys.All(), charset, is_readable=False)
    reader = _Keys(scan, codec)
    key = reader.several(0)
    scan.end()
    return Criteria(
        key,
        charset,
        has_modseq=reader.has_modseq,
        is_fuzzy=reader.is_fuzzy,
        has_filter=reader.has_filter,
    )


def parse_program(scan: Scanner) -> Criteria:
    """`[CHARSET charset] keys`: of SEARCH and ESEARCH."""
    charset = None
    if scan.text[scan.at : scan.at + 8].upper() == b"CHARSET ":
        scan.at += 8
        charset = scan.astring("A charset")
        scan.space()
    scan.check_charset(charset)
    return parse_criteria(scan, charset=charset)


def parse_sorted_program(scan: Scanner) -> Criteria:
    """`charset keys`: of SORT and THREAD."""
    charset = scan.astring("A charset")
    scan.check_charset(charset, mandatory=True)
    scan.space()
    return parse_criteria(scan, charset=charset)


def check_returns(returns: Returns | None, criteria: Criteria) -> None:
    """RELEVANCY is of fuzzy searches only (RFC 6203 §4)."""
    wants = returns is not None and b"RELEVANCY" in returns
    if wants and not (criteria.is_fuzzy or criteria.has_filter) and criteria.is_readable:
        raise ProtocolError("RELEVANCY needs a FUZZY key")


def walk(key: Key) -> Iterator[Key]:
    """The key and all that stand in it."""
    waiting = [key]
    while waiting:
        item = waiting.pop()
        yield item
        match item:
            case keys.And():
                waiting += item.keys
            case keys.Or():
                waiting += (item.left, item.right)
            case keys.Not() | keys.Fuzzy():
                waiting.append(item.key)
