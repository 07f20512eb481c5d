from __future__ import annotations

import asyncio
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.delivery.outcome import Deferred, Failed
from postroad.delivery.route import (
    ADDRESSES_MAX,
    HOSTS_MAX,
    Hosts,
    find_addresses,
    find_hosts,
    order,
)
from postroad.dns.resolver import MX
from postroad.dns.zone import Zone

OWN = "mx.one.example"
ZONE = """
two.example      MX 20 backup.two.example
two.example      MX 10 MX.two.example
mx.two.example   A 192.0.2.2
mx.two.example   A 192.0.2.3
mx.two.example   AAAA 2001:db8::2
only.example     A 192.0.2.4
six.example      AAAA 2001:db8::6
null.example     MX 0 .
mixed.example    MX 0 .
mixed.example    MX 10 mx.two.example
txt.example      TXT "nothing here"
servfail.example SERVFAIL
slow.example     TIMEOUT
half.example     A 192.0.2.5
half.example     SERVFAIL AAAA
halfgone.example AAAA 2001:db8::7
halfgone.example TIMEOUT A
loop.example     MX 10 mx.one.example
backup.example   MX 10 best.example
backup.example   MX 20 Mx.One.Example.
backup.example   MX 30 worse.example
equal.example    MX 10 mx.one.example
equal.example    MX 10 other.example
alias.example    CNAME two.example
mx.one.example   A 192.0.2.1
bad.example      A 0.0.0.0
bad.example      A 224.0.0.1
bad.example      AAAA ::
twice.example    MX 10 mx.two.example
twice.example    MX 20 mx.two.example
"""


def hosts(domain: str) -> Hosts | Deferred | Failed:
    ticks = count()
    return asyncio.run(find_hosts(Zone(ZONE), domain, OWN, lambda: float(next(ticks))))


def addresses(host: str) -> list[str] | Deferred:
    return asyncio.run(find_addresses(Zone(ZONE), host))


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("two.example", ("mx.two.example", "backup.two.example")),
        ("alias.example", ("mx.two.example", "backup.two.example")),
        ("only.example", ("only.example",)),  # RFC 5321 §5.1: implicit MX
        ("six.example", ("six.example",)),
        ("mixed.example", ("mx.two.example",)),
        ("backup.example", ("best.example",)),  # only hosts nearer than we are
        ("twice.example", ("mx.two.example",)),
        ("half.example", ("half.example",)),
    ],
)
def test_hosts(domain: str, names: tuple[str, ...]) -> None:
    assert hosts(domain) == Hosts(names)


@pytest.mark.parametrize(
    ("domain", "code", "status"),
    [
        ("nowhere.example", 550, "5.1.2"),
        ("null.example", 556, "5.1.10"),  # RFC 7505 §4.1
        ("txt.example", 550, "5.4.4"),
        ("bad.example", 550, "5.4.4"),
        ("loop.example", 554, "5.4.6"),
        ("equal.example", 554, "5.4.6"),
        ("mx.one.example", 554, "5.4.6"),
        ("[0.0.0.0]", 550, "5.1.2"),
        ("[ipv6:ff02::1]", 550, "5.1.2"),
        ("[x-tag:what]", 550, "5.1.2"),
    ],
)
def test_no_way_for_good(domain: str, code: int, status: str) -> None:
    found = hosts(domain)
    assert isinstance(found, Failed)
    assert (found.reply.code, str(found.reply.status)) == (code, status)


@pytest.mark.parametrize("domain", ["servfail.example", "slow.example"])
def test_dns_that_fails_defers(domain: str) -> None:
    found = hosts(domain)
    assert isinstance(found, Deferred)
    assert str(found.reply.status) == "4.4.3"


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[ipv6:2001:db8::1]", "2001:db8::1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_literals(domain: str, address: str) -> None:
    assert hosts(domain) == Hosts((), literal=address)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mx.two.example", ["2001:db8::2", "192.0.2.2", "192.0.2.3"]),
        ("only.example", ["192.0.2.4"]),
        ("nowhere.example", []),
        ("bad.example", []),
        ("half.example", ["192.0.2.5"]),
        ("halfgone.example", ["2001:db8::7"]),
    ],
)
def test_addresses(host: str, expected: list[str]) -> None:
    assert addresses(host) == expected


def test_addresses_that_dns_keeps_back_defer() -> None:
    assert isinstance(addresses("slow.example"), Deferred)


def test_bounds() -> None:
    zone = Zone()
    for number in range(30):
        zone.add("many.example", "MX", (number, f"mx{number}.many.example"))
        zone.add("fat.example", "A", f"192.0.2.{number}")
        zone.add("fat.example", "AAAA", f"2001:db8::{number + 1:x}")
    found = asyncio.run(find_hosts(zone, "many.example", OWN, lambda: 0.5))
    assert isinstance(found, Hosts) and len(found.names) == HOSTS_MAX
    assert len(asyncio.run(find_addresses(zone, "fat.example"))) == ADDRESSES_MAX  # type: ignore[arg-type]


def test_equal_preferences_are_shuffled_by_the_jitter_handed_in() -> None:
    exchanges = [MX(10, "a.example"), MX(10, "b.example"), MX(5, "c.example")]
    for jitter, expected in (((0.1, 0.2), "ab"), ((0.2, 0.1), "ba")):
        chances = iter((*jitter, 0.9))
        names = order(exchanges, OWN, lambda chances=chances: next(chances))
        assert names == ["c.example", *(f"{letter}.example" for letter in expected)]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", OWN])).map(lambda p: MX(*p)),
        max_size=8,
    )
)
def test_order_never_leads_back_or_away_from_the_destination(exchanges: list[MX]) -> None:
    names = order(exchanges, OWN, lambda: 0.5)
    own = [mx.preference for mx in exchanges if mx.exchange == OWN]
    if names is None:
        assert own and all(mx.preference >= min(own) for mx in exchanges)
        return
    assert OWN not in names and len(set(names)) == len(names)
    best = {name: min(mx.preference for mx in exchanges if mx.exchange == name) for name in names}
    assert [best[name] for name in names] == sorted(best.values())
    if own:
        assert all(rank < min(own) for rank in best.values())
