"""APPEND and REPLACE: the text between the literals.

The command is read as it comes, up to each literal in turn; `Grammar` remembers where in it the
text has come to. Knows no buffer: `upload.Upload` cuts the text.
Source: RFC 3501 §6.3.11, RFC 3502 §6.3.11 (several messages), RFC 4466 §2.7 and RFC 3516 §4.4
(literal8), RFC 4469 §3, §5 (CATENATE), RFC 6855 §4 (UTF8), RFC 8508 §5 (REPLACE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import Flag
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.events import AppendEnd, LiteralPart, MessageBegins, URLPart
from postroad.protocol.imap.scanner import Declined, Scanner
from postroad.protocol.imap.sequence import STAR

MESSAGES_MAX = 10_000
"""Of one APPEND: migration tools send some thousand; what is known of each waits in memory."""
PARTS_MAX = 1_000
"""Of one CATENATE: a message with a part for each of its attachments has some tens."""
LITERAL = re.compile(rb"(~?)\{(\d{1,20})(\+?)\}\r\n\Z")
"""A literal is announced at the end of the text."""


@dataclass(frozen=True, slots=True)
class Append(Command):
    """The messages follow as events, to `AppendEnd` or `Bad`."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Replace(Command):
    """The same, with one message. uid: `message` is a UID; else a number or STAR."""

    uid: bool
    message: int
    mailbox: str


Item: TypeAlias = Append | Replace | MessageBegins | LiteralPart | URLPart | AppendEnd


class Stop(Enum):
    """Why the text was read no further."""

    LITERAL = 0
    """The last item is the literal announced at the text's end."""
    STRING = 1
    """The literal announced there is the string of an argument: its octets are missing."""
    END = 2


class _Where(Enum):
    MAILBOX = 0
    NEXT = 1
    """A message, or the end."""
    PART = 2
    PART_END = 3
    UTF8_END = 4
    PART_UTF8_END = 5


class Grammar:
    """One command on its way. verb: b"APPEND" or b"REPLACE"; uid: it came as UID REPLACE."""

    __slots__ = ("_messages", "_parts", "_where", "tag", "uid", "verb")

    def __init__(self, tag: bytes, verb: bytes, uid: bool) -> None:
        self.tag = tag
        self.verb = verb
        self.uid = uid
        self._where = _Where.MAILBOX
        self._messages = 0
        self._parts = 0

    def read(self, scan: Scanner, items: list[Item]) -> Stop:
        """Adds what the text says. After STRING, `scan.at` is where to read on with more of it.

        Raises: ProtocolError.
        """
        while True:
            begin = scan.at
            match self._where:
                case _Where.MAILBOX:
                    stop = self._mailbox(scan, items)
                case _Where.NEXT:
                    stop = self._next(scan, items)
                case _Where.PART:
                    stop = self._part(scan, items)
                case _Where.PART_END:
                    self._part_end(scan)
                    stop = None
                case _Where.UTF8_END:
                    scan.expect(b")", "A closing parenthesis")
                    self._where, stop = _Where.NEXT, None
                case _Where.PART_UTF8_END:
                    scan.expect(b")", "A closing parenthesis")
                    self._where, stop = _Where.PART_END, None
            if stop is Stop.STRING:
                scan.at = begin
            if stop is not None:
                return stop

    def _mailbox(self, scan: Scanner, items: list[Item]) -> Stop | None:
        message = STAR
        scan.space()
        if self.verb == b"REPLACE":
            if self.uid or not scan.skip(b"*"):
                message = scan.number()
                if not message:
                    raise ProtocolError("Numbers go from 1 to 4294967295")
            scan.space()
        if LITERAL.match(scan.text, scan.at) is not None:
            return Stop.STRING
        mailbox = scan.mailbox()
        if self.verb == b"REPLACE":
            items.append(Replace(self.tag, self.uid, message, mailbox))
        else:
            items.append(Append(self.tag, mailbox))
        self._where = _Where.NEXT
        return None

    def _next(self, scan: Scanner, items: list[Item]) -> Stop | None:
        if self._messages:
            if scan.text[scan.at :] in (b"\r\n", b" \r\n"):
                items.append(AppendEnd())
                return Stop.END
            if self.verb == b"REPLACE":
                raise ProtocolError("One message is replaced by one")
        if self._messages == MESSAGES_MAX:
            raise Declined("These are too many messages for one command", b"LIMIT", no=True)
        self._messages += 1
        self._parts = 0
        scan.space()
        flags = Flag(0)
        keywords: tuple[bytes, ...] = ()
        if scan.peek(b"("):
            flags, keywords = scan.flags()
            scan.space()
        internal_date = None
        if scan.peek(b'"'):
            internal_date = scan.date_time()
            scan.space()
        items.append(MessageBegins(flags, keywords, internal_date))
        return self._data(scan, items)

    def _data(self, scan: Scanner, items: list[Item]) -> Stop | None:
        if scan.peek(b"{") or scan.peek(b"~"):
            self._where = _Where.NEXT
            return _literal(scan, items, whole=True)
        match scan.word("A message literal"):
            case b"CATENATE":
                scan.expect(b" (", "A list of parts")
                self._where = _Where.PART
                return None
            case b"UTF8":
                scan.expect(b" (~", "A literal8 in parentheses")
                scan.at -= 1
                self._where = _Where.UTF8_END
                return _literal(scan, items, whole=True)
        raise ProtocolError("A message literal expected")

    def _part(self, scan: Scanner, items: list[Item]) -> Stop | None:
        if self._parts == PARTS_MAX:
            raise Declined("These are too many parts for one message", b"LIMIT", no=True)
        kind = scan.word("TEXT or URL")
        scan.space()
        stop: Stop | None = None
        match kind:
            case b"TEXT":
                self._where = _Where.PART_END
                stop = _literal(scan, items, whole=False)
            case b"URL":
                if LITERAL.match(scan.text, scan.at) is not None:
                    return Stop.STRING
                items.append(URLPart(scan.astring("A URL")))
                self._where = _Where.PART_END
            case b"UTF8":
                scan.expect(b"(~", "A literal8 in parentheses")
                scan.at -= 1
                self._where = _Where.PART_UTF8_END
                stop = _literal(scan, items, whole=False)
            case _:
                raise ProtocolError("TEXT or URL expected")
        self._parts += 1
        return stop

    def _part_end(self, scan: Scanner) -> None:
        if scan.skip(b" "):
            self._where = _Where.PART
        else:
            scan.expect(b")", "A closing parenthesis")
            self._where = _Where.NEXT


def _literal(scan: Scanner, items: list[Item], *, whole: bool) -> Stop:
    match = LITERAL.match(scan.text, scan.at)
    if match is None:
        raise ProtocolError("A literal expected")
    items.append(
        LiteralPart(
            size=int(match[2]),
            synchronizing=not match[3],
            binary=bool(match[1]),
            whole=whole,
        )
    )
    return Stop.LITERAL
