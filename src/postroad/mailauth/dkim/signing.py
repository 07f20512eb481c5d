"""Signing: the DKIM-Signature fields for a message of ours.

relaxed/relaxed, never with l=. Fields that decide what a reader sees are oversigned: named once
more than they occur, so that nobody can add a second Subject: or a Content-Type:.
Source: RFC 6376 §5.4 (which fields), §8.15 (oversigning), RFC 8058 §4 (List-Unsubscribe-Post).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime

from postroad.mailauth.canonical import Canon, canonical_field, hash_body
from postroad.mailauth.dkim.keys import DKIMSigner
from postroad.mailauth.dkim.signature import HeaderHasher
from postroad.mailauth.fields import raw_fields, split_header

OVERSIGNED = (
    b"From",
    b"To",
    b"Cc",
    b"Subject",
    b"Date",
    b"Message-ID",
    b"Reply-To",
    b"MIME-Version",
    b"Content-Type",
    b"Content-Transfer-Encoding",
)
"""Signed once more than present, also when absent."""
SIGNED = (
    b"Sender",
    b"In-Reply-To",
    b"References",
    b"Content-ID",
    b"Content-Description",
    b"Content-Disposition",
    b"Content-Language",
    b"Resent-Date",
    b"Resent-From",
    b"Resent-Sender",
    b"Resent-To",
    b"Resent-Cc",
    b"Resent-Message-ID",
    b"List-Id",
    b"List-Help",
    b"List-Unsubscribe",
    b"List-Unsubscribe-Post",
    b"List-Subscribe",
    b"List-Post",
    b"List-Owner",
    b"List-Archive",
    b"Auto-Submitted",
    b"Autocrypt",
    b"Feedback-ID",
)
"""Signed where present. Not oversigned: lists and forwarders rightly add these."""
INSTANCES_SIGNED_MAX = 20
"""Of one name; a message with more is nobody's mail, and h= must not grow with it."""

_LINE_OCTETS_MAX = 76


def sign(
    head: bytes, octets: bytes | memoryview, signers: Sequence[DKIMSigner], now: datetime
) -> bytes:
    """DKIM-Signature fields, one for each signer, to be put on top of head + octets.

    head: fields that stand before `octets` (each with CRLF); it may be empty.
    """
    if not signers:
        return b""
    header, body_at = split_header(octets)
    hasher = HeaderHasher(raw_fields(head + header))
    names = _names(hasher)
    listed = [name.lower() for name in names]
    fields = b"".join(hasher.selected(listed, Canon.RELAXED))
    digest = hash_body(memoryview(octets)[body_at:], Canon.RELAXED)[None].digest
    tail = _fold_names(names) + b";\r\n\tbh=" + b64encode(digest) + b";\r\n\tb="
    hashed = hashlib.sha256(fields)
    out = []
    for signer in signers:
        field = _front(signer, now) + tail
        mine = hashed.copy()
        mine.update(canonical_field(field, Canon.RELAXED))
        value = b64encode(signer.sign(mine.digest()))
        out += [field, _fold_base64(value), b"\r\n"]
    return b"".join(out)


def _names(hasher: HeaderHasher) -> list[bytes]:
    """The names of h=, each as often as it is to be signed."""
    names: list[bytes] = []
    for name in OVERSIGNED:
        names += [name] * (min(hasher.count(name.lower()), INSTANCES_SIGNED_MAX) + 1)
    for name in SIGNED:
        names += [name] * min(hasher.count(name.lower()), INSTANCES_SIGNED_MAX)
    return names


def _front(signer: DKIMSigner, now: datetime) -> bytes:
    return (
        f"DKIM-Signature: v=1; a={signer.algorithm}; c=relaxed/relaxed; d={signer.domain};\r\n"
        f"\ts={signer.selector}; t={int(now.timestamp())};\r\n\t"
    ).encode("ascii")


def _fold_names(names: Sequence[bytes]) -> bytes:
    """`h=` and the names, folded behind colons."""
    lines = []
    line = b"h=" + names[0]
    for name in names[1:]:
        if len(line) + 1 + len(name) > _LINE_OCTETS_MAX - 8:
            lines.append(line + b":\r\n\t")
            line = name
        else:
            line += b":" + name
    return b"".join([*lines, line])


def _fold_base64(value: bytes) -> bytes:
    first = _LINE_OCTETS_MAX - 10
    pieces = [value[:first]]
    width = _LINE_OCTETS_MAX - 8
    pieces += [value[at : at + width] for at in range(first, len(value), width)]
    return b"\r\n\t".join(pieces)
