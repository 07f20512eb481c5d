"""STARTTLS: what was said in the clear is forgotten, what was pipelined behind it never read.

Source: RFC 3501 §6.2.1, RFC 9051 §6.2.1 (no plaintext left over).
"""

from __future__ import annotations

from postroad.net.contract import Disconnected, TLSFailed
from postroad.protocol.imap.commands import StartTLS
from postroad.service.imapd.languages import DEFAULT
from postroad.service.imapd.session import SILENCE, Answer, Farewell, Session


async def starttls(session: Session, command: StartTLS) -> Answer:
    context = session.site.tls.clients
    if session.stream.tls is not None:
        return Answer("TLS is there already", status=b"BAD")
    if context is None:
        return Answer("TLS is not available here", status=b"BAD")
    if session.core.has_pending:
        raise Farewell("Nothing may be pipelined behind STARTTLS", "pipelined behind STARTTLS")
    session.tagged(command.tag, Answer("Begin TLS"))
    await session.flush()
    try:
        await session.stream.start_tls_server(context)
    except TLSFailed as error:
        raise Disconnected(f"TLS failed: {error}") from error
    session.core.forget()
    session.language = DEFAULT
    session.failures = 0
    return SILENCE
