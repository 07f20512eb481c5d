"""The records a domain publishes: what dnspython and our own zone read back."""

from __future__ import annotations

import asyncio

import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.dns.records import (
    UNKNOWN_ADDRESS,
    Record,
    render_txt,
    render_zone,
    split_txt,
    wanted_records,
)
from postroad.dns.resolver import MX, Outcome
from postroad.dns.zone import Zone
from postroad.mail.address import Address
from postroad.mailauth.dkim.keys import generate_key, load_public_key, parse_key_record
from postroad.mailauth.dmarc.record import Policy, is_dmarc, parse_record
from postroad.mailauth.spf import check_spf

RSA = "M" * 392
KEYS = [("202611r", "rsa-sha256", RSA), ("202611e", "ed25519-sha256", "x" * 44)]
WANTED = wanted_records(
    "Bücher.example", "mx.bücher.example", ["9.9.9.9", "2620:fe::fe", "192.168.0.1"], KEYS
)
DOMAIN = "xn--bcher-kva.example"


def test_the_records() -> None:
    assert [(record.name.removesuffix(DOMAIN), record.type) for record in WANTED] == [
        ("", "MX"),
        ("", "TXT"),
        ("202611r._domainkey.", "TXT"),
        ("202611e._domainkey.", "TXT"),
        ("_dmarc.", "TXT"),
        ("mx.", "A"),
        ("mx.", "AAAA"),
        ("mx.", "A"),
        ("mx.", "TXT"),
        ("9.9.9.9.in-addr.arpa", "PTR"),
        ("e.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.f.0.0.0.2.6.2.ip6.arpa", "PTR"),
    ]
    assert all(record.why for record in WANTED)
    assert "not a public one" in WANTED[7].why


def test_a_host_elsewhere_has_its_records_there() -> None:
    found = wanted_records("one.example", "mx.two.example", ["9.9.9.9"], [])
    assert [(record.name, record.type, record.value) for record in found] == [
        ("one.example", "MX", "10 mx.two.example"),
        ("one.example", "TXT", "v=spf1 mx ~all"),
        ("_dmarc.one.example", "TXT", "v=DMARC1; p=none; rua=mailto:postmaster@one.example"),
    ]


def test_an_address_that_nobody_told_is_a_gap_to_fill() -> None:
    found = wanted_records("one.example", "mx.one.example", [], [])
    assert [record.value for record in found if record.type == "A"] == [UNKNOWN_ADDRESS]
    text = render_zone(found)
    assert f"; mx.one.example. 3600 IN A {UNKNOWN_ADDRESS}" in text
    assert asyncio.run(Zone(text).a("mx.one.example")).outcome is Outcome.NODATA


def test_a_host_named_as_the_domain_has_one_spf_record() -> None:
    found = wanted_records("one.example", "one.example", ["9.9.9.9"], [])
    assert sum(record.value.startswith("v=spf1") for record in found) == 1


@pytest.mark.parametrize(("domain", "address"), [("a..b", "9.9.9.9"), ("a.b", "9.9.9")])
def test_nonsense_is_refused(domain: str, address: str) -> None:
    with pytest.raises(ValueError, match=r"a\.\.b|9\.9\.9"):
        wanted_records(domain, f"mx.{domain}", [address], [])


def test_dnspython_reads_the_zone_back() -> None:
    text = f"{DOMAIN}. 3600 IN SOA . . 1 1 1 1 1\n{DOMAIN}. 3600 IN NS ns.\n" + render_zone(WANTED)
    zone = dns.zone.from_text(text, origin=DOMAIN, relativize=False)
    read = {
        (str(name).rstrip("."), dns.rdatatype.to_text(data.rdtype), _value(data))
        for name, _, data in zone.iterate_rdatas()
    }
    wanted = {(r.name, r.type, r.value) for r in WANTED if r.type != "PTR"}
    assert wanted <= read


def _value(data: object) -> str:
    strings = getattr(data, "strings", None)
    if strings is not None:
        assert all(len(string) <= 255 for string in strings)
        return b"".join(strings).decode()
    return str(data).removesuffix(".")


def test_our_checks_accept_what_we_publish() -> None:
    _, public = generate_key("ed25519-sha256")
    zone = Zone(
        render_zone(
            wanted_records(
                "one.example", "mx.one.example", ["9.9.9.9"], [("s", "ed25519-x", public)]
            )
        )
    )
    assert asyncio.run(zone.mx("one.example")).records == (MX(10, "mx.one.example"),)
    for path in (Address("ann", "one.example"), None):
        spf = asyncio.run(
            check_spf(
                zone, address="9.9.9.9", helo="mx.one.example", reverse_path=path, hostname="h"
            )
        )
        assert spf.result == "pass"
    (key,) = asyncio.run(zone.txt("s._domainkey.one.example")).records
    record = parse_key_record(key)
    load_public_key(record.algorithm, record.public)
    (dmarc,) = asyncio.run(zone.txt("_dmarc.one.example")).records
    assert is_dmarc(dmarc)
    assert parse_record(dmarc).policy is Policy.NONE


@given(st.binary(max_size=700))
def test_txt_survives_any_octets(octets: bytes) -> None:
    assert b"".join(split_txt(octets)) == octets
    line = f"a.example. 60 IN TXT {render_txt(octets)}\n"
    zone = dns.zone.from_text(
        "@ 60 IN SOA . . 1 1 1 1 1\n@ 60 IN NS b.\n" + line, origin="example."
    )
    (rdata,) = zone.find_rdataset("a", "TXT")
    assert b"".join(rdata.strings) == octets
    assert asyncio.run(Zone(line).txt("a.example")).records == (octets,)


def test_record_is_a_value() -> None:
    assert Record("a", "A", "192.0.2.1", "x") == Record("a", "A", "192.0.2.1", "x")
