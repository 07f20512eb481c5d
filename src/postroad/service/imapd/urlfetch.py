"""URLFETCH: what authorized URLs mean, for whom they mean it.

Everything that is wrong with a URL has the same answer, NIL, after the same work: that a user or a
mailbox exists cannot be learned here. The URL is read with the rights its user has now.
Source: RFC 4467 §3, §6, §7; RFC 5524 §3 (BINARY, BODYPARTSTRUCTURE); RFC 5550 §5.7.1 (PARTIAL).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass

from postroad.mail.errors import ProtocolError, Unavailable
from postroad.message.bodypart import Identity, render_part
from postroad.protocol.imap import render
from postroad.protocol.imap.url import Access, MessageURL, Who, parse_url
from postroad.protocol.imap.urlauth import URLFetch, URLItem, WantedURL
from postroad.service.imapd import places, urls
from postroad.service.imapd.binary import Decoded, UnknownEncoding
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.turns import turn
from postroad.service.imapd.urlauth import token
from postroad.service.site import Site
from postroad.store.urls import url_key
from postroad.store.values import MessageRow

SCANNED_OCTETS_MAX = 256 << 10
"""A greater message is scanned for its structure on a thread."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Another user, where `places` asks who is asking."""

    site: Site
    user: int


async def urlfetch(session: Session, command: URLFetch) -> Answer:
    failed = False
    for done, wanted in enumerate(command.wanted):
        try:
            await _one(session, wanted)
        except Unavailable as error:
            if session.partial:
                raise
            failed = True
            session.site.trace(
                IMAPCommandDeferred(session=session.id, command="URLFetch", what=error.what)
            )
        if session.is_full:
            await session.flush()
        await session.progress(done, len(command.wanted))
        await turn()
    if failed:
        return no("Some URLs cannot be read now", b"UNAVAILABLE")
    return Answer("Fetched")


async def _one(session: Session, wanted: WantedURL) -> None:
    """One URLFETCH response."""
    start = b"* URLFETCH " + render.string(wanted.url)
    found = _authorized(session, wanted.url)
    if found is None:
        session.put(start + b" NIL\r\n")
        return
    url, row = found
    if not wanted.items:
        await _body(session, start + b" ", url, row, b"\r\n")
        return
    for item in wanted.items:
        start += b" (%b " % item.value
        last = b")\r\n" if item is wanted.items[-1] else b""
        match item:
            case URLItem.STRUCTURE:
                start += await _structure(session, url, row, wanted.items) + b")"
                if last:
                    session.put(start, b"\r\n")
            case URLItem.BODY:
                await _body(session, start, url, row, last)
            case URLItem.BINARY:
                await _binary(session, start, url, row, last)


# -- who may ------------------------------------------------------------------------------------


def _authorized(session: Session, text: bytes) -> tuple[MessageURL, MessageRow] | None:
    """The message, when the URL is in force and is for this session."""
    try:
        url = parse_url(text)
    except ProtocolError:
        return None
    if not url.absolute or url.mailbox is None or url.access is None or url.verifier is None:
        return None
    site = session.site
    if url.expires is not None and site.clock.now().timestamp() > url.expires:
        return None
    place, key = _key(session, url.user, url.mailbox)
    right = hmac.compare_digest(token(key, url.rump), url.verifier.token.lower())
    if url.verifier.mechanism != "INTERNAL" or not right or place is None:
        return None
    if not _is_for(session, url.access):
        return None
    row = urls.find_row(site.store, place, url)
    return None if row is None else (url, row)


def _key(session: Session, user: str, mailbox: str) -> tuple[Place | None, bytes]:
    """The mailbox as its user may read it now, and his key; else a key that fits nothing."""
    site = session.site
    plausible = site.secret.reveal()
    owner = site.directory.account(user)
    if owner is None:
        return None, plausible
    place = places.find(_Owner(site, owner.account), mailbox)
    if place is None or not place.allows("r"):
        return None, plausible
    key = url_key(site.database, place.account, place.mailbox.mailbox, owner.account)
    return (None, plausible) if key is None else (place, key)


