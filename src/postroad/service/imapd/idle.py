"""IDLE: the session waits for DONE, and tells news the moment it is committed.

Source: RFC 2177 §3.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Idle
from postroad.service.imapd.session import Answer, Session


async def idle(session: Session, command: Idle) -> Answer:
    """Waiting costs no task: a notice starts one that writes, and ends with it."""
    session.put(b"+ idling\r\n")
    await session.tell_all(expunges=True, ask=True)
    await session.flush()
    session.idling = True
    try:
        line = await session.read_line()
    finally:
        await session.stop_idling()
    if line is None or line.upper() != b"DONE":
        return Answer("DONE expected", status=b"BAD")
    return Answer("Done")
