"""The client's side of IMAP: octets of a server in, responses as values out; commands as octets.

Small literals become part of their response. Great ones are handed on as they come
(`LiteralBegins`, `LiteralData`), and stand in the response as a `Literal` with their number. A
server is hostile too: lines, nesting and what a response holds are bounded.
Owns no socket. Knows no mailbox: what responses mean is the caller's.
Source: RFC 3501 §7, §9; RFC 9051 §9; RFC 3516 §4.2 (literal8), RFC 7888 §4 (LITERAL+, LITERAL-).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.names import encode_utf7

LINE_OCTETS_MAX = 32 << 20
"""SEARCH of 3,000,000 messages in one line."""
SMALL_LITERAL_OCTETS = 16 << 10
RESPONSE_LITERALS_MAX = 64
NESTING_MAX = 200
LITERAL_OCTETS_MAX = 1 << 40
NAME_OCTETS_MAX = 4000
"""Of a mailbox in quotes: servers take lines of 8000 octets."""
LITERAL_MINUS_OCTETS_MAX = 4096
"""RFC 7888 §5."""

_LITERAL = re.compile(rb"~?\{(\d{1,15})\}\r?\n\Z")
_TOKEN = re.compile(
    rb"(?P<open>\()|(?P<close>\))|\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|\x00(?P<literal>\d+)\x00"
    rb"|(?P<atom>(?:[^\x00()\" \[]|\[[^\]]*\])+)",
    re.DOTALL,
)
_SPACES = re.compile(rb" *")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_CODE = re.compile(rb"\[([A-Za-z0-9.\-_/]+)(?: ((?:[^\]\"]|\"(?:[^\"\\]|\\.)*\")*))?\] ?")
_STATES = (b"OK", b"NO", b"BAD", b"PREAUTH", b"BYE")
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")


@dataclass(frozen=True, slots=True)
class Literal:
    """The place of a great literal in its response: its number in it, from 0."""

    number: int


Value: TypeAlias = "bytes | Literal | list[Value] | None"
"""An atom or string, a list; None is NIL."""


@dataclass(frozen=True, slots=True)
class Condition:
    """OK, NO, BAD, BYE, PREAUTH. tag: b"*" for an untagged one."""

    tag: bytes
    state: bytes
    code: bytes
    arguments: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """An untagged response. name: in capitals; number: of `* 5 FETCH`, else 0."""

    name: bytes
    number: int
    values: list[Value]


@dataclass(frozen=True, slots=True)
class Continuation:
    text: bytes


@dataclass(frozen=True, slots=True)
class LiteralBegins:
    """A great literal: its octets come as `LiteralData`, then its response goes on."""

    number: int
    size: int


@dataclass(frozen=True, slots=True)
class LiteralData:
    octets: bytes


Response: TypeAlias = Condition | Data | Continuation | LiteralBegins | LiteralData


class IMAPClient:
    """One connection: `receive_data`, then `next_event` until it is None (more octets, please)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._small: list[bytes | Literal] = []
        self._left = 0
        self._collected: bytearray | None = None
        self._tag = 0

    # -- commands -----------------------------------------------------------------------------

    def tag(self) -> bytes:
        self._tag += 1
        return b"P%d" % self._tag

    # -- responses ----------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        self._buffer += octets

    @property
    def is_idle(self) -> bool:
        """Whether nothing is there that has not been told."""
        return not self._buffer and not self._pieces

    def next_event(self) -> Response | None:
        """Raises: ProtocolError."""
        while True:
            if self._left:
                event = self._literal()
                if event is not None or self._left:
                    return event
                continue
            line = self._line()
            if line is None:
                return None
            found = _LITERAL.search(line)
            if found is None:
                return self._whole(line)
            begins = self._begin(line[: found.start()], int(found[1]))
            if begins is not None:
                return begins

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if self._scanned + self._size > LINE_OCTETS_MAX:
                raise ProtocolError("the server sends a line without an end")
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def _begin(self, text: bytes, size: int) -> LiteralBegins | None:
        number = len(self._small)
        if number >= RESPONSE_LITERALS_MAX or size > LITERAL_OCTETS_MAX:
            raise ProtocolError("the server sends too many literals, or too long ones")
        self._keep(text)
        self._keep(b" \0%d\0 " % number)
        self._left = size
        if size > SMALL_LITERAL_OCTETS:
            self._small.append(Literal(number))
            return LiteralBegins(number, size)
        self._collected = bytearray()
        if not size:
            self._end_literal()
        return None

    def _keep(self, text: bytes) -> None:
        self._size += len(text)
        if self._size > LINE_OCTETS_MAX:
            raise ProtocolError("the server sends a response that is too long")
        self._pieces.append(text)

    def _literal(self) -> LiteralData | None:
        octets = bytes(self._buffer[: self._left])
        if not octets:
            return None
        del self._buffer[: len(octets)]
        self._left -= len(octets)
        if self._collected is None:
            return LiteralData(octets)
        self._collected += octets
        if not self._left:
            self._end_literal()
        return None

    def _end_literal(self) -> None:
        assert self._collected is not None
        self._small.append(bytes(self._collected))
        self._collected = None

    def _whole(self, line: bytes) -> Response:
        self._keep(line.rstrip(b"\r\n"))
        text = b"".join(self._pieces)
        literals, self._small = self._small, []
        self._pieces, self._size = [], 0
        if text.startswith(b"+"):
            return Continuation(text[2:])
        tag, _, rest = text.partition(b" ")
        word, _, more = rest.partition(b" ")
        state = word.upper()
        if state in _STATES:
            return _condition(tag, state, more)
        if tag != b"*":
            raise ProtocolError(f"the server says {text[:80]!r}, which is no response")
        if word.isdigit() and len(word) < 11:
            number, word, more = int(word), *_split(more)
            return Data(word.upper(), number, parse_values(more, literals))
        return Data(state, 0, parse_values(more, literals))


