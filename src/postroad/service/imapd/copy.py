"""COPY and MOVE.

Source: RFC 3501 §6.4.7, RFC 4314 §4 (rights), RFC 4315 §3 (COPYUID), RFC 6851 §3.3, §4.3,
RFC 7162 §3.2 (MOVE).
"""

from __future__ import annotations

from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap import render
from postroad.protocol.imap.messages import Copy
from postroad.service.imapd import long, places
from postroad.service.imapd.expunge import READ_ONLY, highestmodseq
from postroad.service.imapd.fetch import UID_REQUIRED
from postroad.service.imapd.session import Answer, Session, no
from postroad.store import operations
from postroad.store.values import unix


async def copy(session: Session, command: Copy) -> Answer:
    view = session.selected
    if session.uid_only and not command.uid:
        return UID_REQUIRED
    if command.move and view.read_only:
        return READ_ONLY
    if command.move and not view.may("te"):
        return no("You have no right to take messages out of here", b"NOPERM")
    if not command.uid:
        await view.number()
    uids = view.uids_of(command.messages, uid=command.uid)
    place = places.find_with(session, command.mailbox, "i")
    if place is None:
        return no("There is no such mailbox", b"TRYCREATE")
    target = place.mailbox
    if not uids:
        return Answer("There are no such messages")
    kind = operations.Move if command.move else operations.Copy
    try:
        copied = await long.submit(
            session,
            kind(
                account=view.account,
                mailbox=view.mailbox,
                uids=list(uids.ranges),
                to=target.mailbox,
                to_account=target.account,
                now=unix(session.site.clock.now()),
                reader=session.user,
                rights="".join(sorted(place.rights & frozenset("swt"))),
            ),
        )
    except StateError as error:
        if error.fault is Fault.NONEXISTENT:
            return no("There is no such mailbox any more", b"TRYCREATE")
        raise
    if view.is_of(target):
        session.dirty = True
    if not copied.source:
        gone = b"OK" if command.uid else b"NO"  # RFC 5530 §3; UIDs may name nothing
        return Answer("There are no such messages any more", b"EXPUNGEISSUED", gone)
    code = b""
    if place.allows("r"):  # RFC 4315 §3: who may not look there is told nothing of it
        code = b"COPYUID %d %b %b" % (
            copied.uidvalidity,
            render.ranges(copied.source),
            render.ranges(copied.target),
        )
    if not command.move:
        return Answer("Copied", code)
    if code:
        session.put(b"* OK [%b] Moved\r\n" % code)
    session.dirty = True
    await session.tell_all(expunges=True)
    return Answer("Moved", highestmodseq(session))
