"""ID: who we are, and who the client says it is.

Source: RFC 2971 §3.1-3.3.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Id
from postroad.service.imapd.events import IMAPClientNamed
from postroad.service.imapd.session import Answer, Session

VALUE_OCTETS_MAX = 1024
"""RFC 2971 §3.3."""


async def ident(session: Session, command: Id) -> Answer:
    fields = {
        name.decode("utf-8", "replace")[:30]: value.decode("utf-8", "replace")[:VALUE_OCTETS_MAX]
        for name, value in command.fields
        if value is not None
    }
    if fields:
        session.site.trace(IMAPClientNamed(session=session.id, fields=fields))
    session.put(b'* ID ("name" "Postroad")\r\n')
    return Answer("Done")
