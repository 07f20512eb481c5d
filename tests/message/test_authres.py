"""Authentication-Results: written and read, with the authres library as second opinion."""

from __future__ import annotations

import authres
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.authres import (
    AuthenticationResults,
    AuthResult,
    claims_to_be_from,
    parse_authentication_results,
    render_authentication_results,
)
from postroad.message.header import parse_header

EXAMPLE = [
    AuthResult(
        "spf", "pass", None, (("smtp", "mailfrom", "alice@one.example"), ("smtp", "helo", "x.y"))
    ),
    AuthResult(
        "dkim", "fail", "bad signature", (("header", "d", "one.example"), ("header", "b", "a/b="))
    ),
    AuthResult("dmarc", "none"),
]


def value_of(octets: bytes) -> bytes:
    (field,) = parse_header(octets)[0]
    assert field.key == b"authentication-results"
    return field.value


def test_writing() -> None:
    assert render_authentication_results("mx.two.example", EXAMPLE) == (
        b"Authentication-Results: mx.two.example;\r\n"
        b"\tspf=pass smtp.mailfrom=alice@one.example smtp.helo=x.y;\r\n"
        b'\tdkim=fail reason="bad signature" header.d=one.example header.b="a/b=";\r\n'
        b"\tdmarc=none\r\n"
    )


def test_nothing_done_is_none() -> None:
    """RFC 8601 §2.2, no-result."""
    octets = render_authentication_results("mx.two.example", [])
    assert octets == b"Authentication-Results: mx.two.example;\r\n\tnone\r\n"
    assert parse_authentication_results(value_of(octets)) == AuthenticationResults(
        "mx.two.example", ()
    )


def test_a_long_value_cannot_make_a_long_line() -> None:
    result = AuthResult("dkim", "fail", "x" * 5000, (("header", "d", "é" * 5000),))
    octets = render_authentication_results("h.example", [result])
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def test_words_that_are_no_keywords_do_not_construct() -> None:
    with pytest.raises(ValueError, match="keyword"):
        AuthResult("spf", "pass; dkim=pass")
    with pytest.raises(ValueError, match="keyword"):
        AuthResult("spf", "pass", None, (("smtp", "mail from", "x"),))


