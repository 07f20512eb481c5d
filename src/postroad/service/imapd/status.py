"""STATUS: counters of a mailbox, as of one commit.

Source: RFC 3501 §6.3.10, §7.2.4; RFC 4314 §4 (`r`); RFC 7162 §3.1.7; RFC 7889 §3.2; RFC 8438;
RFC 8474 §4.2 (MAILBOXID); RFC 9051 §6.3.11; RFC 9208 §4.1.4 (DELETED, DELETED-STORAGE).
"""

from __future__ import annotations

import asyncio

from postroad.protocol.imap.mailboxes import Status
from postroad.service.imapd import places, recent
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.objectid import mailbox_id
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session
from postroad.store.values import Mailbox

THREAD_MESSAGES_MIN = 2000
"""Summing up what is deleted among fewer takes half a millisecond: not worth a thread."""


async def status(session: Session, command: Status) -> Answer:
    place = places.need(session, command.mailbox, "r")
    if b"HIGHESTMODSEQ" in command.items:
        enable_condstore(session)
    session.put(await status_of(session, place, command.items))
    return Answer("Done")


async def status_of(session: Session, place: Place, items: tuple[bytes, ...]) -> bytes:
    """The response; what takes long is worked out on a thread."""
    mailbox = place.mailbox
    storage: int | None = None
    if b"DELETED-STORAGE" in items and mailbox.deleted and mailbox.messages >= THREAD_MESSAGES_MIN:
        sum_up = session.site.store.deleted_octets
        storage = await asyncio.to_thread(sum_up, mailbox.account, mailbox.mailbox)
    return status_response(session, place, items, storage)


def _recent(session: Session, mailbox: Mailbox) -> int:
    store = session.site.store
    told = recent.told(store, (mailbox.account, mailbox.mailbox, mailbox.uidvalidity))
    first = max(mailbox.first_recent, told + 1)
    if first >= mailbox.uidnext:
        return 0
    if first <= 1:
        return mailbox.messages
    return store.count_from(mailbox.account, mailbox.mailbox, first)


def _deleted_octets(session: Session, mailbox: Mailbox) -> int:
    if not mailbox.deleted:
        return 0
    return session.site.store.deleted_octets(mailbox.account, mailbox.mailbox)


def status_response(
    session: Session, place: Place, items: tuple[bytes, ...], storage: int | None = None
) -> bytes:
    """storage: octets of deleted messages, where that is known."""
    mailbox = place.mailbox
    values = []
    for item in items:
        match item:
            case b"MESSAGES":
                value = mailbox.messages
            case b"RECENT":
                value = _recent(session, mailbox)
            case b"UIDNEXT":
                value = mailbox.uidnext
            case b"UIDVALIDITY":
                value = mailbox.uidvalidity
            case b"UNSEEN":
                value = session.site.store.unseen(mailbox, session.user)
            case b"HIGHESTMODSEQ":
                value = max(mailbox.highestmodseq, 1)
            case b"SIZE":
                value = mailbox.size
            case b"DELETED":
                value = mailbox.deleted
            case b"DELETED-STORAGE":
                value = _deleted_octets(session, mailbox) if storage is None else storage
            case b"APPENDLIMIT":
                value = session.site.message_octets_max
            case b"MAILBOXID":
                values.append(b"MAILBOXID (%b)" % mailbox_id(mailbox))
                continue
            case _:
                raise AssertionError(f"the grammar knows no status item {item!r}")
        values.append(b"%b %d" % (item, value))
    return b"* STATUS %b (%b)\r\n" % (session.mailbox_name(place.name), b" ".join(values))
