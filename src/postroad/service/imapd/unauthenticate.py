"""UNAUTHENTICATE: back to before login, on the same connection.

Source: RFC 8437 §3, §4.1 (what goes: the selected mailbox, what was enabled, compression).
"""

from __future__ import annotations

from postroad.net.deflate import DeflateStream
from postroad.protocol.imap.commands import Unauthenticate
from postroad.service.imapd.session import SILENCE, Answer, Session


async def unauthenticate(session: Session, command: Unauthenticate) -> Answer:
    """Never NO. Nothing is expunged. Failed logins still count: a guesser gains nothing."""
    await session.forget_login()
    session.tagged(command.tag, Answer("Log in again"))
    stream = session.stream
    if isinstance(stream, DeflateStream):
        await session.flush()
        session.stream = stream.inner
        session.core.receive_data(stream.stop())
    return SILENCE
