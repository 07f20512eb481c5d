"""NAMESPACE: one's own mailboxes, those of other people, those of public accounts.

Source: RFC 2342 §5, RFC 9051 §6.3.10.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Namespace
from postroad.service.imapd.places import PUBLIC, USERS
from postroad.service.imapd.session import Answer, Session

_RESPONSE = f'* NAMESPACE (("" "/")) (("{USERS}/" "/")) (("{PUBLIC}/" "/"))\r\n'.encode()


async def namespace(session: Session, command: Namespace) -> Answer:
    session.put(_RESPONSE)
    return Answer("Done")
