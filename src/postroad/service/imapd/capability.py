"""CAPABILITY: exactly what works, in the state there is.

Source: RFC 3501 §6.1.1, §7.2.1; RFC 9051 §6.1.1; RFC 4959, RFC 7888, RFC 7889.
"""

from __future__ import annotations

from postroad.net.deflate import DeflateStream
from postroad.protocol.imap.commands import Capability
from postroad.protocol.imap.server import State
from postroad.service.authenticate import mechanisms
from postroad.service.imapd.session import Answer, Session

_ALWAYS = (
    b"IMAP4rev1",
    b"IMAP4rev2",
    b"LITERAL+",
    b"ID",
    b"ENABLE",
    b"LANGUAGE",
)
_BEFORE_LOGIN = (b"SASL-IR",)
_AFTER_LOGIN = (
    b"IDLE",
    b"NAMESPACE",
    b"CHILDREN",
    b"UNSELECT",
    b"UIDPLUS",
    b"MOVE",
    b"CONDSTORE",
    b"QRESYNC",
    b"BINARY",
    b"OBJECTID",
    b"PARTIAL",
    b"PREVIEW",
    b"SAVEDATE",
    b"UIDONLY",
    b"ESEARCH",
    b"WITHIN",
    b"SEARCHRES",
    b"SEARCH=FUZZY",
    b"SORT",
    b"SORT=DISPLAY",
    b"ESORT",
    b"THREAD=ORDEREDSUBJECT",
    b"THREAD=REFERENCES",
    b"THREAD=REFS",
    b"CONTEXT=SEARCH",
    b"CONTEXT=SORT",
    b"MULTISEARCH",
    b"FILTERS",
    b"I18NLEVEL=1",
    b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"STATUS=SIZE",
    b"ACL",
    b"RIGHTS=texk",
    b"METADATA",
    b"LIST-MYRIGHTS",
    b"LIST-METADATA",
    b"QUOTA",
    b"QUOTASET",
    b"QUOTA=RES-STORAGE",
    b"QUOTA=RES-MESSAGE",
    b"QUOTA=RES-MAILBOX",
    b"UTF8=ACCEPT",
    b"INPROGRESS",
    b"UNAUTHENTICATE",
    b"NOTIFY",
    b"MULTIAPPEND",
    b"CATENATE",
    b"REPLACE",
    b"URLAUTH",
    b"URLAUTH=BINARY",
    b"URL-PARTIAL",
)


def capabilities(session: Session) -> tuple[bytes, ...]:
    site, stream = session.site, session.stream
    words = list(_ALWAYS)
    if session.core.state is not State.NOT_AUTHENTICATED:
        words += _AFTER_LOGIN
        words.append(b"APPENDLIMIT=%d" % site.message_octets_max)
        if not isinstance(stream, DeflateStream):
            words.append(b"COMPRESS=DEFLATE")
        return tuple(words)
    words += _BEFORE_LOGIN
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
