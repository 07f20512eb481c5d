"""The in-memory zone answers as a resolver would."""

from __future__ import annotations

import asyncio

import pytest

from postroad.dns.resolver import MX, Outcome, Resolver
from postroad.dns.zone import Zone
from postroad.mail.errors import Unavailable

TEXT = """
$ORIGIN one.example.
$TTL 300
@        3600 IN MX  10 mx
         IN  MX  20 mx2.elsewhere.example.
mx       A     192.0.2.1
         AAAA  2001:DB8::1
@        TXT   "v=spf1 mx " "-all" ; a comment
@        TXT   ( "second;" \\034quoted
                 " \\"one\\"" )
www      CNAME mx
ring     CNAME ring2
ring2    CNAME ring
dangling CNAME nowhere.example.
a.deep.name  A 192.0.2.2
*.wild   TXT   wild
there.wild A  192.0.2.3
slow     TIMEOUT
broken   SERVFAIL TXT
broken   A     192.0.2.4
_25._tcp.mx  TLSA  3 1 1 00ff 10
null     MX 0 .
1.2.0.192.in-addr.arpa. PTR mx.one.example.
"""


def ask(zone: Zone, kind: str, name: str) -> tuple[Outcome, tuple[object, ...]]:
    answer = asyncio.run(getattr(zone, kind)(name))
    return answer.outcome, answer.records


def test_text_is_read_as_a_zone_file() -> None:
    zone = Zone(TEXT)
    assert ask(zone, "mx", "ONE.example.") == (
        Outcome.FOUND,
        (MX(10, "mx.one.example"), MX(20, "mx2.elsewhere.example")),
    )
    assert ask(zone, "aaaa", "mx.one.example")[1] == ("2001:db8::1",)
    assert ask(zone, "txt", "one.example")[1] == (b"v=spf1 mx -all", b'second;"quoted "one"')
    assert ask(zone, "tlsa", "_25._tcp.mx.one.example")[1] == ((3, 1, 1, b"\x00\xff\x10"),)
    assert ask(zone, "mx", "null.one.example")[1] == (MX(0, ""),)
    assert ask(zone, "ptr", "192.0.2.1")[1] == ("mx.one.example",)
    assert ask(zone, "ptr", "::ffff:192.0.2.1")[1] == ("mx.one.example",)


def test_a_cname_is_followed() -> None:
    zone = Zone(TEXT)
    assert ask(zone, "a", "www.one.example") == (Outcome.FOUND, ("192.0.2.1",))
    assert ask(zone, "txt", "www.one.example") == (Outcome.NODATA, ())
    assert ask(zone, "a", "dangling.one.example") == (Outcome.NXDOMAIN, ())
    with pytest.raises(Unavailable):
        ask(zone, "a", "ring.one.example")


def test_empty_non_terminals_are_nodata() -> None:
    zone = Zone(TEXT)
    assert ask(zone, "a", "a.deep.name.one.example")[0] is Outcome.FOUND
    assert ask(zone, "a", "deep.name.one.example") == (Outcome.NODATA, ())
    assert ask(zone, "a", "name.one.example") == (Outcome.NODATA, ())
    assert ask(zone, "a", "b.name.one.example") == (Outcome.NXDOMAIN, ())
    assert ask(zone, "a", "example") == (Outcome.NODATA, ())
    assert ask(zone, "txt", "mx.one.example") == (Outcome.NODATA, ())


def test_wildcards_stop_at_names_that_exist() -> None:
    zone = Zone(TEXT)
    assert ask(zone, "txt", "any.thing.wild.one.example")[1] == (b"wild",)
    assert ask(zone, "a", "any.wild.one.example")[0] is Outcome.NODATA
    assert ask(zone, "txt", "there.wild.one.example")[0] is Outcome.NODATA
    assert ask(zone, "txt", "x.there.wild.one.example")[0] is Outcome.NXDOMAIN


def test_failures_raise_unavailable_and_say_how() -> None:
    zone = Zone(TEXT)
    with pytest.raises(Unavailable, match=r"dns mx slow\.one\.example: timed out"):
        ask(zone, "mx", "slow.one.example")
    with pytest.raises(Unavailable, match="SERVFAIL"):
        ask(zone, "txt", "broken.one.example")
    assert ask(zone, "a", "broken.one.example")[1] == ("192.0.2.4",)


def test_a_table_is_as_good_as_text_and_can_change() -> None:
    zone = Zone(
        {
            "bücher.example": {"TXT": ["ä", b"\xff"], "MX": [(5, "mx.bücher.example")]},
            "b.example": {"TIMEOUT": "", "A": "192.0.2.9"},
            "192.0.2.7": {"PTR": "b.example"},
        },
        authenticated=True,
    )
    assert ask(zone, "txt", "xn--bcher-kva.example")[1] == ("ä".encode(), b"\xff")
    assert ask(zone, "mx", "BÜCHER.example")[1] == (MX(5, "mx.xn--bcher-kva.example"),)
    assert ask(zone, "ptr", "192.0.2.7")[1] == ("b.example",)
    with pytest.raises(Unavailable):
        ask(zone, "a", "b.example")
    zone.remove("b.example", "TIMEOUT")
    assert ask(zone, "a", "b.example")[1] == ("192.0.2.9",)
    zone.remove("b.example")
    assert ask(zone, "a", "b.example")[0] is Outcome.NXDOMAIN
    resolver: Resolver = zone
    assert asyncio.run(resolver.a("c.example")).authenticated
    assert list(zone.asked)[-1] == ("A", "c.example")


@pytest.mark.parametrize("name", ["", ".", "a..example", "x" * 64 + ".example", "a\tb.example"])
def test_names_that_dns_cannot_carry_do_not_exist(name: str) -> None:
    assert ask(Zone("*.example TXT all"), "txt", name)[0] is Outcome.NXDOMAIN


@pytest.mark.parametrize(
    "text", ["a.example", "a.example WKS x", "a.example A 1.2.3", "a.example TXT ( x"]
)
def test_faults_name_their_line(text: str) -> None:
    with pytest.raises(ValueError, match="zone line 2"):
        Zone("b.example A 192.0.2.1\n" + text)


def test_one_type_can_be_taken_away_and_all_be_listed() -> None:
    zone = Zone({"a.example": {"TXT": "x", "A": "192.0.2.1"}})
    zone.remove("A.example.", "txt")
    assert list(zone.records()) == [("a.example", "A", "192.0.2.1")]
    assert ask(zone, "txt", "a.example")[0] is Outcome.NODATA


@pytest.mark.parametrize(
    ("kind", "value"),
    [("WKS", "x"), ("A", b"x"), ("MX", "1"), ("TLSA", "1 1"), ("AAAA", "1.2.3.4")],
)
def test_faulty_data_is_refused(kind: str, value: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Zone({"a.example": {kind: value}})


def test_data_may_be_written_as_text() -> None:
    zone = Zone({"a.example": {"MX": "5 mx.b.example.", "TLSA": [(3, 1, 1, b"x")], "SOA": ". . 1"}})
    assert ask(zone, "mx", "a.example")[1] == (MX(5, "mx.b.example"),)
    assert ask(zone, "tlsa", "a.example")[1] == ((3, 1, 1, b"x"),)
    with pytest.raises(ValueError, match="begins with a name"):
        Zone('"quoted" A 192.0.2.1')
