"""NOOP and CHECK: a chance to tell the news.

Source: RFC 3501 §6.1.2, §6.4.1.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Check, Noop
from postroad.service.imapd.session import Answer, Session


async def noop(session: Session, command: Noop | Check) -> Answer:
    """Asks the store itself: a hint may have been lost."""
    await session.tell_all(expunges=True, ask=True)
    return Answer("Done")
