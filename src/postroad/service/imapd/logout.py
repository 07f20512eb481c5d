"""LOGOUT.

Source: RFC 3501 §6.1.3.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Logout
from postroad.protocol.imap.server import State
from postroad.service.imapd.select import leave_mailbox
from postroad.service.imapd.session import Answer, Session


async def logout(session: Session, command: Logout) -> Answer:
    await leave_mailbox(session)
    session.put(b"* BYE Until next time\r\n")
    session.core.state = State.LOGOUT
    return Answer("Done")
