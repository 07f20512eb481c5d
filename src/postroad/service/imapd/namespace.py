"""NAMESPACE: one personal namespace, nothing shared.

Source: RFC 2342 §5.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Namespace
from postroad.service.imapd.session import Answer, Session


async def namespace(session: Session, command: Namespace) -> Answer:
    session.put(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return Answer("Done")
