"""SPF records: text to directives and modifiers.

The whole record is checked before any of it is evaluated. Input: hostile octets.
Source: RFC 7208 §4.5, §4.6, §5, §6, §12.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from postroad.mailauth.result import Result
from postroad.mailauth.spf.macro import MacroString, parse_domain_spec, parse_macro_string

RECORD_OCTETS_MAX = 16_384
"""RFC 7208 §3.4 recommends 512; the largest seen are some thousand. Longer is a permerror."""
RECORDS_CACHED_MAX = 512


class Mechanism(Enum):
    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"


LOOKUPS = frozenset({Mechanism.INCLUDE, Mechanism.A, Mechanism.MX, Mechanism.PTR, Mechanism.EXISTS})
"""The mechanisms that count against the limit (RFC 7208 §4.6.4); redirect does too."""

QUALIFIERS = {
    "+": Result.PASS,
    "-": Result.FAIL,
    "~": Result.SOFTFAIL,
    "?": Result.NEUTRAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """target: the domain-spec, None for the domain itself. network: address as a number.

    bits4, bits6: prefix lengths. text: as written, for people.
    """

    text: str
    result: Result
    mechanism: Mechanism
    target: MacroString | None = None
    network: int = 0
    bits4: int = 32
    bits6: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SPFRecord:
    directives: tuple[Directive, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None


_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9\-_.]*)=(.*)\Z")
_DIRECTIVE = re.compile(r"([+\-?~]?)([A-Za-z][A-Za-z0-9]*)([:/].*)?\Z")
_CIDR4 = re.compile(r"/(0|[1-9][0-9]?)\Z")
_CIDR6 = re.compile(r"/(0|[1-9][0-9]{0,2})\Z")
_DUAL_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?\Z")


def is_spf(octets: bytes) -> bool:
    """Whether a TXT record is an SPF record (RFC 7208 §4.5)."""
    return octets[:6].lower() == b"v=spf1" and octets[6:7] in (b"", b" ")


@lru_cache(maxsize=RECORDS_CACHED_MAX)
def parse_record(octets: bytes) -> SPFRecord | str:
    """The record of an `is_spf` TXT record, or the fault that makes it a permerror."""
    if len(octets) > RECORD_OCTETS_MAX:
        return "the record is too long"
    try:
        return _parse(octets[6:].decode("ascii"))
    except UnicodeDecodeError:
        return "the record is not ASCII"
    except ValueError as error:
        return str(error)


def _parse(text: str) -> SPFRecord:
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    for term in text.split(" "):
        if not term:
            continue
        modifier = _MODIFIER.match(term)
        if modifier is None:
            directives.append(_directive(term))
            continue
        name, value = modifier[1].lower(), modifier[2]
        if name not in ("redirect", "exp"):
            parse_macro_string(value, explain=True)  # RFC 7208 §4.6.1, unknown-modifier
        elif name in modifiers:
            raise ValueError(f"{name}= comes twice")
        else:
            modifiers[name] = parse_domain_spec(value) if value else _no_domain(term)
    return SPFRecord(
        directives=tuple(directives),
        redirect=modifiers.get("redirect"),
        explanation=modifiers.get("exp"),
    )


def _no_domain(term: str) -> MacroString:
    raise ValueError(f"{term[:80]!r} names no domain")


def _directive(term: str) -> Directive:
    match = _DIRECTIVE.match(term)
    if match is None:
        raise ValueError(f"{term[:80]!r} is no term")
    try:
        mechanism = Mechanism(match[2].lower())
    except ValueError:
        raise ValueError(f"{term[:80]!r} is no mechanism") from None
    result = QUALIFIERS[match[1] or "+"]
    value = match[3] or ""
    text = term[:80]
    match mechanism:
        case Mechanism.ALL:
            if value:
                raise ValueError(f"{text!r} takes nothing")
            return Directive(text=text, result=result, mechanism=mechanism)
        case Mechanism.IP4 | Mechanism.IP6:
            return _network(text, result, mechanism, value)
        case Mechanism.INCLUDE | Mechanism.EXISTS:
            if not value.startswith(":"):
                raise ValueError(f"{text!r} names no domain")
            target = parse_domain_spec(value[1:]) if value[1:] else _no_domain(term)
            return Directive(text=text, result=result, mechanism=mechanism, target=target)
        case Mechanism.PTR:
            return Directive(
                text=text, result=result, mechanism=mechanism, target=_target(term, value)
            )
        case Mechanism.A | Mechanism.MX:
            cidr = _DUAL_CIDR.search(value)
            assert cidr is not None, "the pattern matches the empty string too"
            return Directive(
                text=text,
                result=result,
                mechanism=mechanism,
                target=_target(term, value[: cidr.start()]),
                bits4=_bits(cidr[1], 32),
                bits6=_bits(cidr[2], 128),
            )


def _target(term: str, value: str) -> MacroString | None:
    if not value:
        return None
    if value[0] != ":" or len(value) == 1:
        return _no_domain(term)
    return parse_domain_spec(value[1:])


def _bits(digits: str | None, most: int) -> int:
    bits = most if digits is None else int(digits)
    if bits > most:
        raise ValueError(f"/{bits} is longer than an address")
    return bits


def _network(text: str, result: Result, mechanism: Mechanism, value: str) -> Directive:
    """ip4:, ip6:. Source: RFC 7208 §5.6."""
    if not value.startswith(":"):
        raise ValueError(f"{text!r} names no network")
    address, slash, _ = value[1:].partition("/")
    cidr = (_CIDR4 if mechanism is Mechanism.IP4 else _CIDR6).match(value[1 + len(address) :])
    if slash and cidr is None:
        raise ValueError(f"{text!r} has a bad prefix length")
    digits = cidr[1] if cidr else None
    try:
        if mechanism is Mechanism.IP4:
            number, bits4, bits6 = int(IPv4Address(address)), _bits(digits, 32), 128
        elif "%" in address:  # a scope, which ipaddress would take
            raise ValueError
        else:
            number, bits4, bits6 = int(IPv6Address(address)), 32, _bits(digits, 128)
    except ValueError:
        raise ValueError(f"{text!r} is no network") from None
    return Directive(
        text=text, result=result, mechanism=mechanism, network=number, bits4=bits4, bits6=bits6
    )
