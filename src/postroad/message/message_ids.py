"""Message-IDs as they stand in header fields, brought to the one form that can be compared.

Never raises; takes time linear in the value's length.
Source: RFC 5322 §3.6.4, RFC 5256 §3 (REFERENCES: quoted and plain forms are the same Message ID).
"""

from __future__ import annotations

import re

from postroad.message.addresses import unquote

IDS_MAX = 200
"""Of one References: field. Of longer ones the first and the last count: they link the ends."""
_ID = re.compile(
    rb'<[ \t\r\n]*+(?:"((?:[^"\\<>]++|\\.)*+)"@([^<>@\s]++)|([^<>"\s]+@[^<>@\s]++))[ \t\r\n]*+>',
    re.DOTALL,
)


def message_ids(value: bytes) -> tuple[bytes, ...]:
    """Every legal id in the value, without angle brackets and quotes, in order."""
    found = [
        plain or unquote(quoted) + b"@" + domain
        for quoted, domain, plain in _ID.findall(value.replace(b"\r\n", b""))
    ]
    if len(found) > IDS_MAX:
        found[1 : len(found) - IDS_MAX + 1] = []
    return tuple(found)


def first_message_id(value: bytes) -> bytes:
    """The first legal id in the value, or b""."""
    found = _ID.search(value.replace(b"\r\n", b""))
    if found is None:
        return b""
    quoted, domain, plain = found.groups()
    return bytes(plain or unquote(quoted) + b"@" + domain)
