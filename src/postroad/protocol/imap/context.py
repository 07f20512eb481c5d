"""CANCELUPDATE: no more news of a search.

Source: RFC 5267 §4.3.5, §5.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner

TAGS_MAX = 100
"""Of one command; a session keeps far fewer searches up to date."""


@dataclass(frozen=True, slots=True)
class CancelUpdate(Command):
    """tags: of the commands that asked for updates."""

    tags: tuple[bytes, ...]


def parse_cancelupdate(tag: bytes, scan: Scanner, uid: bool) -> CancelUpdate:
    tags: list[bytes] = []
    while not tags or not scan.at_end:
        scan.space()
        named = scan.string()
        if named is None:
            raise ProtocolError("A quoted tag expected")
        tags.append(named)
        if len(tags) > TAGS_MAX:
            raise ProtocolError("Too many tags")
    scan.end()
    return CancelUpdate(tag, tuple(tags))
