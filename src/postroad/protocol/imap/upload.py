"""The literals of one APPEND or REPLACE, streamed; the text between them, cut and read.

Knows the connection's buffer, no socket and no store. Input: hostile octets, cut anywhere; what
is kept of them is one line with the short strings in it, never a message. A command that is
spoilt half-way is given back (`Lost`) to be read to its end and answered.
Source: RFC 3501 §2.2.1, §4.3; RFC 7888 §3-5; RFC 3502 §6.3.11.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.protocol.imap.append import LITERAL, Grammar, Item, Stop
from postroad.protocol.imap.events import (
    NEED_DATA,
    AppendData,
    AppendEnd,
    Bad,
    Continue,
    LiteralPart,
    NeedData,
)
from postroad.protocol.imap.scanner import Declined, Scanner

_HEAD_MAX = 32
"""Octets in which the announcement of a literal ends a line."""


class Lost(Exception):
    """The command is spoilt; bad: its answer, when its end has come."""

    def __init__(self, bad: Bad) -> None:
        super().__init__(bad.text)
        self.bad = bad


class Upload:
    """at: where in the buffer the command's arguments begin, its space included.

    `line_start`, `literals`, `scanned`: as in the connection, which goes on from there when the
    command is lost.
    """

    __slots__ = (
        "_at", "_enabled", "_grammar", "_items", "_left", "line_start", "literals", "scanned",
        "undecided",
    )  # fmt: skip

    def __init__(self, grammar: Grammar, at: int, enabled: AbstractSet[bytes]) -> None:
        self._grammar = grammar
        self._at = at
        self._enabled = enabled
        self._items: deque[Item | Continue] = deque()
        self._left = 0
        """Octets still to come of the literal that was accepted."""
        self.line_start = self.literals = self.scanned = 0
        self.undecided: LiteralPart | None = None

    def next_event(
        self, buffer: bytearray, take: Callable[[int], bytes]
    ) -> Item | Continue | AppendData | NeedData:
        """take: octets up to a place, which leave the buffer. Raises: Lost."""
        while not self._items:
            if self.undecided is not None:
                raise LocalProtocolError("a literal waits for its decision")
            if self._left:
                if not buffer:
                    return NEED_DATA
                octets = take(min(self._left, len(buffer)))
                self._left -= len(octets)
                return AppendData(octets)
            if not self._collect(buffer, take):
                return NEED_DATA
        item = self._items.popleft()
        if isinstance(item, LiteralPart):
            self.undecided = item
        return item

    def accept(self) -> bytes:
        """The announced literal is wanted. Returns what to write first."""
        literal, self.undecided = self.undecided, None
        if literal is None:
            raise LocalProtocolError("there is no literal to accept")
        self._left = literal.size
        return b"+ Ready for the message\r\n" if literal.synchronizing else b""

    def remainder(self) -> tuple[int, bool]:
        """Of a command that is given up: octets of a literal still to come, and whether the end
        of the command's text has come already."""
        waiting = self.undecided
        if waiting is None and self._items:
            last = self._items[-1]
            if isinstance(last, AppendEnd):
                return 0, True
            if isinstance(last, LiteralPart):
                waiting = last
        if waiting is None:
            return self._left, False
        return (0, True) if waiting.synchronizing else (waiting.size, False)

    # -- text -----------------------------------------------------------------------------------

    def _collect(self, buffer: bytearray, take: Callable[[int], bytes]) -> bool:
        """Reads the text that has come; False: its line's end is missing."""
        if len(buffer) < self.line_start:
            return False
        end = buffer.find(b"\n", max(self.scanned, self.line_start)) + 1
        if (end or len(buffer)) - self.literals > limits.IMAP_LINE_OCTETS_MAX:
            raise self._lost("The command line is too long", b"TOOBIG")
        if not end:
            self.scanned = len(buffer)
            return False
        if buffer[end - 2 : end - 1] != b"\r":
            line = bytes(buffer[max(self.line_start, end - _HEAD_MAX) : end - 1]) + b"\r\n"
            fatal = LITERAL.search(line) is not None
            raise self._lost("Lines end in CRLF", fatal=fatal)
        scan = Scanner(bytes(buffer[:end]), self._at, self._enabled)
        found: list[Item] = []
        try:
            stop = self._grammar.read(scan, found)
        except Declined as error:
            raise self._lost(str(error), error.code, no=error.no) from error
        except ProtocolError as error:
            raise self._lost(str(error)) from error
        self._items.extend(found)
        if stop is Stop.STRING:
            self._string(scan, end, take)
        else:
            take(end)
            self._at = self.line_start = self.literals = self.scanned = 0
        return True

    def _string(self, scan: Scanner, end: int, take: Callable[[int], bytes]) -> None:
        """The line ends in the literal of a mailbox name or URL: it stays in the buffer."""
        announced = LITERAL.search(scan.text, max(self.line_start, end - _HEAD_MAX))
        assert announced is not None, "the grammar has seen it"
        size = int(announced[2])
        if self.literals + size > limits.IMAP_LITERAL_OCTETS_MAX:
            raise self._lost("The literal is too long", b"TOOBIG", no=True)
        if scan.at:  # what stands before the argument is read and goes
            take(scan.at)
            end -= scan.at
            self._at = self.literals = 0
        self.literals += size
        self.line_start = self.scanned = end + size
        if not announced[3]:
            self._items.append(Continue())

    def _lost(self, text: str, code: bytes = b"", *, no: bool = False, fatal: bool = False) -> Lost:
        return Lost(Bad(self._grammar.tag, text, code, no, fatal))
