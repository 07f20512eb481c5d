"""Mail addresses as people say them: a local part and a domain.

Holds the address itself, neither SMTP paths (`protocol.smtp.syntax`) nor header address lists
(`message.header`).
Source: RFC 5321 §4.1.2 (syntax), RFC 6531 §3.3 (UTF-8), RFC 5890 §2.3 (A-labels).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import idna

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*\Z")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*)"\Z')
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_\-\u0080-\U0010ffff]{1,63}(?<!-)\Z")
_IPV6ISH = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|[A-Za-z0-9\-]*:[\x21-\x5a\x5e-\x7e]+)\]\Z")

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters and those that turn the direction of writing: RFC 6531 lets them pass, and
whoever shows an address to people would be made to show another."""

LOCAL_OCTETS_MAX = 64  # RFC 5321 §4.5.3.1.1
DOMAIN_OCTETS_MAX = 255  # RFC 5321 §4.5.3.1.2


@lru_cache(maxsize=4096)
def domain_key(domain: str) -> str:
    """The domain as a key: lower-case A-labels, no trailing dot; literals as they are.

    Raises: ValueError for a name that IDNA cannot carry.
    """
    name = domain.rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise ValueError(f"not a domain name: {domain!r} ({error})") from error


@dataclass(frozen=True, slots=True)
class Address:
    """`local@domain`. The local part is unquoted; the domain stands as it was given."""

    local: str
    domain: str

    @property
    def domain_key(self) -> str:
        return domain_key(self.domain)

    @property
    def key(self) -> str:
        """What look-ups compare: case-folded local part, A-label domain. Ours are case-blind."""
        return f"{self.local.casefold()}@{self.domain_key}"

    @property
    def is_ascii(self) -> bool:
        return self.local.isascii() and self.domain.isascii()

    @property
    def is_literal(self) -> bool:
        return self.domain.startswith("[")

    def __str__(self) -> str:
        local = self.local
        if _DOT_STRING.match(local) is None:
            local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
        return f"{local}@{self.domain}"


def is_domain(text: str) -> bool:
    """Whether `text` is a domain name (A- or U-labels) of legal length."""
    name = text.removesuffix(".")
    if not name or not all(_LABEL.match(label) for label in name.split(".")):
        return False
    try:
        return len(domain_key(name)) <= DOMAIN_OCTETS_MAX
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """An address from `local@domain`, quoted local parts and address literals included.

    Raises: ValueError that names the fault.
    Source: RFC 5321 §4.1.2, §4.1.3, §4.5.3.1.
    """
    local, at, domain = text.rpartition("@")
    if _UNSAFE.search(text) is not None:
        raise ValueError("an address holds no control characters")
    if not at or not local or not domain:
        raise ValueError(f"an address is local@domain, not {text!r}")
    quoted = _QUOTED.match(local)
    if quoted is not None:
        local = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _DOT_STRING.match(local) is None:
        raise ValueError(f"the local part of {text!r} is malformed")
    if len(local.encode()) > LOCAL_OCTETS_MAX:
        raise ValueError(f"the local part of {text!r} is longer than {LOCAL_OCTETS_MAX} octets")
    if domain.startswith("["):
        if _IPV6ISH.match(domain) is None:
            raise ValueError(f"the address literal of {text!r} is malformed")
    elif not is_domain(domain) or domain.endswith("."):
        raise ValueError(f"the domain of {text!r} is malformed")
    return Address(local, domain)
