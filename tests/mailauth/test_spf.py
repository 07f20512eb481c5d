"""SPF beyond the suite: macros, bounds, failing DNS, hostile records."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.dns.zone import Zone
from postroad.mail.address import Address
from postroad.mailauth.result import Result
from postroad.mailauth.spf import SPFResult, check_spf
from postroad.mailauth.spf.macro import as_name, expand, parse_domain_spec, parse_macro_string
from postroad.mailauth.spf.record import RECORD_OCTETS_MAX, parse_record

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
ANN = Address("ann", "one.example")


def check(
    zone: Zone | str,
    *,
    address: str = "192.0.2.1",
    helo: str = "mx.one.example",
    sender: Address | None = ANN,
    now: datetime | None = NOW,
) -> SPFResult:
    return asyncio.run(
        check_spf(
            Zone(zone) if isinstance(zone, str) else zone,
            address=address,
            helo=helo,
            reverse_path=sender,
            hostname="mx.two.example",
            now=now,
        )
    )


def test_a_pass_says_why() -> None:
    found = check('one.example TXT "v=spf1 a:mx.one.example -all"\nmx.one.example A 192.0.2.1')
    assert (found.result, found.domain, found.identity) == ("pass", "one.example", "mailfrom")
    assert found.reason == "one.example: a:mx.one.example"
    assert found.steps == (
        "one.example: v=spf1 a:mx.one.example -all",
        "one.example: a:mx.one.example matches",
    )


def test_a_null_reverse_path_checks_the_helo() -> None:
    zone = 'mx.one.example TXT "v=spf1 exists:%{l}.%{o}.ok.example -all"\n'
    zone += "postmaster.mx.one.example.ok.example A 127.0.0.2"
    found = check(zone, sender=None)
    assert (found.result, found.domain, found.identity) == ("pass", "mx.one.example", "helo")
    for helo in ("[192.0.2.1]", "localhost", "", "a b.example", "..", "x" * 300 + ".example"):
        assert check(zone, sender=None, helo=helo).result is Result.NONE


def test_an_ipv4_mapped_client_is_an_ipv4_client() -> None:
    assert (
        check('one.example TXT "v=spf1 ip4:192.0.2.1 -all"', address="::ffff:192.0.2.1").result
        == "pass"
    )
    scoped = check('one.example TXT "v=spf1 ip6:fe80::1 -all"', address="fe80::1%eth0")
    assert scoped.result == "pass"
    assert check("", address="a unix socket").result is Result.NONE


def test_an_idn_sender_is_looked_up_by_its_a_label() -> None:
    zone = 'xn--bcher-kva.example TXT "v=spf1 exists:%{d}.ok.example -all"\n'
    zone += "xn--bcher-kva.example.ok.example A 127.0.0.2"
    assert check(zone, sender=Address("ann", "Bücher.example")).result is Result.PASS


def test_terms_with_a_non_ascii_local_part_match_nothing() -> None:
    """RFC 8616 §4."""
    zone = 'one.example TXT "v=spf1 exists:%{l}.ok.example ?all"\n*.ok.example A 127.0.0.2'
    assert check(zone).result is Result.PASS
    assert check(zone, sender=Address("änn", "one.example")).result is Result.NEUTRAL


@pytest.mark.parametrize(
    ("macro", "expansion"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{d999999999999999999999}", "email.example.com"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%%%_%-", "% %20"),
        ("%{h+,}", "mx.example.org"),
    ],
)
def test_macros_expand_as_the_rfc_shows(macro: str, expansion: str) -> None:
    """RFC 7208 §7.4."""
    values = {
        "s": "strong-bad@email.example.com",
        "l": "strong-bad",
        "o": "email.example.com",
        "d": "email.example.com",
        "i": "192.0.2.3",
        "v": "in-addr",
        "h": "mx.example.org",
    }
    assert expand(parse_macro_string(macro), values) == expansion


@pytest.mark.parametrize(
    "text",
    ["%", "%{", "%{d", "%{x}.a.b", "%{d0}", "%{dr2}.a.b", "%(d)", "a b", "%{c}.a.b", "ä.example"]
    + ["nodots", "a.1", "a.b-", "a.-b", "a..", ".", "%{d}x", "%{d}.", "a.b%{d}c"],
)
def test_bad_domain_specs_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_domain_spec(text)


@pytest.mark.parametrize(
    "text", ["a.b", ".b", "a.b.", "a.xn--1", "%{d}", "x%{d2}.c", "a.1-2", "%%"]
)
def test_good_domain_specs_are_taken(text: str) -> None:
    assert parse_domain_spec(text)


def test_long_names_lose_labels_at_the_left() -> None:
    name = ".".join(["a" * 49] * 6)
    assert len(as_name(name)) == 249
    assert as_name("x" * 300) == "x" * 253


@pytest.mark.parametrize(
    "record",
    ["v=spf1 al", "v=spf1 all:x", "v=spf1 ip4", "v=spf1 ip4:1.2.3", "v=spf1 ip4:1.2.3.4/33"]
    + ["v=spf1 ip4:1.2.3.4/", "v=spf1 ip4:1.2.3.4/08", "v=spf1 ip6:::1/129", "v=spf1 ip6:::1%1"]
    + ["v=spf1 a:", "v=spf1 a/33", "v=spf1 a//129", "v=spf1 a/24/64", "v=spf1 mx/x", "v=spf1 ptr/8"]
    + ["v=spf1 include", "v=spf1 include:", "v=spf1 exists", "v=spf1 redirect=", "v=spf1 -"]
    + ["v=spf1 redirect=a.b redirect=a.b", "v=spf1 exp=a.b exp=a.b", "v=spf1 x=%", "v=spf1 +x=y"]
    + ["v=spf1 =y", "v=spf1 all\t", "v=spf1 \u00e9", "v=spf1 a:b c:d", "v=spf1 " + "a " * 9000],
)
def test_faulty_records_are_permerror(record: str) -> None:
    assert isinstance(parse_record(record.encode()), str)
    zone = Zone({"one.example": {"TXT": record}, "mx.one.example": {"A": "192.0.2.1"}})
    found = check(zone)
    assert found.result is Result.PERMERROR
    assert found.reason.isprintable()
    assert list(zone.asked) == [("TXT", "one.example")]


def test_unknown_modifiers_are_passed_over() -> None:
    assert check('one.example TXT "v=spf1 op=auth,helo Moo.x_-=%{c} ?ALL"').result == "neutral"


def test_explanations() -> None:
    zone = """
