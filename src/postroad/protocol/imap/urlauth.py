"""GENURLAUTH, URLFETCH and RESETKEY. URLs are left as they stand: `url.parse_url` reads them.

Source: RFC 4467 §7, §9; RFC 5524 §3.1, §5 (what of a URL is wanted).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner

URLS_MAX = 500
"""Of one command. Each is looked up, and hashed."""


class URLItem(Enum):
    """RFC 5524 §3.1."""

    BODY = b"BODY"
    BINARY = b"BINARY"
    STRUCTURE = b"BODYPARTSTRUCTURE"


@dataclass(frozen=True, slots=True)
class GenURLAuth(Command):
    """wanted: URLs that end in their access identifier, each with a mechanism in capitals."""

    wanted: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class WantedURL:
    """items: none for the plain answer of RFC 4467."""

    url: bytes
    items: tuple[URLItem, ...]


@dataclass(frozen=True, slots=True)
class URLFetch(Command):
    wanted: tuple[WantedURL, ...]


@dataclass(frozen=True, slots=True)
class ResetKey(Command):
    """mailbox: None for all."""

    mailbox: str | None
    mechanisms: tuple[bytes, ...]


def parse_genurlauth(tag: bytes, scan: Scanner, uid: bool) -> GenURLAuth:
    wanted: list[tuple[bytes, bytes]] = []
    while not wanted or not scan.at_end:
        scan.space()
        url = scan.astring("A URL")
        scan.space()
        wanted.append((url, scan.word("A mechanism")))
        _check_count(wanted)
    scan.end()
    return GenURLAuth(tag, tuple(wanted))


def parse_urlfetch(tag: bytes, scan: Scanner, uid: bool) -> URLFetch:
    wanted: list[WantedURL] = []
    while not wanted or not scan.at_end:
        scan.space()
        if scan.skip(b"("):
            wanted.append(WantedURL(scan.astring("A URL"), _items(scan)))
        else:
            wanted.append(WantedURL(scan.astring("A URL"), ()))
        _check_count(wanted)
    scan.end()
    return URLFetch(tag, tuple(wanted))


def _items(scan: Scanner) -> tuple[URLItem, ...]:
    """To the closing parenthesis; in the order in which they are answered."""
    items: set[URLItem] = set()
    while not scan.skip(b")"):
        scan.space()
        try:
            item = URLItem(scan.word("BODY, BINARY or BODYPARTSTRUCTURE"))
        except ValueError as error:
            raise ProtocolError("BODY, BINARY or BODYPARTSTRUCTURE expected") from error
        if item in items:
            raise ProtocolError("Each item is asked for once")
        items.add(item)
    if {URLItem.BODY, URLItem.BINARY} <= items:
        raise ProtocolError("BODY and BINARY exclude each other")
    order = (URLItem.STRUCTURE, URLItem.BODY, URLItem.BINARY)
    return tuple(item for item in order if item in items)


def parse_resetkey(tag: bytes, scan: Scanner, uid: bool) -> ResetKey:
    if scan.at_end:
        return ResetKey(tag, None, ())
    scan.space()
    mailbox = scan.mailbox()
    mechanisms: list[bytes] = []
    while not scan.at_end:
        scan.space()
        mechanisms.append(scan.word("A mechanism"))
        _check_count(mechanisms)
    scan.end()
    return ResetKey(tag, mailbox, tuple(mechanisms))


def _check_count(wanted: list[WantedURL] | list[tuple[bytes, bytes]] | list[bytes]) -> None:
    if len(wanted) > URLS_MAX:
        raise ProtocolError("Too many URLs")
