"""A peer's name counts only when it leads back to the peer."""

from __future__ import annotations

import asyncio

import pytest

from postroad.dns.zone import Zone
from postroad.policy.peer import confirmed_name

ZONE = """
192.0.2.1       PTR MX.good.example
mx.good.example A 192.0.2.1
192.0.2.2       PTR liar.example
liar.example    A 192.0.2.9
192.0.2.3       PTR gone.example
192.0.2.4       TIMEOUT
192.0.2.5       PTR slow.example
slow.example    SERVFAIL
2001:db8::1     PTR six.example
six.example     AAAA 2001:db8::1
127.0.0.1       PTR localhost.example
localhost.example A 127.0.0.1
"""


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "mx.good.example"),
        ("2001:db8::1", "six.example"),
        ("192.0.2.2", None),
        ("192.0.2.3", None),
        ("192.0.2.4", None),
        ("192.0.2.5", None),
        ("192.0.2.6", None),
        ("127.0.0.1", None),
        ("fe80::1%eth0", None),
    ],
)
def test_confirmed_name(address: str, name: str | None) -> None:
    assert asyncio.run(confirmed_name(Zone(ZONE), address)) == name
