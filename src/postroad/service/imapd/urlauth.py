"""URLs that carry authorization: GENURLAUTH makes them, RESETKEY makes them void.

A token says: the user in the URL lets whoever the access identifier means read these octets. It is
an HMAC under a key of that user for that mailbox. The first two digits name the algorithm, so that
another can come beside it (RFC 4467 §2.4.1).
Source: RFC 4467 §2, §3, §5, §6, §7.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap import render
from postroad.protocol.imap.url import MessageURL, parse_url
from postroad.protocol.imap.urlauth import GenURLAuth, ResetKey
from postroad.service.imapd import places
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.turns import turn
from postroad.store import urls

INTERNAL = b"INTERNAL"
ALGORITHM = b"01"
"""HMAC-SHA-256."""
NO_MECHANISM = no("INTERNAL is the only mechanism", b"CANNOT")
KEYS_RESET = b"URLMECH INTERNAL"


def token(key: bytes, rump: bytes) -> bytes:
    return ALGORITHM + hmac.digest(key, rump, "sha256").hex().encode()


async def genurlauth(session: Session, command: GenURLAuth) -> Answer:
    """RFC 4467 §7: whatever is wrong with a URL is answered BAD, and then none is made."""
    if any(mechanism != INTERNAL for _, mechanism in command.wanted):
        return NO_MECHANISM
    granted = []
    for text, _ in command.wanted:
        url, place = _own(session, text)
        key = await key_for(session, place)
        granted.append(b"%b:internal:%b" % (text, token(key, url.rump)))
        await turn()
    session.put(b"* GENURLAUTH %b\r\n" % b" ".join(map(render.string, granted)))
    return Answer("Made")


def _own(session: Session, text: bytes) -> tuple[MessageURL, Place]:
    """A URL of this user, as it is before it is authorized. Raises: ProtocolError."""
    url = parse_url(text)
    if not url.absolute or not url.user or url.mailbox is None:
        raise ProtocolError("The URL lacks its server, or the user whose mailbox it is")
    if url.access is None or url.verifier is not None:
        raise ProtocolError("The URL ends in ;URLAUTH= and an access identifier")
    owner = session.site.directory.account(url.user)
    if owner is None or owner.account != session.user:
        raise ProtocolError("The URL is of another user")
    place = places.find(session, url.mailbox)
    if place is None or not place.allows("r"):
        raise ProtocolError("There is no such mailbox")
    if url.uidvalidity not in (0, place.mailbox.uidvalidity):
        raise ProtocolError("The mailbox has another UIDVALIDITY")
    return url, place


async def key_for(session: Session, place: Place, *, anew: bool = False) -> bytes:
    """The user's key for a mailbox; made when there is none. Raises: StateError, Unavailable."""
    site = session.site
    if not anew:
        known = urls.url_key(site.database, place.account, place.mailbox.mailbox, session.user)
        if known is not None:
            return known
    fresh = site.clock.random_bits(urls.KEY_BITS).to_bytes(urls.KEY_BITS // 8, "big")
    [key] = await site.database.submit(
        urls.KeepURLKey(
            account=place.account,
            mailbox=place.mailbox.mailbox,
            reader=session.user,
            key=fresh,
            anew=anew,
        )
    )
    assert isinstance(key, bytes), "the operation says so"
    return key


async def resetkey(session: Session, command: ResetKey) -> Answer:
    view = session.view
    if command.mailbox is None:
        await session.site.database.submit(urls.ForgetURLKeys(reader=session.user))
        return Answer("All keys are removed")
    if not _knows(command.mechanisms):
        return NO_MECHANISM
    place = places.need(session, command.mailbox, "r")
    await key_for(session, place, anew=True)
    if view is not None and view.is_of(place.mailbox):
        session.rekeyed = session.dirty = True
    return Answer("The key is new", KEYS_RESET)


def _knows(mechanisms: Iterable[bytes]) -> bool:
    return all(mechanism == INTERNAL for mechanism in mechanisms)
