"""ENABLE.

Source: RFC 5161 §3.1, RFC 7162 §3.1 (the selected mailbox's HIGHESTMODSEQ is told).
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Enable
from postroad.service.imapd.session import Answer, Session


async def enable(session: Session, command: Enable) -> Answer:
    """Names that are not known are passed over (RFC 5161 §3.1)."""
    fresh = b"CONDSTORE" in command.names and not session.condstore
    session.put(b"* ENABLED CONDSTORE\r\n" if fresh else b"* ENABLED\r\n")
    if fresh:
        enable_condstore(session)
    return Answer("Done")


def enable_condstore(session: Session) -> None:
    """From the first command that shows the client knows mod-sequences (RFC 7162 §3.1)."""
    if session.condstore:
        return
    session.enabled.add(b"CONDSTORE")
    if session.view is not None:
        highest = max(session.view.modseq, 1)
        session.put(b"* OK [HIGHESTMODSEQ %d] Mod-sequences are told from now on\r\n" % highest)
