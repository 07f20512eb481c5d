"""LIST, also extended, and LSUB.

Source: RFC 3501 §6.3.8-9, RFC 5258 §3 and §6, RFC 5819 §2 (STATUS), RFC 6154 §2 (SPECIAL-USE),
RFC 8440 §3 (MYRIGHTS), RFC 9590 §3 (METADATA).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TypeAlias

from postroad.mail import limits
from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.mailboxes import status_items
from postroad.protocol.imap.metadata import entry_names
from postroad.protocol.imap.names import SEPARATOR, canonical, decode_utf7
from postroad.protocol.imap.scanner import BadMailboxName, Scanner

PATTERNS_MAX = 20
"""Of one LIST; each is tried on every mailbox."""
PATTERN_CHARACTERS_MAX = 2 * (limits.MAILBOX_NAME_OCTETS_MAX + 400)
"""No name is longer, that of another's mailbox with his address before it; wildcards may stand
beside each character."""
_SELECTIONS = frozenset((b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"))
_RETURNS = frozenset((b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"MYRIGHTS"))
_RUNS = re.compile(r"[*%]*\*[*%]*|%+")


@dataclass(frozen=True, slots=True)
class List(Command):
    """selections, returns: option words in capitals.

    extended: the command had options, so names are told by the rules of RFC 5258.
    status: items wanted by RETURN (STATUS (...)), empty for none. metadata: entries wanted, in
    lower case and as written.
    """

    reference: str
    patterns: tuple[str, ...]
    selections: frozenset[bytes] = frozenset()
    returns: frozenset[bytes] = frozenset()
    status: tuple[bytes, ...] = ()
    extended: bool = False
    metadata: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class LSub(Command):
    reference: str
    pattern: str


def _decoded(scan: Scanner, octets: bytes) -> str:
    """With UTF-8 enabled names are NFC, so patterns are too (RFC 9051 §5.1)."""
    try:
        if scan.utf8:
            return unicodedata.normalize("NFC", octets.decode("utf-8"))
        return decode_utf7(octets)
    except ValueError as error:
        raise BadMailboxName(f"Mailbox pattern: {error}") from error


def _reference(scan: Scanner) -> str:
    return _decoded(scan, scan.astring("A reference name"))


def _options(scan: Scanner, known: frozenset[bytes]) -> frozenset[bytes]:
    options: set[bytes] = set()
    while not scan.skip(b")"):
        if options:
            scan.space()
        option = scan.word("An option")
        if option not in known:
            raise ProtocolError("The option is not known")
        options.add(option)
    return frozenset(options)


_Returns: TypeAlias = tuple[frozenset[bytes], tuple[bytes, ...], tuple[tuple[str, bytes], ...]]


def _returns(scan: Scanner) -> _Returns:
    """Option words, items of STATUS, entries of METADATA."""
    scan.expect(b"(", "A list of options")
    options: set[bytes] = set()
    status: tuple[bytes, ...] = ()
    metadata: tuple[tuple[str, bytes], ...] = ()
    first = True
    while not scan.skip(b")"):
        if not first:
            scan.space()
        first = False
        option = scan.word("An option")
        if option == b"STATUS":
            scan.space()
            status = status_items(scan)
        elif option == b"METADATA":
            scan.space()
            metadata = entry_names(scan)
        elif option in _RETURNS:
            options.add(option)
        else:
            raise ProtocolError("The option is not known")
    return frozenset(options), status, metadata


def parse_list(tag: bytes, scan: Scanner, uid: bool) -> List:
    scan.space()
    selections: frozenset[bytes] = frozenset()
    extended = False
    if scan.skip(b"("):
        extended = True
        selections = _options(scan, _SELECTIONS)
        if b"RECURSIVEMATCH" in selections and not selections & {b"SUBSCRIBED", b"SPECIAL-USE"}:
            raise ProtocolError("RECURSIVEMATCH needs another selection option")
        scan.space()
    reference = _reference(scan)
    scan.space()
    patterns: list[str] = []
    if scan.skip(b"("):
        extended = True
        while not patterns or scan.skip(b" "):
            patterns.append(_decoded(scan, scan.pattern()))
            if len(patterns) > PATTERNS_MAX:
                raise ProtocolError("Too many patterns")
        scan.expect(b")", "A closing parenthesis")
    else:
        patterns.append(_decoded(scan, scan.pattern()))
    returns: frozenset[bytes] = frozenset()
    status: tuple[bytes, ...] = ()
    metadata: tuple[tuple[str, bytes], ...] = ()
    if scan.skip(b" ") and not scan.at_end:
        extended = True
        if scan.word("RETURN") != b"RETURN":
            raise ProtocolError("RETURN expected")
        scan.space()
        returns, status, metadata = _returns(scan)
    scan.end()
    return List(tag, reference, tuple(patterns), selections, returns, status, extended, metadata)


def parse_lsub(tag: bytes, scan: Scanner, uid: bool) -> LSub:
    scan.space()
    reference = _reference(scan)
    scan.space()
    pattern = _decoded(scan, scan.pattern())
    scan.end()
    return LSub(tag, reference, pattern)


class NamePattern:
    """What a LIST pattern matches: `*` anything, `%` anything within one level; INBOX in any case.

    A name that is not in NFC is matched as if it were, too: so a client of UTF-8 may write it.
    All positions of the pattern are tried at once, as bits of one number, so that a name costs
    its own length and no pattern can make the matching slow.
    """

    __slots__ = ("_end", "_everything", "_literals", "_percents", "_stars")

    def __init__(self, reference: str, pattern: str) -> None:
        whole = canonical(reference + pattern)
        tokens = _RUNS.sub(lambda run: "*" if "*" in run[0] else "%", whole)
        if len(tokens) > PATTERN_CHARACTERS_MAX:
            raise ProtocolError("The pattern is too long")
        self._literals: dict[str, int] = {}
        self._stars = self._percents = 0
        for index, token in enumerate(tokens):
            if token == "*":
                self._stars |= 1 << index
            elif token == "%":
                self._percents |= 1 << index
            else:
                self._literals[token] = self._literals.get(token, 0) | 1 << index
        self._end = 1 << len(tokens)
        self._everything = tokens == "*"

    def matches(self, name: str) -> bool:
        if self._everything or self._fits(name):
            return True
        if name.isascii() or unicodedata.is_normalized("NFC", name):
            return False
        return self._fits(unicodedata.normalize("NFC", name))

    def _fits(self, name: str) -> bool:
        literals, stars, percents = self._literals, self._stars, self._percents
        wild = stars | percents
        inbox = 5 if name.split(SEPARATOR, 1)[0] == "INBOX" else 0
        places = 1
        for at, character in enumerate(name):
            places |= (places & wild) << 1
            fitting = literals.get(character, 0)
            if at < inbox:
                fitting |= literals.get(character.lower(), 0)
            places = (
                (places & fitting) << 1
                | places & stars
                | (0 if character == SEPARATOR else places & percents)
            )
            if not places:
                return False
        places |= (places & wild) << 1
        return bool(places & self._end)
