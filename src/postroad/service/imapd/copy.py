"""COPY and MOVE.

Source: RFC 3501 §6.4.7, RFC 4315 §3 (COPYUID), RFC 6851 §3.3, §4.3.
"""

from __future__ import annotations

from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap import render
from postroad.protocol.imap.messages import Copy
from postroad.service.imapd import places
from postroad.service.imapd.expunge import READ_ONLY
from postroad.service.imapd.session import Answer, Session, no
from postroad.store import operations
from postroad.store.values import Copied


async def copy(session: Session, command: Copy) -> Answer:
    view = session.selected
    if command.move and view.read_only:
        return READ_ONLY
    uids = view.uids_of(command.messages, uid=command.uid)
    place = places.find(session, command.mailbox)
    if place is None:
        return no("There is no such mailbox", b"TRYCREATE")
    if not place.allows("i"):
        return no("You have no right to add messages there", b"NOPERM")
    target = place.mailbox
    if not uids:
        return Answer("There are no such messages")
    kind = operations.Move if command.move else operations.Copy
    try:
        [copied] = await session.site.database.submit(
            kind(
                account=view.account,
                mailbox=view.mailbox,
                uids=list(uids.ranges),
                to=target.mailbox,
                to_account=target.account,
            )
        )
    except StateError as error:
        if error.fault is Fault.NONEXISTENT:
            return no("There is no such mailbox any more", b"TRYCREATE")
        raise
    assert isinstance(copied, Copied), "the operation says so"
    if view.is_of(target):
        session.dirty = True
    if not copied.source:
        gone = b"OK" if command.uid else b"NO"  # RFC 5530 §3; UIDs may name nothing
        return Answer("There are no such messages any more", b"EXPUNGEISSUED", gone)
    code = b"COPYUID %d %b %b" % (
        copied.uidvalidity,
        render.ranges(copied.source),
        render.ranges(copied.target),
    )
    if not command.move:
        return Answer("Copied", code)
    session.put(b"* OK [%b] Moved\r\n" % code)
    session.tell(expunges=True, ask=True)
    return Answer("Moved")
