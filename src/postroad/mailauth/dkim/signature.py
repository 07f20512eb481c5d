"""The DKIM-Signature field: its tags as a value, and the octets that it signs.

Input: hostile octets.
Source: RFC 6376 §3.5 (tags), §3.7 (what is hashed), RFC 8616 §4 (UTF-8 in d=, i=, s=).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from postroad.dns.names import a_labels, is_within
from postroad.mailauth.canonical import Canon, canonical_field
from postroad.mailauth.fields import RawField
from postroad.mailauth.result import printable
from postroad.mailauth.tags import items, parse_tags, without_space

SIGNED_FIELDS_MAX = 1000
"""Names in h=: real signatures have 10 to 60."""

_B_VALUE = re.compile(rb"((?:\A|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_NUMBER = re.compile(rb"[0-9]{1,76}\Z")


class Unusable(ValueError):
    """The field breaks the grammar, or asks for what cannot be done. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One DKIM-Signature. domain, selector: A-labels. limit: `l=`. times: unix seconds.

    identity: `i=` as written, `@domain` when it is absent; identity_domain: its domain.
    """

    raw: bytes
    algorithm: str
    signature: bytes
    body_digest: bytes
    header_canon: Canon
    body_canon: Canon
    domain: str
    selector: str
    identity: str
    identity_domain: str
    signed: tuple[bytes, ...]
    limit: int | None
    time: int | None
    expiry: int | None


def peek(raw: bytes) -> dict[str, str]:
    """What a signature says of itself, unchecked and for people: d, s, a, i where they are."""
    found: dict[str, str] = {}
    for spec in raw.partition(b":")[2].split(b";", 50):
        name, equals, value = spec.partition(b"=")
        tag = name.strip(b" \t\r\n").decode("ascii", "replace")
        if equals and tag in ("d", "s", "a", "i"):
            found[tag] = printable(without_space(value).decode("utf-8", "replace")[:255])
    return found


def parse_signature(raw: bytes) -> Signature:
    """The signature in a raw field.

    Raises: Unusable.
    Source: RFC 6376 §3.5, §6.1.1.
    """
    try:
        tags = parse_tags(raw.partition(b":")[2])
    except ValueError as error:
        raise Unusable(str(error)) from error
    for tag in (b"v", b"a", b"b", b"bh", b"d", b"h", b"s"):
        if not tags.get(tag):
            raise Unusable(f"the tag {tag.decode()}= is missing")
    if tags[b"v"] != b"1":
        raise Unusable("the version is not 1")
    if b"dns/txt" not in [item.lower() for item in items(tags.get(b"q", b"dns/txt"))]:
        raise Unusable("the key is not to be had by dns/txt")
    if tags[b"h"].count(b":") >= SIGNED_FIELDS_MAX:
        raise Unusable("h= names too many fields")
    signed = tuple(items(tags[b"h"].lower()))
    if b"from" not in signed:
        raise Unusable("From: is not signed")
    domain = _name(tags[b"d"], "d")
    identity, identity_domain = _identity(tags.get(b"i"), domain)
    header_canon, body_canon = _canons(tags.get(b"c", b"simple/simple"))
    time, expiry = _number(tags, b"t"), _number(tags, b"x")
    if time is not None and expiry is not None and expiry <= time:
        raise Unusable("it expires before it was made")
    return Signature(
        raw=raw,
        algorithm=tags[b"a"].lower().decode("ascii", "replace"),
        signature=_base64(tags[b"b"], "b"),
        body_digest=_base64(tags[b"bh"], "bh"),
        header_canon=header_canon,
        body_canon=body_canon,
        domain=domain,
        selector=_name(tags[b"s"], "s"),
        identity=identity,
        identity_domain=identity_domain,
        signed=signed,
        limit=_number(tags, b"l"),
        time=time,
        expiry=expiry,
    )


def _canons(value: bytes) -> tuple[Canon, Canon]:
    header, slash, body = value.lower().partition(b"/")
    try:
        return Canon(header.decode("ascii")), Canon(body.decode("ascii") if slash else "simple")
    except ValueError as error:
        raise Unusable("the canonicalization is unknown") from error


def _identity(value: bytes | None, domain: str) -> tuple[str, str]:
    if not value:
        return f"@{domain}", domain
    local, at, below = value.rpartition(b"@")
    if not at:
        raise Unusable("i= is no address")
    identity_domain = _name(below, "i")
    if not is_within(identity_domain, domain):
        raise Unusable("i= is not within d=")
    shown = printable(without_space(local).decode("utf-8", "replace"))
    return f"{shown}@{identity_domain}", identity_domain


def _name(value: bytes, tag: str) -> str:
    try:
        return a_labels(without_space(value).decode("utf-8"))
    except ValueError as error:
        raise Unusable(f"{tag}= is no domain name") from error


def _number(tags: dict[bytes, bytes], tag: bytes) -> int | None:
    if tag not in tags:
        return None
    if _NUMBER.match(tags[tag]) is None:
        raise Unusable(f"{tag.decode()}= is no number")
    return int(tags[tag])


def _base64(value: bytes, tag: str) -> bytes:
    try:
        return base64.b64decode(without_space(value), validate=True)
    except binascii.Error as error:
        raise Unusable(f"{tag}= is not base64") from error


class HeaderHasher:
    """The SHA-256 digests of one header for any number of signatures on it."""

    def __init__(self, fields: Sequence[RawField]) -> None:
        self._fields = fields
        self._at: dict[bytes, list[int]] = defaultdict(list)
        for number, item in enumerate(fields):
            self._at[item.key].append(number)
        self._canonical: dict[tuple[int, Canon], bytes] = {}

    def digest(self, signature: Signature, own: int) -> bytes:
        """The digest that b= signs: fields of h= from the bottom up, then the field itself.

        own: the number of the signature's field, which h= cannot name (RFC 6376 §3.5).
        Source: RFC 6376 §3.7, §5.4.2 (fields that come several times, or not at all).
        """
        canon = signature.header_canon
        hasher = hashlib.sha256(b"".join(self.selected(signature.signed, canon, own)))
        hasher.update(canonical_field(without_signature(signature.raw), canon))
        return hasher.digest()

    def selected(self, names: Sequence[bytes], canon: Canon, own: int = -1) -> list[bytes]:
        """The canonical fields, each with its CRLF, in the order of `names` (lower case)."""
        left: dict[bytes, list[int]] = {}
        out: list[bytes] = []
        for name in names:
            numbers = left.get(name)
            if numbers is None:
                numbers = left[name] = [at for at in self._at.get(name, ()) if at != own]
            if not numbers:
                continue
            number = numbers.pop()
            text = self._canonical.get((number, canon))
            if text is None:
                text = canonical_field(self._fields[number].raw, canon) + b"\r\n"
                self._canonical[number, canon] = text
            out.append(text)
        return out

    def count(self, name: bytes) -> int:
        return len(self._at.get(name, ()))


def without_signature(raw: bytes) -> bytes:
    """The field with the value of its b= taken out (RFC 6376 §3.5, b=)."""
    name, colon, value = raw.partition(b":")
    return name + colon + _B_VALUE.sub(rb"\1", value, count=1)
