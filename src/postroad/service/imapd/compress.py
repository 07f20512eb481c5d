"""COMPRESS: from the tagged OK on, both sides compress.

TLS compression is switched off in every context of ours, so no other layer compresses already.
Source: RFC 4978 §3; RFC 5530 §3.
"""

from __future__ import annotations

from postroad.net.deflate import DeflateStream
from postroad.protocol.imap.commands import Compress
from postroad.service.imapd.session import SILENCE, Answer, Session, no


async def compress(session: Session, command: Compress) -> Answer:
    """What is pipelined behind it is plain, and says that the client did not wait: then not."""
    if isinstance(session.stream, DeflateStream):
        return no("DEFLATE is active already", b"COMPRESSIONACTIVE")
    if session.core.has_pending:
        return Answer("Nothing may be pipelined behind COMPRESS", status=b"BAD")
    await session.tell_all(expunges=True)
    session.tagged(command.tag, Answer("DEFLATE active"))
    await session.flush()
    session.stream = DeflateStream(session.stream)
    return SILENCE
