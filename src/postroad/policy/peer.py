"""The peer's name by reverse DNS, confirmed forwards.

Awaits only the resolver. A name that does not lead back to the address is nobody's and not told.
Source: RFC 8601 §3 (iprev), RFC 5321 §4.4 (TCP-info).
"""

from __future__ import annotations

import ipaddress

from postroad.dns.resolver import Resolver
from postroad.mail.address import is_domain
from postroad.mail.errors import Unavailable

NAMES_TRIED_MAX = 2
"""Of one address: whoever owns the reverse zone decides how many there are."""


async def confirmed_name(resolver: Resolver, address: str) -> str | None:
    """The name that `address` points to and that points back, or None (also when DNS failed)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.is_loopback:
        return None  # says nothing about anybody
    try:
        for name in (await resolver.ptr(str(ip))).records[:NAMES_TRIED_MAX]:
            if not is_domain(name):
                continue
            ask = resolver.a if ip.version == 4 else resolver.aaaa
            if any(ipaddress.ip_address(found) == ip for found in (await ask(name)).records):
                return name.lower().rstrip(".")
    except Unavailable:
        return None
    return None