one.example TXT "v=spf1 exp=why.%{d} -all"
why.one.example TXT "%{i} may not send as %{s}; asked by %{r} at %{t}, see http://x.example/%{S}"
"""
    said = "192.0.2.1 may not send as ann@one.example; asked by mx.two.example at 1795471200, "
    assert check(zone).explanation == said + "see http://x.example/ann%40one.example"
    assert check(zone, now=None).explanation == ""
    assert check(zone + "why.one.example TXT two").explanation == ""
    assert check(zone.replace("%{i}", "%i")).explanation == ""
    assert check(zone.replace("%{i}", "\\195\\164")).explanation == ""
    assert check(zone.replace("%{i}", "\\010")).explanation == ""
    assert (
        check(zone.replace("why.one.example TXT", "why.one.example TIMEOUT TXT ;")).explanation
        == ""
    )
    assert len(check(zone.replace("%{i}", "x" * 255 * 9)).explanation) <= 400


def test_an_included_record_explains_nothing() -> None:
    """RFC 7208 §6.2: the including domain speaks, or nobody."""
    zone = """
one.example TXT "v=spf1 include:two.example -all"
two.example TXT "v=spf1 exp=why.two.example -all"
why.two.example TXT "two says no"
"""
    assert (check(zone).result, check(zone).explanation) == (Result.FAIL, "")
    said = zone.replace("-all", "-all exp=why.one.example", 1) + "why.one.example TXT ours"
    assert check(said).explanation == "ours"
    redirected = zone.replace(
        "include:two.example -all", "redirect=two.example exp=why.one.example"
    )
    assert check(redirected).explanation == "two says no"


def test_an_explanation_holds_nothing_but_printable_ascii() -> None:
    zone = 'one.example TXT "v=spf1 exp=why.one.example -all"\nwhy.one.example TXT "%{h}"'
    assert check(zone, helo="mx.one.example").explanation == "mx.one.example"
    for helo in ("m\u00fcx", "m\x07x"):
        assert check(zone, helo=helo).explanation == ""


def test_a_redirect_that_names_nothing_is_permerror() -> None:
    zone = 'one.example TXT "v=spf1 redirect=%{l}.one.example"'
    assert check(zone).result is Result.PERMERROR
    assert check(zone, sender=Address("\u00e4nn", "one.example")).result is Result.PERMERROR


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ((), "unknown"),
        (("a.two.example", "b.two.example"), "a.two.example"),
        (("a.two.example", "a.one.example"), "a.one.example"),
        (("a.two.example", "a.one.example", "one.example"), "one.example"),
    ],
)
def test_the_validated_name_is_chosen_near_the_domain(names: tuple[str, ...], chosen: str) -> None:
    """RFC 7208 §7.3, %{p}."""
    zone = Zone('one.example TXT "v=spf1 exists:%{p}.ok.example -all"')
    zone.add(f"{chosen}.ok.example", "A", "127.0.0.2")
    for name in names:
        zone.add("192.0.2.1", "PTR", name)
        zone.add(name, "A", "192.0.2.1")
    assert check(zone).result is Result.PASS


def test_dns_that_fails_is_temperror() -> None:
    for zone in (
        "one.example TIMEOUT",
        'one.example TXT "v=spf1 a -all"\none.example SERVFAIL A',
        'one.example TXT "v=spf1 include:slow.example -all"\nslow.example TIMEOUT',
        'one.example TXT "v=spf1 mx -all"\none.example MX 1 slow.example\nslow.example TIMEOUT',
    ):
        found = check(zone)
        assert found.result is Result.TEMPERROR, zone
        assert "dns" in found.reason
    ptr = 'one.example TXT "v=spf1 ptr -all"\n192.0.2.1 TIMEOUT'
    assert check(ptr).result is Result.FAIL


def test_a_match_before_the_fault_in_dns_counts() -> None:
    zone = 'one.example TXT "v=spf1 ip4:192.0.2.1 include:slow.example -all"\nslow.example TIMEOUT'
    assert check(zone).result is Result.PASS


# -- bounds -------------------------------------------------------------------------------------


def test_includes_in_a_ring_end_at_ten_look_ups() -> None:
    zone = Zone('one.example TXT "v=spf1 include:two.example -all"')
    zone.add("two.example", "TXT", "v=spf1 include:one.example -all")
    assert check(zone).result is Result.PERMERROR
    assert len(zone.asked) == 11


def test_a_record_of_many_terms_asks_for_ten() -> None:
    zone = Zone({"one.example": {"TXT": "v=spf1 " + "a:x.two.example " * 900}})
    zone.add("x.two.example", "A", "192.0.2.9")
    assert check(zone).result is Result.PERMERROR
    assert len(zone.asked) == 11


def test_two_void_look_ups_are_allowed() -> None:
    assert (
        check('one.example TXT "v=spf1 a:a.void.example mx:b.void.example ?all"').result
        == "neutral"
    )
    found = check('one.example TXT "v=spf1 a:a.v.example mx:b.v.example exists:c.v.example ?all"')
    assert found.result is Result.PERMERROR


def test_exchanges_without_an_address_are_no_void_look_ups() -> None:
    """A domain of four IPv4 exchanges is not broken because its client came by IPv6."""
    zone = Zone('one.example TXT "v=spf1 mx ip6:2001:db8::1 -all"')
    for number in range(4):
        zone.add("one.example", "MX", (number, f"mx{number}.one.example"))
        zone.add(f"mx{number}.one.example", "A", "192.0.2.9")
    assert check(zone, address="2001:db8::1").result is Result.PASS


def test_ptr_looks_at_ten_names() -> None:
    zone = Zone('one.example TXT "v=spf1 ptr exists:%{p}.%{p}.x.example ?all"')
    for number in range(40):
        zone.add("192.0.2.1", "PTR", f"h{number}.other.example")
        zone.add(f"h{number}.other.example", "A", "192.0.2.1")
    zone.add("192.0.2.1", "PTR", "h.one.example")
    zone.add("h.one.example", "A", "192.0.2.1")
    assert check(zone).result is Result.NEUTRAL
    assert [kind for kind, _ in zone.asked].count("A") == 11


@pytest.mark.parametrize(
    "bomb",
    [
        "v=spf1 exists:" + "%{s}" * 3000 + ".x.example",
        "v=spf1 exists:" + "%{ir}." * 2000 + "example",
        "v=spf1 exists:" + "a" * 16000,
        "v=spf1 exists:" + "a" * 16000 + ".b!",
        "v=spf1 exists:" + "%{s-.+,/_=}" * 1000 + "%{d}",
        "v=spf1 a:" + "/" * 16000,
        "v=spf1 " + "ip4:192.0.2.9 " * 1100,
        "v=spf1 " + " " * 16000,
        "v=spf1 ip4:" + "9" * 16000,
        "v=spf1 a/" + "9" * 16000,
        "v=spf1 exists:%{d" + "9" * 16000 + "}.x.example",
        "v=spf1 x" + "-" * 16000,
    ],
)
@pytest.mark.timeout(5)
def test_bombs_cost_little(bomb: str) -> None:
    assert len(bomb) <= RECORD_OCTETS_MAX
    zone = Zone({"one.example": {"TXT": bomb}})
    found = check(zone, address="2001:db8::1", sender=Address("x" * 64, "one.example"))
    assert found.result in (Result.NEUTRAL, Result.PERMERROR)
    assert len(zone.asked) <= 11
    assert all(len(step) < 400 for step in found.steps)


TERM = st.sampled_from(
    ["all", "-all", "a", "mx", "ptr", "ip4:192.0.2.0/24", "ip6:::/0", "include:two.example"]
    + ["include:%{d}", "exists:%{i}.x.example", "redirect=two.example", "exp=%{h}.one.example"]
    + [
        "a:%{l}.%{d}/8//8",
        "mx:two.example",
        "?all",
        "x=%{p}",
        "exists:%{p2r}.two.example",
        "%",
        "é",
    ]
)
RECORD = st.lists(TERM, max_size=6).map(lambda terms: " ".join(["v=spf1", *terms]).encode())
NAME = st.sampled_from(["one.example", "two.example", "mx.one.example", "1.2.0.192.x.example"])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        NAME,
        st.fixed_dictionaries(
            {},
            optional={
                "TXT": st.one_of(
                    RECORD, st.binary(max_size=40).map(lambda tail: b"v=spf1 " + tail)
                ),
                "A": st.sampled_from(["192.0.2.1", "198.51.100.1"]),
                "MX": st.tuples(st.integers(0, 9), NAME),
                "TIMEOUT": st.sampled_from(["A", "MX", "TXT"]),
            },
        ),
    ),
    st.sampled_from(["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"]),
    st.one_of(NAME, st.text(max_size=20)),
    st.one_of(
        st.none(), st.builds(Address, st.text(max_size=20), st.one_of(NAME, st.text(max_size=20)))
    ),
)
def test_nothing_raises_and_work_is_bounded(
    records: dict[str, dict[str, str]], address: str, helo: str, sender: Address | None
) -> None:
    zone = Zone(records)
    zone.add("192.0.2.1", "PTR", "mx.one.example")
    found = check(zone, address=address, helo=helo, sender=sender)
    assert found.result is not Result.POLICY
    assert found.reason.isprintable()
    assert found.explanation.isascii()
    assert found.explanation == "" or found.result is Result.FAIL
    assert len(zone.asked) <= 1 + 10 * 11 + 12
