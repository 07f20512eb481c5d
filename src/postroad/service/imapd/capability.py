"""CAPABILITY: exactly what works, in the state there is.

Source: RFC 3501 §6.1.1, §7.2.1; RFC 4959, RFC 7888, RFC 7889.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Capability
from postroad.protocol.imap.server import State
from postroad.service.authenticate import mechanisms
from postroad.service.imapd.session import Answer, Session

_ALWAYS = (b"IMAP4rev1", b"LITERAL+", b"SASL-IR", b"ID", b"ENABLE")
_AFTER_LOGIN = (
    b"IMAP4rev1", b"LITERAL+", b"ID", b"ENABLE", b"IDLE", b"NAMESPACE", b"CHILDREN", b"UNSELECT",
    b"UIDPLUS", b"MOVE", b"CONDSTORE", b"ESEARCH", b"WITHIN", b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE", b"LIST-EXTENDED", b"LIST-STATUS", b"STATUS=SIZE",
)  # fmt: skip


def capabilities(session: Session) -> tuple[bytes, ...]:
    site, stream = session.site, session.stream
    if session.core.state is not State.NOT_AUTHENTICATED:
        return (*_AFTER_LOGIN, b"APPENDLIMIT=%d" % site.message_octets_max)
    words = list(_ALWAYS)
    if stream.tls is None and site.tls.server is not None:
        words.append(b"STARTTLS")
    offered = mechanisms(site, stream)
    if not offered:
        words.append(b"LOGINDISABLED")
    words += [b"AUTH=" + name.encode() for name in offered]
    return tuple(words)


async def capability(session: Session, command: Capability) -> Answer:
    session.put(b"* CAPABILITY %b\r\n" % b" ".join(capabilities(session)))
    return Answer("Done")
