"""Where mail for a domain goes: host names in the order to try them, then their addresses.

Asks the Resolver it is handed; the order itself is pure, jitter comes from outside. Trusts no
answer: targets are bounded, and addresses that no peer can have are left out.
Source: RFC 5321 §5.1 (MX, preference, implicit MX, loops), §4.1.3 (literals); RFC 7505 (null MX);
RFC 3463 §3.2, §3.5 (what the statuses mean).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from postroad.delivery.outcome import Deferred, Failed
from postroad.dns.resolver import MX, Answer, Outcome, Resolver
from postroad.mail.address import domain_key
from postroad.mail.errors import Unavailable
from postroad.mail.reply import Reply

HOSTS_MAX = 10
"""MX hosts looked at for one attempt: two or three is usual, more is a trap for our time."""
ADDRESSES_MAX = 10
"""Addresses dialled in one attempt; 30 s each at worst."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names to try, best first; an address literal stands as the bare address, in `literal`."""

    names: tuple[str, ...]
    literal: str = ""


def defer(status: str, text: str) -> Deferred:
    """In our own words. text: may come from a library, so it is made one line."""
    return Deferred(Reply.of(451, status, " ".join(text.replace("\0", " ").split())))


def order(exchanges: Sequence[MX], hostname: str, jitter: Callable[[], float]) -> list[str] | None:
    """Host names by preference, equal ones shuffled, each once; None: we are the best ourselves.

    Hosts that are not nearer to the destination than we are, are left out: else mail loops.
    Source: RFC 5321 §5.1.
    """
    own = domain_key(hostname)
    known = [(mx.preference, jitter(), mx.exchange.rstrip(".").lower()) for mx in exchanges]
    limit = min((rank for rank, _, name in known if name == own), default=None)
    kept = sorted(item for item in known if limit is None or item[0] < limit)
    if not kept and limit is not None:
        return None
    return list(dict.fromkeys(name for _, _, name in kept if name))[:HOSTS_MAX]


async def find_hosts(
    resolver: Resolver, domain: str, hostname: str, jitter: Callable[[], float]
) -> Hosts | Deferred | Failed:
    """The hosts that take mail for a domain (the key form), or why there is none."""
    if domain.startswith("["):
        return _literal(domain)
    try:
        answer = await resolver.mx(domain)
    except Unavailable as error:
        return defer("4.4.3", f"DNS gave no answer about {domain}: {error.what}")
    if answer.outcome is Outcome.NXDOMAIN:
        return Failed(Reply.of(550, "5.1.2", f"The domain {domain} does not exist"))
    if not answer.records:
        return await _implicit(resolver, domain, hostname)
    if any(not mx.exchange.rstrip(".") for mx in answer.records) and len(answer.records) == 1:
        return Failed(Reply.of(556, "5.1.10", f"The domain {domain} accepts no mail (null MX)"))
    names = order(answer.records, hostname, jitter)
    if names is None:
        return Failed(_loop(domain))
    if not names:  # a null MX among others (RFC 7505 §3 forbids it): nothing that can be tried
        return defer("4.4.4", f"No mail exchanger of {domain} can be reached")
    return Hosts(tuple(names))


async def _implicit(resolver: Resolver, domain: str, hostname: str) -> Hosts | Deferred | Failed:
    """Without MX the domain's own address takes its mail (RFC 5321 §5.1)."""
    if domain == domain_key(hostname):
        return Failed(_loop(domain))
    found = await find_addresses(resolver, domain)
    if isinstance(found, Deferred):
        return found
    if not found:
        text = f"The domain {domain} has neither mail exchanger nor address"
        return Failed(Reply.of(550, "5.4.4", text))
    return Hosts((domain,))


async def find_addresses(resolver: Resolver, host: str) -> list[str] | Deferred:
    """The host's addresses, IPv6 and IPv4 in turns; empty when it has none.

    One family's failure does not hide what the other has.
    """
    families: list[list[str]] = []
    failure: Deferred | None = None
    for ask in (resolver.aaaa, resolver.a):
        try:
            answer: Answer[str] = await ask(host)
        except Unavailable as error:
            failure = defer("4.4.3", f"DNS gave no answer about {host}: {error.what}")
            continue
        families.append([text for text in answer.records if _is_usable(text)])
    mixed = [text for pair in zip_longest(*families) for text in pair if text is not None]
    if not mixed and failure is not None:
        return failure
    return list(dict.fromkeys(mixed))[:ADDRESSES_MAX]


def _is_usable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)


def _literal(domain: str) -> Hosts | Failed:
    """Source: RFC 5321 §4.1.3."""
    text = domain.removeprefix("[").removesuffix("]")
    if text.lower().startswith("ipv6:"):
        text = text[5:]
    if not _is_usable(text):
        return Failed(Reply.of(550, "5.1.2", f"{domain} is no address that mail can go to"))
    return Hosts((), literal=str(ipaddress.ip_address(text)))


def _loop(domain: str) -> Reply:
    return Reply.of(554, "5.4.6", f"Mail for {domain} is routed back to us; it is not local here")
