"""CATENATE: a part of the new message is what a URL means on this server.

Source: RFC 4469 §3 (only messages of this session's user, relative to it), §4 (BADURL, TOOBIG);
RFC 5550 §5.7.1 (PARTIAL); RFC 4314 §4 (`r` to read).
"""

from __future__ import annotations

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.url import MessageURL, parse_url
from postroad.service.imapd import places, urls
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.turns import turn
from postroad.store.contract import Draft


async def copy(session: Session, text: bytes, draft: Draft, most: int) -> Answer | None:
    """Adds the octets that the URL means to the draft; most: how many it may still take.

    Returns why not, or None. Raises: Unavailable.
    """
    store = session.site.store
    try:
        url = parse_url(text)
        if url.absolute or url.access is not None:
            raise ProtocolError("Only URLs without a server mean messages of this session")
        place = _place_of(session, url)
        if place is None or not place.allows("r"):
            raise ProtocolError("There is no such mailbox")
        row = urls.find_row(store, place, url)
        if row is None:
            raise ProtocolError("There is no such message")
        extent = await urls.find_part(store, row, url)
        if extent is None:
            raise ProtocolError("The message has no such part")
        if extent.size > most:
            return no("The message is too big", b"TOOBIG")
        async for octets in urls.read(store, extent):
            draft.write(octets)
    except ProtocolError as error:
        return no(str(error), b"BADURL " + urls.told(text))
    await turn()
    return None


def _place_of(session: Session, url: MessageURL) -> Place | None:
    """The mailbox; the selected one for a URL that names none. Raises: ProtocolError."""
    if url.mailbox is not None:
        return places.find(session, url.mailbox)
    if session.view is None:
        raise ProtocolError("The URL names no mailbox, and none is selected")
    return places.by_id(session, session.view.account, session.view.mailbox)
