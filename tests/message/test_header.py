"""Header sections: octets are kept, fields are found, nothing raises."""

from __future__ import annotations

from hypothesis import given, settings

from message.octets import OCTETS
from postroad.mail.limits import HEADER_FIELDS_MAX
from postroad.message.header import Header, parse_header, unfold


def test_fields_keep_their_octets() -> None:
    octets = b"From: a@b\r\nX-Long:\r\n one\r\n\ttwo \r\nsubject : s\r\n\r\nbody"
    header, body = parse_header(octets)
    assert octets[body:] == b"body"
    assert header.raw == octets[:body]
    assert [field.name for field in header] == [b"From", b"X-Long", b"subject"]
    assert header.fields[1].value == b"one\ttwo"
    assert header.value(b"Subject") == b"s"
    assert header.first(b"to") is None


def test_all_fields_of_a_name_from_the_top() -> None:
    header, _ = parse_header(b"Received: 1\r\nTo: x\r\nRECEIVED: 2\r\n")
    assert [field.value for field in header.all(b"received")] == [b"1", b"2"]


def test_a_message_without_header() -> None:
    assert parse_header(b"\r\nbody")[1] == 2
    assert parse_header(b"\nbody")[1] == 1
    assert parse_header(b"")[0].fields == ()
    assert parse_header(b"\r\nnot: a field")[0].fields == ()


def test_lines_that_are_no_fields_are_told() -> None:
    header, _ = parse_header(b"no field\r\n two: x\r\nA B: c\r\nOk: d\r\n: e\r\n")
    assert [field.is_legal for field in header] == [False, False, True, False]
    assert header.fields[0].name == b""
    assert header.fields[0].value == b"no field two: x"


def test_fields_beyond_the_bound_stay_in_raw() -> None:
    octets = b"a: b\r\n" * (HEADER_FIELDS_MAX + 5) + b"\r\n"
    header, body = parse_header(octets)
    assert len(header) == HEADER_FIELDS_MAX
    assert body == len(octets)
    assert header.raw == octets
    assert header.is_truncated
    assert not parse_header(b"a: b\r\n\r\n")[0].is_truncated


@settings(max_examples=200, deadline=None)
@given(OCTETS)
def test_fields_joined_are_the_section(octets: bytes) -> None:
    header, body = parse_header(octets)
    joined = b"".join(field.raw for field in header)
    assert header.raw == octets[:body]
    assert header.raw[len(joined) :] in (b"", b"\r\n", b"\n")
    assert header.raw.startswith(joined)
    assert Header(header.raw).fields == header.fields
    for field in header:
        assert b"\n" not in field.value
        assert field.key == field.name.lower()


@settings(max_examples=100, deadline=None)
@given(OCTETS)
def test_views_are_read_like_octets(octets: bytes) -> None:
    one, first = parse_header(octets)
    two, second = parse_header(memoryview(octets))
    assert (one.raw, first) == (two.raw, second)


def test_unfolding_drops_line_ends_only() -> None:
    """RFC 5322 §2.2.3."""
    assert unfold(b" a\r\n b\n\tc \r\n") == b"a b\tc"
