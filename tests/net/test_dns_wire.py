"""DNS messages: ours against dnspython's, and hostile ones."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.dns.resolver import MX
from postroad.net.dns_wire import (
    Malformed,
    RecordType,
    build_query,
    parse_name,
    parse_response,
)

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=6).map(".".join)


@given(NAME, st.sampled_from(list(RecordType)), st.integers(0, 65535), st.booleans())
@settings(max_examples=60)
def test_queries_read_as_meant(name: str, kind: RecordType, number: int, edns: bool) -> None:
    message = dns.message.from_wire(build_query(number, name, kind, edns=edns))
    assert message.id == number
    assert message.question[0].name == dns.name.from_text(name)
    assert message.question[0].rdtype == int(kind)
    assert message.flags & dns.flags.RD and message.flags & dns.flags.AD
    assert (message.edns == 0 and message.payload == 1232) if edns else message.edns == -1


RECORDS = st.lists(
    st.one_of(
        st.tuples(st.just("A"), st.ip_addresses(v=4).map(str)),
        st.tuples(st.just("AAAA"), st.ip_addresses(v=6).map(str)),
        st.tuples(st.just("MX"), st.tuples(st.integers(0, 65535), NAME)),
        st.tuples(st.just("PTR"), NAME),
        st.tuples(st.just("TXT"), st.lists(st.binary(max_size=255), min_size=1, max_size=3)),
        st.tuples(st.just("TLSA"), st.binary(min_size=32, max_size=32)),
    ),
    min_size=1,
    max_size=6,
)


def _text(kind: str, value: object) -> str:
    match kind, value:
        case "MX", (preference, exchange):
            return f"{preference} {exchange}."
        case "PTR", str():
            return f"{value}."
        case "TXT", list():
            return " ".join('"' + "".join(f"\\{o:03d}" for o in part) + '"' for part in value)
        case "TLSA", bytes():
            return f"3 1 1 {value.hex()}"
    return str(value)


def _ours(kind: str, value: object) -> object:
    match kind, value:
        case "MX", (int(preference), str(exchange)):
            return MX(preference, exchange)
        case "TXT", list():
            return b"".join(value)
        case "TLSA", bytes():
            return (3, 1, 1, value)
    return value


@given(NAME, RECORDS, st.integers(0, 86400))
@settings(max_examples=100)
def test_responses_of_dnspython_are_read_the_same(
    name: str, records: list[tuple[str, object]], ttl: int
) -> None:
    query = build_query(7, name, RecordType.TXT)
    response = dns.message.make_response(dns.message.from_wire(query))
    for kind, value in records:
        response.answer.append(dns.rrset.from_text(name + ".", ttl, "IN", kind, _text(kind, value)))
    parsed = parse_response(response.to_wire(), query)
    assert [record.data for record in parsed.answers] == [_ours(*record) for record in records]
    assert {(r.owner, r.ttl_s) for r in parsed.answers} == {(name, ttl)}
    assert not parsed.truncated and not parsed.authenticated and parsed.code == 0


def test_negative_ttl_and_extended_codes() -> None:
    query = build_query(7, "x.example", RecordType.A)
    response = dns.message.make_response(dns.message.from_wire(query))
    response.set_rcode(dns.rcode.NXDOMAIN)
    soa = "ns.example. host.example. 1 2 3 4 60"
    response.authority.append(dns.rrset.from_text("example.", 900, "IN", "SOA", soa))
    parsed = parse_response(response.to_wire(), query)
    assert parsed.code == 3 and parsed.negative_ttl_s == 60
    response.set_rcode(dns.rcode.BADVERS)
    assert parse_response(response.to_wire(), query).code == 16


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_octets_are_a_response_or_malformed(tail: bytes) -> None:
    query = build_query(7, "a.example", RecordType.MX)
    for octets in (tail, query[:2] + b"\x81\x80\0\x01\0\x02\0\x01\0\x01" + query[12:-11] + tail):
        try:
            parsed = parse_response(octets, query)
        except Malformed:
            continue
        assert octets[:2] == query[:2]
        for record in parsed.answers:
            assert len(record.owner) <= 255 * 4


@given(st.data())
@settings(max_examples=100)
def test_a_damaged_response_is_read_or_malformed(data: st.DataObject) -> None:
    query = build_query(7, "a.example", RecordType.MX)
    response = dns.message.make_response(dns.message.from_wire(query))
    response.answer.append(dns.rrset.from_text("a.example.", 1, "IN", "MX", "1 b.a.example."))
    octets = bytearray(response.to_wire())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_response(bytes(octets), query)
    except Malformed:
        pass


@pytest.mark.parametrize(
    "octets",
    [
        b"\xc0\x00",  # points at itself
        b"\x01a\xc0\x00",  # at its own beginning
        b"\xc0\x02\x01a\x00",  # forwards
        b"\x40a",  # a label of unknown kind
        b"\x05ab",  # cut
        b"",
        (b"\x3f" + b"a" * 63) * 4 + b"\x00",  # 257 octets
    ],
)
def test_names_that_do_not_end_are_malformed(octets: bytes) -> None:
    with pytest.raises((Malformed, IndexError)):
        parse_name(octets, 0)


def test_names_with_odd_octets_are_escaped() -> None:
    assert parse_name(b"\x03a.b\x02\xff \x00", 0) == ("a\\046b.\\255\\032", 8)
    assert parse_name(b"\x00", 0) == ("", 1)
    assert parse_name(b"\x01a\x00\x01b\xc0\x00", 3) == ("b.a", 7)