def _split(text: bytes) -> tuple[bytes, bytes]:
    word, _, more = text.partition(b" ")
    return word, more


def _condition(tag: bytes, state: bytes, text: bytes) -> Condition:
    code = _CODE.match(text)
    if code is None:
        return Condition(tag, state, b"", b"", text.decode("utf-8", "replace"))
    words = text[code.end() :].decode("utf-8", "replace")
    return Condition(tag, state, code[1].upper(), code[2] or b"", words)


def parse_values(text: bytes, literals: list[bytes | Literal]) -> list[Value]:
    """Atoms, strings, lists. Raises: ProtocolError."""
    top: list[Value] = []
    stack: list[list[Value]] = []
    current = top
    at = 0
    while True:
        spaces = _SPACES.match(text, at)
        assert spaces is not None
        at = spaces.end()
        if at >= len(text):
            break
        found = _TOKEN.match(text, at)
        if found is None:
            raise ProtocolError(f"the server says {text[at : at + 40]!r}, which is not IMAP")
        at = found.end()
        match found.lastgroup:
            case "open":
                if len(stack) >= NESTING_MAX:
                    raise ProtocolError("the server nests lists too deeply")
                stack.append(current)
                inner: list[Value] = []
                current.append(inner)
                current = inner
            case "close":
                if not stack:
                    raise ProtocolError("the server closes a list that it has not opened")
                current = stack.pop()
            case "quoted":
                current.append(_QUOTED_PAIR.sub(rb"\1", found["quoted"]))
            case "literal":
                number = int(found["literal"])
                if number >= len(literals):
                    raise ProtocolError("the server sends NUL in a line")
                current.append(literals[number])
            case _:
                atom = found["atom"]
                current.append(None if atom.upper() == b"NIL" else atom)
    if stack:
        raise ProtocolError("the server does not close a list")
    return top


# -- commands -----------------------------------------------------------------------------------


def render_string(octets: bytes, capabilities: frozenset[bytes]) -> list[bytes]:
    """An astring in pieces: the connection waits for `+` after each but the last."""
    if _ATOM.match(octets) and octets.upper() != b"NIL":
        return [octets]
    if octets.isascii() and not re.search(rb"[\0\r\n]", octets) and len(octets) < 1000:
        return [b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"']
    begin = literal_begin(len(octets), capabilities)
    if begin.endswith(b"+}\r\n"):
        return [begin + octets]
    return [begin, octets]


def literal_begin(size: int, capabilities: frozenset[bytes], *, binary: bool = False) -> bytes:
    """`{n}` and CRLF, or `{n+}` where the server takes it unasked. RFC 7888 §4, §5."""
    unasked = b"LITERAL+" in capabilities or (
        b"LITERAL-" in capabilities and size <= LITERAL_MINUS_OCTETS_MAX
    )
    return b"%b{%d%b}\r\n" % (b"~" if binary else b"", size, b"+" if unasked else b"")


def render_mailbox(name: str, capabilities: frozenset[bytes]) -> list[bytes]:
    """A mailbox name as every server understands it, in modified UTF-7."""
    octets = encode_utf7(name)
    if octets and octets.isascii() and len(octets) < NAME_OCTETS_MAX:
        return [b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"']
    return render_string(octets, capabilities)
