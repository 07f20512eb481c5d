"""EXPUNGE and UID EXPUNGE.

Source: RFC 3501 §6.4.3, RFC 4315 §2.1.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Expunge
from postroad.service.imapd.session import Answer, Session, no
from postroad.store import operations
from postroad.store.values import unix

READ_ONLY = no("The mailbox is open read-only", b"READ-ONLY")


async def expunge(session: Session, command: Expunge) -> Answer:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    uids = None
    if command.uids is not None:
        uids = list(view.uids_of(command.uids, uid=True).ranges)
        if not uids:
            return Answer("Nothing to expunge")
    await session.site.database.submit(
        operations.Expunge(
            account=view.account,
            mailbox=view.mailbox,
            uids=uids,
            now=unix(session.site.clock.now()),
        )
    )
    session.tell(expunges=True, ask=True)
    return Answer("Expunged")
