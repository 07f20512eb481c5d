"""STATUS: counters of a mailbox, as of one commit.

Source: RFC 3501 §6.3.10, §7.2.4; RFC 7162 §3.1.7; RFC 7889 §3.2; RFC 8438; RFC 9051 §6.3.11.
"""

from __future__ import annotations

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap.mailboxes import Status
from postroad.service.imapd import places
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session
from postroad.store.values import Mailbox


async def status(session: Session, command: Status) -> Answer:
    place = places.need(session, command.mailbox, "r")
    if b"HIGHESTMODSEQ" in command.items:
        enable_condstore(session)
    session.put(status_response(session, place, command.items))
    return Answer("Done")


def _recent(session: Session, mailbox: Mailbox) -> int:
    if mailbox.first_recent >= mailbox.uidnext:
        return 0
    new = UIDSet(((mailbox.first_recent, mailbox.uidnext - 1),))
    slices = session.site.store.messages(mailbox.account, mailbox.mailbox, new)
    return sum(len(rows) for rows in slices)


def status_response(session: Session, place: Place, items: tuple[bytes, ...]) -> bytes:
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
                value = mailbox.unseen
            case b"HIGHESTMODSEQ":
                value = max(mailbox.highestmodseq, 1)
            case b"SIZE":
                value = mailbox.size
            case b"DELETED":
                value = mailbox.deleted
            case b"APPENDLIMIT":
                value = session.site.message_octets_max
            case _:
                raise AssertionError(f"the grammar knows no status item {item!r}")
        values.append(b"%b %d" % (item, value))
    return b"* STATUS %b (%b)\r\n" % (session.mailbox_name(place.name), b" ".join(values))
