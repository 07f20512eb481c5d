"""AUTHENTICATE: SASL messages, base64 on lines of their own.

Source: RFC 3501 §6.2.2, RFC 4959 (initial response), RFC 5530 §3.
"""

from __future__ import annotations

import binascii

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Authenticate, decode_base64
from postroad.service.authenticate import Authenticated, Exchange, Rejected, login_allowed
from postroad.service.imapd.login import accepted, refused
from postroad.service.imapd.session import Answer, Session, no

ROUNDS_MAX = 10
"""The longest mechanism offered has three."""


async def authenticate(session: Session, command: Authenticate) -> Answer:
    if not login_allowed(session.site, session.stream):
        return no("Passwords travel inside TLS only", b"PRIVACYREQUIRED")
    try:
        exchange = Exchange(session.site, session.stream, command.mechanism, session.id)
    except ProtocolError:
        return no("The mechanism is not offered", b"CANNOT")
    data = command.initial
    for _ in range(ROUNDS_MAX):
        outcome = await exchange.respond(data)
        if isinstance(outcome, Authenticated):
            return accepted(session, outcome.account)
        if isinstance(outcome, Rejected):
            return refused(session)
        session.put(b"+ ", binascii.b2a_base64(outcome.octets, newline=False), b"\r\n")
        line = await session.read_line()
        if line is None:
            return Answer("The SASL response is too long", status=b"BAD")
        if line == b"*":
            return Answer("Cancelled", status=b"BAD")
        data = decode_base64(line)
    return refused(session)
