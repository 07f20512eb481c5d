"""A message as signatures see it: raw header fields, untouched, and where the body begins.

Cuts, and interprets nothing: the fields keep their folding and their case, as canonicalisation
needs them. Input: hostile octets with CRLF line ends; a bare CR or LF is an ordinary octet.
Source: RFC 5322 §2.2, RFC 6376 §3.4.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postroad.mail.limits import HEADER_FIELDS_MAX, SMTP_HEADER_OCTETS_MAX

_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_WINDOWS = (8192, 65536, SMTP_HEADER_OCTETS_MAX)


class RawField(NamedTuple):
    """key: the name in lower case without white space. raw: all of it, without the last CRLF."""

    key: bytes
    raw: bytes


def split_header(octets: bytes | memoryview) -> tuple[bytes, int]:
    """The header section (each line with its CRLF) and the offset of the body.

    A message without an empty line is all header; what lies past SMTP_HEADER_OCTETS_MAX of an
    endless one is not looked at.
    """
    block = b""
    for window in _WINDOWS:
        block = bytes(octets[:window])
        if block.startswith(b"\r\n"):
            return b"", 2
        end = block.find(b"\r\n\r\n")
        if end >= 0:
            return block[: end + 2], end + 4
        if window >= len(octets):
            break
    return block, len(octets)


def raw_fields(header: bytes) -> list[RawField]:
    """The fields of a header section, top to bottom; past HEADER_FIELDS_MAX all in one."""
    if not header:
        return []
    return [
        RawField(raw.partition(b":")[0].strip(b" \t").lower(), raw)
        for raw in _FIELD_END.split(header.removesuffix(b"\r\n"), HEADER_FIELDS_MAX)
    ]
