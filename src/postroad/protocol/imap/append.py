"""APPEND: everything before the message's literal.

Source: RFC 3501 §6.3.11, RFC 7888 §3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import Flag
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner

_MESSAGE_LITERAL = re.compile(rb"\{(\d{1,10})(\+?)\}\r\n\Z")


@dataclass(frozen=True, slots=True)
class Append(Command):
    """internal_date: unix seconds; None: the moment of arrival. size: of the literal that follows.

    synchronizing: the client waits for a continuation before it sends the literal.
    """

    mailbox: str
    flags: Flag
    keywords: tuple[bytes, ...]
    internal_date: int | None
    size: int
    synchronizing: bool


def parse_append(tag: bytes, scan: Scanner) -> Append | None:
    """The command up to its message literal.

    None: the literal at the end of the text is the mailbox name's; there is more to come.
    Raises: ProtocolError.
    """
    if _MESSAGE_LITERAL.match(scan.text, scan.at) is not None:
        return None
    mailbox = scan.mailbox()
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
    literal = _MESSAGE_LITERAL.match(scan.text, scan.at)
    if literal is None:
        raise ProtocolError("A message literal expected")
    size, plus = int(literal[1]), literal[2]
    return Append(tag, mailbox, flags, keywords, internal_date, size, not plus)