def _is_for(session: Session, access: Access) -> bool:
    """Nobody is anonymous here: who has a session has logged in as a user."""
    match access.who:
        case Who.ANONYMOUS | Who.AUTHUSER:
            return True
        case Who.USER:
            named = session.site.directory.account(access.user)
            return named is not None and named.account == session.user
        case Who.SUBMIT:
            assert session.account is not None, "the core lets nobody here before login"
            return session.account.address.lower() in session.site.url_submitters


# -- what it is ---------------------------------------------------------------------------------


async def _body(
    session: Session, start: bytes, url: MessageURL, row: MessageRow, end: bytes
) -> None:
    """The octets as they are; "" for a part that is not there (RFC 4467 §8)."""
    extent = await urls.find_part(session.site.store, row, url)
    if extent is None:
        session.put(start, b'""', end)
        return
    head = start + b"{%d}\r\n" % extent.size
    await _stream(session, head, urls.read(session.site.store, extent), end)


async def _binary(
    session: Session, start: bytes, url: MessageURL, row: MessageRow, end: bytes
) -> None:
    if url.section.what:  # headers and texts have no encoding of their own
        await _body(session, start, url, row, end)
        return
    try:
        part = _decoded(session, url, row)
    except UnknownEncoding:
        session.put(start, b"NIL", end)
        return
    if part is None:
        session.put(start, b'""', end)
        return
    measure = await part.measure()
    begin, stop = 0, measure.octets
    if url.start >= 0:
        begin = min(url.start, stop)
        stop = stop if url.length < 0 else min(begin + url.length, stop)
    kind = b"~" if measure.has_nul else b""
    head = start + b"%b{%d}\r\n" % (kind, stop - begin)
    await _stream(session, head, part.pieces(begin, stop), end)


def _decoded(session: Session, url: MessageURL, row: MessageRow) -> Decoded | None:
    """Raises: UnknownEncoding."""
    store = session.site.store

    def read(start: int, stop: int) -> bytes:
        octets = store.octets_range(row, start, stop)
        if len(octets) != stop - start:
            raise Unavailable(f"message of uid {row.uid}: its octets end early")
        return octets

    return Decoded.of(store, row, url.section.path, read)


async def _stream(session: Session, head: bytes, octets: AsyncIterator[bytes], end: bytes) -> None:
    """Nothing is said before the first octets are there; from then on it is said to its end."""
    async for piece in octets:
        session.put(head, piece)
        head = b""
        session.partial = True
        if session.is_full:
            await session.flush()
    session.put(head, end)
    session.partial = False


async def _structure(
    session: Session, url: MessageURL, row: MessageRow, items: tuple[URLItem, ...]
) -> bytes:
    """Of what is sent: with BINARY, of the part without its encoding (RFC 5524 §3.2)."""
    identity = None
    if URLItem.BINARY in items and url.section.path and not url.section.what:
        identity = await _identity(session, url, row)
    octets = session.site.store.octets(row)
    asked = (octets, url.section.path, identity)
    if len(octets) > SCANNED_OCTETS_MAX:
        found = await asyncio.to_thread(render_part, *asked)
    else:
        found = render_part(*asked)
    return found or b"NIL"


async def _identity(session: Session, url: MessageURL, row: MessageRow) -> Identity | None:
    try:
        part = _decoded(session, url, row)
    except UnknownEncoding:
        return None
    if part is None:
        return None
    measure = await part.measure()
    lines, ascii_only = 0, True
    async for piece in part.pieces(0, measure.octets):
        lines += piece.count(b"\n")
        ascii_only = ascii_only and piece.isascii()
    plain = b"7BIT" if ascii_only else b"8BIT"
    return Identity(b"BINARY" if measure.has_nul else plain, measure.octets, lines)