# RFC 8601 appendix B.
EXAMPLES = {
    "B.2": (b"example.org 1; none", "example.org", []),
    "B.3": (
        b"example.com;\r\n          spf=pass smtp.mailfrom=example.net",
        "example.com",
        [("spf", "pass", [("smtp", "mailfrom", "example.net")])],
    ),
    "B.4": (
        b"example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n"
        b" spf=pass smtp.mailfrom=example.net",
        "example.com",
        [
            ("auth", "pass", [("smtp", "auth", "sender@example.net")]),
            ("spf", "pass", [("smtp", "mailfrom", "example.net")]),
        ],
    ),
    "B.6": (
        b'example.com;\r\n dkim=pass reason="good signature"\r\n'
        b' header.i=@mail-router.example.net;\r\n dkim=fail reason="bad signature"\r\n'
        b" header.i=@newyork.example.com",
        "example.com",
        [
            ("dkim", "pass", [("header", "i", "@mail-router.example.net")]),
            ("dkim", "fail", [("header", "i", "@newyork.example.com")]),
        ],
    ),
    "B.7": (
        b"foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for"
        b" it) fail\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me)"
        b" = (as I wasn't expecting it) 1362471462",
        "foo.example.net",
        [("dkim", "fail", [("policy", "expired", "1362471462")])],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_reading_the_examples_of_rfc_8601(name: str) -> None:
    value, authserv_id, results = EXAMPLES[name]
    found = parse_authentication_results(value)
    assert found is not None
    assert found.authserv_id == authserv_id
    assert found.version == 1
    assert [(r.method, r.result, list(r.properties)) for r in found.results] == results


def test_what_cannot_be_read_is_left_out() -> None:
    found = parse_authentication_results(b'a.example; spf; "x" ; dkim=pass header.d; (; dmarc=fail')
    assert found is not None
    assert [(item.method, item.result) for item in found.results] == [("dkim", "pass")]
    assert parse_authentication_results(b"") is None
    assert parse_authentication_results(b"; spf=pass") is None


KEYWORD = st.from_regex(r"\A[a-z](?:[a-z0-9-]{0,5}[a-z0-9])?\Z")
VALUE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(
    ["a@b.example", "@b", "ü@ö.example", 'q"uo\\te', "a;b=c (d)", "a/b+c=="]
)
RESULTS = st.lists(
    st.builds(
        AuthResult,
        KEYWORD,
        KEYWORD,
        st.none() | VALUE,
        st.lists(
            st.tuples(KEYWORD.filter(lambda w: w != "reason"), KEYWORD, VALUE), max_size=3
        ).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(VALUE.filter(lambda text: bool(text.strip())), RESULTS)
def test_what_is_written_is_read_again(authserv_id: str, results: list[AuthResult]) -> None:
    octets = render_authentication_results(authserv_id, results)
    assert parse_authentication_results(value_of(octets)) == AuthenticationResults(
        authserv_id, tuple(results)
    )


PTYPE = st.sampled_from(["smtp", "header", "body", "policy"])
ASCII = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\'),
    min_size=1,
    max_size=12,
)
PROPERTIES = st.builds(
    lambda first, last: first + last,
    st.lists(st.tuples(PTYPE, KEYWORD, KEYWORD), max_size=2),
    st.lists(st.tuples(PTYPE, KEYWORD, ASCII), max_size=1),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            KEYWORD,
            KEYWORD,
            st.none() | ASCII,
            PROPERTIES,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_authres_reads_the_same(
    wanted: list[tuple[str, str, str | None, list[tuple[str, str, str]]]],
) -> None:
    """It takes a quoted value only in a result's last place, and keeps backslashes: not asked."""
    results = [AuthResult(m, r, reason, tuple(p)) for m, r, reason, p in wanted]
    octets = render_authentication_results("mx.two.example", results)
    read = authres.AuthenticationResultsHeader.parse(octets.decode().replace("\r\n", ""))
    assert read.authserv_id == "mx.two.example"

    found = [
        (
            r.method,
            r.result,
            r.reason,
            [(p.type, p.name, p.value) for p in r.properties],
        )
        for r in read.results
    ]
    assert found == [(m, r, reason, [(t, n, v) for t, n, v in p]) for m, r, reason, p in wanted]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_value_can_add_a_result_or_a_field(authserv_id: str, reason: str, value: str) -> None:
    result = AuthResult("dkim", "fail", reason, (("header", "d", value),))
    octets = render_authentication_results(authserv_id, [result])
    header, _ = parse_header(octets + b"\r\n")
    assert len(header) == 1
    found = parse_authentication_results(header.fields[0].value)
    assert found is not None
    assert [(item.method, item.result) for item in found.results] == [("dkim", "fail")]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120) | st.text(alphabet='ab=;."\\() 1/', max_size=80).map(str.encode))
def test_any_octets_are_survived(value: bytes) -> None:
    parse_authentication_results(value)
    parse_authentication_results(b"a;b=c " + value)
    claims_to_be_from(value, "mx.two.example")


@pytest.mark.parametrize(
    ("value", "claims"),
    [
        (b"mx.two.example; spf=pass", True),
        (b" MX.Two.Example. ; spf=pass", True),
        (b'(c) "mx.two.example" 1; spf=pass', True),
        (b"\r\n mx.two.example;spf=pass", True),
        (b"mx.two.example", True),
        (b'"mx.two.example', True),
        (b"other.example; spf=pass mx.two.example", False),
        (b"()" * 3000 + b"mx.two.example; spf=pass", True),
        (b"(" + b"x" * 4084 + b") mx.two.example; spf=pass", True),
        (b"other.example; " + b"spf=pass " * 1000, False),
        (b"xmx.two.example; none", False),
    ],
)
def test_claims_of_our_name(value: bytes, claims: bool) -> None:
    """RFC 8601 §5: such fields go, however they are spelt."""
    assert claims_to_be_from(value, "mx.two.example") is claims


def test_claims_in_another_alphabet() -> None:
    assert claims_to_be_from("mx.bücher.example; none".encode(), "mx.xn--bcher-kva.example")
