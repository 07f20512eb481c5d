"""DMARC policy records.

A record is read as far as it can be: what is malformed counts as absent. Input: hostile octets.
Source: RFC 9989 §4.7, §4.8, §4.10.1; RFC 7489 §6.3 (pct, ri, rf: read over, without effect).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum

RECORD_OCTETS_MAX = 8192
"""Of a record: real ones have some hundred octets. What comes after is not read."""
TAGS_MAX = 100
URIS_MAX = 20

_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[\x21-\x7e]+\Z")
_SIZE = re.compile(r"![0-9]+[kKmMgGtT]?\Z")


class Policy(StrEnum):
    """What a domain asks to be done with mail that fails."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def lowered(self) -> Policy:
        """One level less, as `t=y` asks."""
        return Policy.QUARANTINE if self is Policy.REJECT else Policy.NONE


class PSD(Enum):
    """The record's own word on whether its domain is a public suffix."""

    YES = "y"
    NO = "n"
    UNSAID = "u"


@dataclass(frozen=True, slots=True, kw_only=True)
class DMARCRecord:
    """text: as published, for people. policy: `p`, None when the record gives no usable policy
    and asks for no reports either. subdomains, nonexistent: `sp`, `np`.

    rua, ruf: URIs to report to, sizes of RFC 7489 cut off.
    """

    text: str
    policy: Policy | None
    subdomains: Policy | None = None
    nonexistent: Policy | None = None
    psd: PSD = PSD.UNSAID
    strict_dkim: bool = False
    strict_spf: bool = False
    testing: bool = False
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    options: str = "0"


def is_dmarc(octets: bytes) -> bool:
    """Whether a TXT record is a DMARC record: `v=DMARC1` stands first, in just this case."""
    return _VERSION.match(octets.lstrip(b" \t")) is not None


def parse_record(octets: bytes) -> DMARCRecord:
    """The record in an `is_dmarc` TXT record; the first of a repeated tag counts.

    Source: RFC 9989 §4.10.1: without a usable p, or with an unusable sp or np, a record that asks
    for reports means p=none, and any other means nothing.
    """
    text = octets[:RECORD_OCTETS_MAX].decode("utf-8", "replace")
    tags: dict[str, str] = {}
    for spec in text.split(";", TAGS_MAX)[:TAGS_MAX]:
        name, equals, value = spec.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    rua = _uris(tags.get("rua", ""))
    policies = {tag: _policy(tags[tag]) for tag in ("p", "sp", "np") if tag in tags}
    if policies.get("p") is None or None in policies.values():
        policies = {"p": Policy.NONE if rua else None}
    return DMARCRecord(
        text=text,
        policy=policies["p"],
        subdomains=policies.get("sp"),
        nonexistent=policies.get("np"),
        psd=_psd(tags.get("psd", "u")),
        strict_dkim=tags.get("adkim", "").lower() == "s",
        strict_spf=tags.get("aspf", "").lower() == "s",
        testing=tags.get("t", "").lower() == "y",
        rua=rua,
        ruf=_uris(tags.get("ruf", "")),
        options=tags.get("fo", "0")[:20],
    )


def _policy(value: str) -> Policy | None:
    try:
        return Policy(value.lower())
    except ValueError:
        return None


def _psd(value: str) -> PSD:
    try:
        return PSD(value.lower())
    except ValueError:
        return PSD.UNSAID


def _uris(value: str) -> tuple[str, ...]:
    found = (_SIZE.sub("", item.strip()) for item in value.split(",", URIS_MAX)[:URIS_MAX])
    return tuple(item for item in found if _URI.match(item))
