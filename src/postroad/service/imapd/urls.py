"""What a URL means in the store: octets of one message, found and read in pieces.

Knows no command. Who may use the URL is the caller's to judge; `place` is the mailbox as that
user sees it.
Source: RFC 5092 §6 (UIDVALIDITY, SECTION, PARTIAL), RFC 3501 §6.4.5 (sections).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.message.section import filter_header, locate
from postroad.protocol.imap.url import URL_OCTETS_MAX, MessageURL
from postroad.service.imapd.places import Place
from postroad.service.imapd.turns import turn
from postroad.store.contract import Store
from postroad.store.values import MessageRow, Want

PIECE_OCTETS = 128 << 10
LOOP_OCTETS_MAX = 256 << 10
"""Header fields are picked out of more than this on a thread."""
_UNTELLABLE = re.compile(rb"[^\x21-\x5b\x5e-\x7e]")


@dataclass(frozen=True, slots=True)
class Extent:
    """[start, stop) of a message, or `octets` cut out of it already."""

    row: MessageRow
    start: int
    stop: int
    octets: bytes | None = None

    @property
    def size(self) -> int:
        return self.stop - self.start


def find_row(store: Store, place: Place, url: MessageURL) -> MessageRow | None:
    """The message, with all that is needed to read it; None: there is none such."""
    mailbox = place.mailbox
    if url.uidvalidity not in (0, mailbox.uidvalidity):
        return None
    wanted = UIDSet(((url.uid, url.uid),))
    want = Want.OCTETS | Want.HEADER
    for rows in store.messages(mailbox.account, mailbox.mailbox, wanted, want):
        for row in rows:
            return row
    return None


async def find_part(store: Store, row: MessageRow, url: MessageURL) -> Extent | None:
    """The octets that the URL means; None: there is no such part. Raises: Unavailable."""
    section = url.section
    assert row.structure is not None and row.header is not None, "read by find_row"
    if not section.path and not section.what:
        span: tuple[int, int] | None = (0, row.size)
    else:
        span = locate(row.structure, section.path, section.what)
    if span is None:
        return None
    start, stop = span
    octets: bytes | None = None
    if section.fields is not None:
        header = row.header if not section.path else store.octets_range(row, start, stop)
        cut = (header, section.fields, section.exclude)
        if len(header) > LOOP_OCTETS_MAX:
            octets = await asyncio.to_thread(filter_header, *cut)
        else:
            octets = filter_header(*cut)
        start, stop = 0, len(octets)
    if url.start >= 0:
        begin, whole = start, stop
        start = min(begin + url.start, whole)
        stop = whole if url.length < 0 else min(start + url.length, whole)
    if octets is not None:
        octets = octets[start:stop]
    return Extent(row, start, stop, octets)


async def read(store: Store, extent: Extent) -> AsyncIterator[bytes]:
    """The octets, some at a time. Raises: Unavailable."""
    if extent.octets is not None:
        yield extent.octets
        return
    start = extent.start
    while start < extent.stop:
        end = min(start + PIECE_OCTETS, extent.stop)
        octets = store.octets_range(extent.row, start, end)
        if len(octets) != end - start:
            raise Unavailable(f"message of uid {extent.row.uid}: its octets end early")
        yield octets
        start = end
        await turn()


def told(url: bytes) -> bytes:
    """A URL as a response code can hold it (RFC 4469 §5, url-resp-text)."""
    return _UNTELLABLE.sub(lambda match: b"%%%02X" % match[0][0], url[:URL_OCTETS_MAX]) or b'""'
