"""Domain names: A-labels, what DNS can carry, reverse names, who is below whom.

A *key* is how names compare here: ASCII, lower case, A-labels, no trailing dot. Knows no records
and asks nothing. Input: hostile text.
Source: RFC 1035 §2.3.4 (sizes), RFC 5890 §2.3 and RFC 5891 §4.4 (A-labels; the Punycode of
RFC 3492 is `idna`'s), RFC 3596 §2.5 (ip6.arpa).
"""

from __future__ import annotations

import ipaddress
import re

import idna

LABEL_OCTETS_MAX = 63
NAME_OCTETS_MAX = 253
"""In presentation form without the trailing dot; 255 octets on the wire."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def a_labels(name: str) -> str:
    """The key of a name: non-ASCII labels as A-labels, the others lower-cased, `_` allowed.

    Raises: ValueError when IDNA or DNS cannot carry it (see `is_carriable`).
    """
    if name.isascii():
        key = name.removesuffix(".").lower()
    else:
        try:
            mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
            key = ".".join(
                label if label.isascii() else idna.alabel(label).decode("ascii")
                for label in mapped.removesuffix(".").split(".")
            ).lower()
        except idna.IDNAError as error:
            raise ValueError(f"not a domain name: {name[:300]!r} ({error})") from error
    if key.endswith(".") or not is_carriable(key):
        raise ValueError(f"not a domain name: {name[:300]!r}")
    return key


def u_labels(name: str) -> str:
    """The name for people: A-labels decoded where they decode, otherwise as they are."""
    out = []
    for label in name.split("."):
        if label[:4].lower() == "xn--":
            try:
                label = idna.ulabel(label)
            except (idna.IDNAError, UnicodeError):
                pass
        out.append(label)
    return ".".join(out)


def is_carriable(name: str) -> bool:
    """Whether an ASCII name fits DNS: labels of 1 to 63 octets, 253 together, nothing unprintable.

    The root ("") is not a name mail can use, and is not carriable.
    """
    name = name.removesuffix(".")
    if not name or len(name) > NAME_OCTETS_MAX or not name.isascii() or _CONTROL.search(name):
        return False
    return all(0 < len(label) <= LABEL_OCTETS_MAX for label in name.split("."))


def is_within(name: str, domain: str) -> bool:
    """Whether key `name` is `domain` or below it."""
    return name == domain or name.endswith("." + domain)


def parents(name: str) -> list[str]:
    """The name and every name above it, top-level domain last."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


def reverse_name(address: str) -> str:
    """The in-addr.arpa or ip6.arpa name of an IP address (IPv4-mapped IPv6 counts as IPv4).

    Raises: ValueError when `address` is none.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.reverse_pointer
