"""Tag lists: `v=1; a=rsa-sha256; ...` of DKIM signatures, key records, DMARC records.

Knows the list, not what the tags mean. Input: hostile octets.
Source: RFC 6376 §3.2.
Departs: empty specs (`;;`) are passed over, since published records have them.
"""

from __future__ import annotations

import re

TAGS_MAX = 100
"""The RFCs define a dozen; more is nobody's record."""

_FWS = b" \t\r\n"
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\Z")


def parse_tags(octets: bytes) -> dict[bytes, bytes]:
    """Tag names (case kept) to values, white space around both gone, in the order written.

    Raises: ValueError for a spec without `=`, a malformed name, or a tag that comes twice.
    """
    tags: dict[bytes, bytes] = {}
    for spec in octets.split(b";", TAGS_MAX + 1):
        name, equals, value = spec.partition(b"=")
        name = name.strip(_FWS)
        if not equals:
            if name:
                raise ValueError(f"{_shown(name)} is no tag")
            continue
        if _NAME.match(name) is None:
            raise ValueError(f"{_shown(name)} is no tag name")
        if name in tags:
            raise ValueError(f"the tag {_shown(name)} comes twice")
        tags[name] = value.strip(_FWS)
        if len(tags) > TAGS_MAX:
            raise ValueError("too many tags")
    return tags


def without_space(value: bytes) -> bytes:
    """The value with all folding white space taken out, as base64 and lists are read."""
    return value.translate(None, _FWS)


def items(value: bytes, separator: bytes = b":") -> list[bytes]:
    """The items of a separated list, without the white space around them."""
    return [item.strip(_FWS) for item in value.split(separator)]


def _shown(name: bytes) -> str:
    return repr(name[:40].decode("ascii", "replace"))
