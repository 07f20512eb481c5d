"""The Resolver port: what algorithms ask of DNS, whoever answers.

`dns.zone.Zone` answers from memory, `net.resolver` from the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Outcome(Enum):
    """How a question ended. SERVFAIL, refusal and silence are not outcomes: they raise."""

    FOUND = "found"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"


@dataclass(frozen=True, slots=True)
class MX:
    """exchange: without the trailing dot; the root (null MX, RFC 7505 §3) is ""."""

    preference: int
    exchange: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """records: in the order of the wire, CNAMEs followed; empty unless FOUND.

    ttl_s: the least TTL on the way (of the SOA for negative answers).
    authenticated: the resolver set AD; only a local validating resolver can be trusted with it.
    """

    outcome: Outcome
    records: tuple[T, ...] = ()
    ttl_s: int = 0
    authenticated: bool = False

    def __bool__(self) -> bool:
        return self.outcome is Outcome.FOUND


class Resolver(Protocol):
    """Names are given as A-labels or ASCII, with or without the trailing dot.

    Every method raises `Unavailable` when DNS failed (SERVFAIL, timeout, refusal): temporary.
    A name that DNS cannot carry (a label over 63 octets...) answers NXDOMAIN.
    """

    async def txt(self, name: str) -> Answer[bytes]:
        """Each record's character-strings joined without spaces (RFC 7208 §3.3)."""
        ...

    async def mx(self, name: str) -> Answer[MX]: ...

    async def a(self, name: str) -> Answer[str]:
        """IPv4 addresses in dotted form."""
        ...

    async def aaaa(self, name: str) -> Answer[str]:
        """IPv6 addresses in canonical text form."""
        ...

    async def ptr(self, address: str) -> Answer[str]:
        """The names an IP address (text) points to, without trailing dots."""
        ...

    async def tlsa(self, name: str) -> Answer[tuple[int, int, int, bytes]]:
        """usage, selector, matching type, data (RFC 6698 §2.1)."""
        ...
