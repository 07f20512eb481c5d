"""Pieces of responses: strings, mailbox names, flags, dates, sets.

Source: RFC 3501 §9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from postroad.mail.flags import FLAG_ATOMS, Flag
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap.names import encode_utf7

_PLAIN = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+\Z')
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*\Z")
_SPECIAL = re.compile(rb'(["\\])')
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct") + (
    b"Nov",
    b"Dec",
)
_SIMPLE_NAME = re.compile(r"[\x20\x21\x23-\x25\x27-\x5b\x5d-\x7e]{0,500}\Z")
"""Most names: what is neither quoted nor encoded, by one look."""
QUOTED_OCTETS_MAX = 1000


def string(octets: bytes) -> bytes:
    """A quoted string, or a literal where that cannot hold it."""
    if len(octets) <= QUOTED_OCTETS_MAX and _QUOTABLE.match(octets) is not None:
        return b'"' + _SPECIAL.sub(rb"\\\1", octets) + b'"'
    return b"{%d}\r\n%b" % (len(octets), octets)


def astring(octets: bytes) -> bytes:
    if _PLAIN.match(octets) is not None and octets.upper() != b"NIL":
        return octets
    return string(octets)


def nstring(octets: bytes | None) -> bytes:
    return b"NIL" if octets is None else string(octets)


def mailbox(name: str, *, utf8: bool = False) -> bytes:
    """In modified UTF-7, or as it is for a client that said it takes UTF-8 (RFC 9051 §5.1)."""
    if _SIMPLE_NAME.match(name) is not None:
        return b'"%b"' % name.encode("ascii")
    if not utf8:
        return string(encode_utf7(name))
    octets = name.encode("utf-8")
    if len(octets) <= QUOTED_OCTETS_MAX:
        return b'"' + _SPECIAL.sub(rb"\\\1", octets) + b'"'
    return b"{%d}\r\n%b" % (len(octets), octets)


def flags(flag: Flag | int, keywords: Iterable[bytes] = (), recent: bool = False) -> bytes:
    """`\\Seen $Forwarded`: without the parentheses."""
    words = [atom for bit, atom in FLAG_ATOMS.items() if flag & bit]
    words.extend(keywords)
    if recent:
        words.append(b"\\Recent")
    return b" ".join(words)


def date_time(unix: int) -> bytes:
    """`"01-Feb-2026 10:00:00 +0000"`, quotes included."""
    moment = datetime.fromtimestamp(unix, UTC)
    return b'"%02d-%b-%04d %02d:%02d:%02d +0000"' % (
        moment.day,
        _MONTHS[moment.month - 1],
        moment.year,
        moment.hour,
        moment.minute,
        moment.second,
    )


def numbers(found: UIDSet) -> bytes:
    return str(found).encode()


def ranges(pairs: Iterable[tuple[int, int]]) -> bytes:
    """In the order given: what COPYUID needs."""
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in pairs)
