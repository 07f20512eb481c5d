"""The tokens of IMAP, read off one whole command by regular expressions.

Knows no command and no state. Input: hostile octets, one command with its literals in place,
ending in CRLF, as `server.ServerConnection` cuts them.
With UTF-8 enabled, strings must be UTF-8 and mailbox names are read as they stand.
Source: RFC 3501 §9, RFC 7888 §3, RFC 4466 §4 (literal8), RFC 9051 §5.1, §9; RFC 9755 §3.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta

from postroad.mail import limits
from postroad.mail.errors import ProtocolError
from postroad.mail.flags import FLAG_BY_ATOM, KEYWORD_OCTETS_MAX, KEYWORDS_PER_MESSAGE_MAX, Flag
from postroad.protocol.imap.names import decode_mailbox
from postroad.protocol.imap.sequence import SequenceSet

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_PATTERN = re.compile(rb'[^\x00-\x20\x7f(){"\\]+')
_QUOTED = re.compile(rb'"([^"\\\r\n\x00]*(?:\\["\\][^"\\\r\n\x00]*)*)"')
_LITERAL = re.compile(rb"~?\{(\d{1,10})\+?\}\r\n")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NUMBER = re.compile(rb"\d{1,20}")
_SET = re.compile(rb"\$|[0-9*][0-9:,*]*")
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_DATE = re.compile(rb'("?)(\d{1,2})-([A-Za-z]{3})-(\d{4})\1')
_DATE_TIME = re.compile(
    rb'"([ \d]?\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"'
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun")
        + (b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"),
        1,
    )
}

NUMBER_MAX = 0xFFFF_FFFF
MODSEQ_MAX = (1 << 63) - 1


_NOTHING: AbstractSet[bytes] = frozenset()


class Declined(ProtocolError):
    """A command that cannot be done, with a response code. no: NO instead of BAD."""

    def __init__(self, text: str, code: bytes, *, no: bool) -> None:
        super().__init__(text)
        self.code = code
        self.no = no


class BadMailboxName(Declined):
    """The command is well formed, but no mailbox can have this name."""

    def __init__(self, text: str) -> None:
        super().__init__(text, b"CANNOT", no=True)


class UIDRequired(Declined):
    """A sequence number, though the client gave them up (RFC 9586 §3)."""

    def __init__(self) -> None:
        super().__init__("Only UIDs are used since UIDONLY", b"UIDREQUIRED", no=False)


class Scanner:
    """A place in one command. Each method reads one thing there, or raises ProtocolError.

    enabled: what ENABLE has switched on, in capitals.
    """

    __slots__ = ("at", "enabled", "text")

    def __init__(self, text: bytes, at: int = 0, enabled: AbstractSet[bytes] = _NOTHING) -> None:
        self.text = text
        self.at = at
        self.enabled = enabled

    @property
    def rev2(self) -> bool:
        return b"IMAP4REV2" in self.enabled

    @property
    def utf8(self) -> bool:
        """Strings and mailbox names are UTF-8."""
        return b"IMAP4REV2" in self.enabled or b"UTF8=ACCEPT" in self.enabled

    @property
    def uid_only(self) -> bool:
        return b"UIDONLY" in self.enabled

    def check_charset(self, charset: bytes | None, *, mandatory: bool = False) -> None:
        """What a search names (None: nothing), where UTF8=ACCEPT has fixed the charset already.

        mandatory: the grammar wants one (SORT, THREAD); else even UTF-8 is a conflict, but for a
        client that also speaks IMAP4rev2, which names it by habit.
        Source: RFC 9755 §3, RFC 6855 §3. Raises: ProtocolError.
        """
        if charset is None or b"UTF8=ACCEPT" not in self.enabled:
            return
        if charset.upper() != b"UTF-8" or not (mandatory or self.rev2):
            raise ProtocolError("With UTF8=ACCEPT a charset cannot be chosen")

    # -- punctuation --------------------------------------------------------------------------

    def peek(self, octets: bytes) -> bool:
        return self.text.startswith(octets, self.at)

    def skip(self, octets: bytes) -> bool:
        """Steps over `octets` if they come next."""
        if self.text.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def expect(self, octets: bytes, what: str) -> None:
        if not self.skip(octets):
            raise ProtocolError(f"{what} expected")

    def space(self) -> None:
        if self.text[self.at : self.at + 1] != b" ":
            raise ProtocolError("A space is missing, or an argument")
        self.at += 1

    def end(self) -> None:
        """Nothing may follow but the line's end (a trailing space is forgiven)."""
        at = self.at
        if self.text[at : at + 1] == b" ":
            at += 1
        if self.text[at:] != b"\r\n":
            raise ProtocolError("Too many arguments, or a misplaced character")

    @property
    def at_end(self) -> bool:
        return self.text.startswith(b"\r\n", self.at)

    # -- words --------------------------------------------------------------------------------

    def _match(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ProtocolError(f"{what} expected")
        self.at = match.end()
        return match[0]

    def atom(self, what: str = "An atom") -> bytes:
        return self._match(_ATOM, what)

    def word(self, what: str = "A word") -> bytes:
        """An atom, in capitals."""
        return self._match(_ATOM, what).upper()

    def number(self, most: int = NUMBER_MAX) -> int:
        number = int(self._match(_NUMBER, "A number"))
        if number > most:
            raise ProtocolError("The number is too large")
        return number

    def string(self) -> bytes | None:
        """A quoted string or a literal; None when neither comes next."""
        first = self.text[self.at : self.at + 1]
        if first == b'"':
            match = _QUOTED.match(self.text, self.at)
            if match is None:
                raise ProtocolError("The quoted string is malformed")
            self.at = match.end()
            inner = match[1]
            if not inner.isascii() and self.utf8:
                _check_utf8(inner)
            return _ESCAPED.sub(rb"\1", inner) if b"\\" in inner else inner
        if first == b"{":
            octets = self._literal()
            if b"\0" in octets:
                raise ProtocolError("NUL is not allowed")
            return octets
        return None

    def _literal(self) -> bytes:
        """`{n}` or `~{n}`."""
        match = _LITERAL.match(self.text, self.at)
        if match is None:
            raise ProtocolError("The literal is malformed")
        start = match.end()
        stop = start + int(match[1])
        if stop > len(self.text):
            raise ProtocolError("The literal is malformed")
        self.at = stop
        return self.text[start:stop]

    def string8(self) -> bytes | None:
        """A string, or a literal8 (`~{n}`), which may hold NUL; None when neither comes next."""
        return self._literal() if self.peek(b"~{") else self.string()

    def nstring8(self) -> bytes | None:
        """The same, or NIL as None."""
        octets = self.string8()
        if octets is None and self.word("A string or NIL") != b"NIL":
            raise ProtocolError("A string or NIL expected")
        return octets

    def astring(self, what: str = "A string") -> bytes:
        match = _ASTRING.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return match[0]
        octets = self.string()
        if octets is None:
            raise ProtocolError(f"{what} expected")
        return octets

    def nstring(self) -> bytes | None:
        octets = self.string()
        if octets is None and self.word("A string or NIL") != b"NIL":
            raise ProtocolError("A string or NIL expected")
        return octets

    # -- things with a meaning ----------------------------------------------------------------

    def mailbox(self) -> str:
        """A mailbox name, decoded; INBOX in capitals."""
        return self.mailbox_of(self.astring("A mailbox name"))

    def mailbox_of(self, octets: bytes) -> str:
        """The same, of octets that were read already."""
        try:
            return decode_mailbox(octets, utf8=self.utf8)
        except ValueError as error:
            raise BadMailboxName(f"Mailbox name: {error}") from error

    def pattern(self) -> bytes:
        """list-mailbox: as it stands, wildcards and UTF-7 included."""
        match = _PATTERN.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return match[0]
        octets = self.string()
        if octets is None:
            raise ProtocolError("A mailbox pattern expected")
        return octets

    def sequence_set(self) -> SequenceSet:
        octets = self._match(_SET, "A sequence set")
        try:
            return SequenceSet.parse(octets)
        except ValueError as error:
            raise ProtocolError(f"Sequence set: {error}") from error

    def flag(self) -> bytes:
        """One flag or keyword, as written."""
        return self._match(_FLAG, "A flag")

    def flags(self) -> tuple[Flag, tuple[bytes, ...]]:
        """`(flag flag)`, or flags without parentheses to the end of the line."""
        names = []
        if self.skip(b"("):
            if not self.skip(b")"):
                names.append(self.flag())
                while self.skip(b" "):
                    names.append(self.flag())
                self.expect(b")", "A closing parenthesis")
        else:
            names.append(self.flag())
            while not self.at_end and self.skip(b" "):
                names.append(self.flag())
        return sort_flags(names)

    def day(self) -> date:
        match = _DATE.match(self.text, self.at)
        if match is None:
            raise ProtocolError("A date as in 1-Feb-2026 expected")
        self.at = match.end()
        try:
            return date(int(match[4]), _MONTHS[match[3].lower()], int(match[2]))
        except (KeyError, ValueError) as error:
            raise ProtocolError("There is no such date") from error

    def date_time(self) -> int:
        """A moment, as unix seconds."""
        match = _DATE_TIME.match(self.text, self.at)
        if match is None:
            raise ProtocolError('A date as in " 1-Feb-2026 10:00:00 +0000" expected')
        self.at = match.end()
        try:
            moment = datetime(
                int(match[3]),
                _MONTHS[match[2].lower()],
                int(match[1]),
                int(match[4]),
                int(match[5]),
                min(int(match[6]), 59),
                tzinfo=UTC,
            )
            zone = timedelta(hours=int(match[8]), minutes=int(match[9]))
            moment += zone if match[7] == b"-" else -zone
        except (KeyError, ValueError, OverflowError) as error:
            raise ProtocolError("There is no such date") from error
        return int(moment.timestamp())


def sort_flags(names: list[bytes]) -> tuple[Flag, tuple[bytes, ...]]:
    """System flags as bits, keywords as sorted distinct words.

    Raises: ProtocolError for \\Recent, unknown system flags and too long or too many keywords.
    """
    flags = Flag(0)
    keywords: dict[bytes, bytes] = {}
    for name in names:
        if name.startswith(b"\\"):
            found = FLAG_BY_ATOM.get(name.lower())
            if found is None:
                raise ProtocolError(f"Flag {name.decode('ascii')} cannot be set")
            flags |= found
        elif len(name) > KEYWORD_OCTETS_MAX:
            raise ProtocolError(f"A keyword may have {KEYWORD_OCTETS_MAX} characters")
        else:
            keywords.setdefault(name.lower(), name)
    if len(keywords) > KEYWORDS_PER_MESSAGE_MAX:
        raise ProtocolError(f"A message may have {KEYWORDS_PER_MESSAGE_MAX} keywords")
    return flags, tuple(sorted(keywords.values()))


def _check_utf8(octets: bytes) -> None:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("Quoted strings are UTF-8") from error


def check_depth(depth: int) -> None:
    if depth > limits.IMAP_NESTING_MAX:
        raise ProtocolError("Nested too deeply")
