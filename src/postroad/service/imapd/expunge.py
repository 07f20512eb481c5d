"""EXPUNGE and UID EXPUNGE.

Source: RFC 3501 §6.4.3; RFC 4314 §4 (right `e`); RFC 4315 §2.1; RFC 7162 §3.2.7, §3.2.9.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Expunge
from postroad.service.imapd import long
from postroad.service.imapd.session import Answer, Session, no
from postroad.store import operations
from postroad.store.values import unix

READ_ONLY = no("The mailbox is open read-only", b"READ-ONLY")


async def expunge(session: Session, command: Expunge) -> Answer:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    if not view.may("e"):
        return no("You have no right to expunge here", b"NOPERM")
    uids = None
    if command.uids is not None:
        uids = list(view.uids_of(command.uids, uid=True).ranges)
        if not uids:
            return Answer("Nothing to expunge")
    done = await long.submit(
        session,
        operations.Expunge(
            account=view.account,
            mailbox=view.mailbox,
            uids=uids,
            now=unix(session.site.clock.now()),
        ),
    )
    session.dirty = True
    await session.tell_all(expunges=True)
    return Answer("Expunged", highestmodseq(session) if done.uids else b"")


def highestmodseq(session: Session) -> bytes:
    """The code behind a removal that the client has just been told (RFC 7162 §3.2.7)."""
    if not session.qresync:
        return b""
    return b"HIGHESTMODSEQ %d" % max(session.selected.settled, 1)
