"""Paths, parameters, xtext: parse and render are inverses, malformed text is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.address import Address
from postroad.protocol.smtp.syntax import (
    check_orcpt,
    is_helo_name,
    parse_forward_path,
    parse_parameters,
    parse_reverse_path,
    parse_xtext,
    render_parameters,
    render_path,
    render_xtext,
)

LOCALS = st.one_of(
    st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,10}(\.[a-z]{1,5})?", fullmatch=True),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20),
    st.text(st.sampled_from('aé字>< "\\@.:,'), min_size=1, max_size=12),
)
DOMAINS = st.sampled_from(
    ["one.example", "bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "a"]
)


@given(LOCALS, DOMAINS)
def test_paths_come_back_as_they_were(local: str, domain: str) -> None:
    address = Address(local, domain)
    assert parse_reverse_path(render_path(address)) == (address, "")
    assert parse_forward_path(render_path(address) + " NOTIFY=NEVER", "mx") == (
        address,
        "NOTIFY=NEVER",
    )


def test_the_null_path_is_a_reverse_path_only() -> None:
    assert parse_reverse_path("<> SIZE=1") == (None, "SIZE=1")
    assert render_path(None) == "<>"
    with pytest.raises(ValueError, match="not empty"):
        parse_forward_path("<>", "mx.one.example")


def test_postmaster_needs_no_domain() -> None:
    found = parse_forward_path("<PostMaster>", "mx.one.example")
    assert found == (Address("PostMaster", "mx.one.example"), "")
    with pytest.raises(ValueError, match="local@domain"):
        parse_reverse_path("<postmaster>")


def test_source_routes_are_read_and_ignored() -> None:
    assert parse_reverse_path("<@a.example,@b.example:joe@c.example>")[0] == Address(
        "joe", "c.example"
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "a@b.example", "<a@b.example", "a@b.example>", "<a@b.example>x", "<<a@b.example>>",
        "<a b@c.example>", "<a@>", "<@b.example>", "<a@b..example>", "<a@b.example.>",
        "<a@-b.example>", '<"a@b.example>', "<@a:>", "<@a,b:c@d.example>", "< a@b.example>",
        "<a@b.example >", "<a\x00@b.example>", '<"a\x07"@b.example>', "<a@[1.2.3]>",
        f"<{'x' * 65}@b.example>", "<a@" + "x." * 130 + "example>",
    ],
)  # fmt: skip
def test_malformed_paths_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_reverse_path(text)
    with pytest.raises(ValueError):
        parse_forward_path(text, "mx.one.example")


KEYS = st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,8}", fullmatch=True)
VALUES = st.none() | st.from_regex(r"[!-<>-~é字]{1,12}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_parameters_come_back_as_they_were(parameters: dict[str, str | None]) -> None:
    assert parse_parameters(render_parameters(parameters.items())) == parameters


@pytest.mark.parametrize("text", ["SIZE=", "=1", "A=1 a=2", "-A", "SIZE=1=2", "B*=1", "A=\x01"])
def test_malformed_parameters_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_parameters(text)


@given(st.binary(max_size=60))
def test_xtext_comes_back_as_it_was(octets: bytes) -> None:
    text = render_xtext(octets)
    assert parse_xtext(text) == octets
    assert text.isascii() and "=" not in text and " " not in text


@pytest.mark.parametrize("text", ["a=b", "a b", "+", "+2", "+2b", "+zz", "é", "a\x7f"])
def test_what_is_not_xtext_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="xtext"):
        parse_xtext(text)


@pytest.mark.parametrize("text", ["rfc822;a+2Bb@c.example", "utf-8;jos\u00e9@x", "utf-8;a\\x{E9}"])
def test_orcpt_values(text: str) -> None:
    check_orcpt(text)


@pytest.mark.parametrize(
    "text", ["", "a@b", ";a@b", "rfc822;", "rfc822;a=b", "rfc 822;a", "rfc822;é"]
)
def test_malformed_orcpt_values(text: str) -> None:
    with pytest.raises(ValueError):
        check_orcpt(text)


def test_helo_names() -> None:
    good = ["mx.one.example", "localhost", "my_pc", "[192.0.2.1]", "[IPv6:::1]", "bücher.example"]
    bad = ["", "a b", "[", "[]", "a\x00", "x" * 300, "[a", "<a>", "a;b"]
    bad += ["a\x9b31m.example", "a\u202e.example", "a\u2028b", "\u00a0"]
    assert [is_helo_name(name) for name in good] == [True] * len(good)
    assert [is_helo_name(name) for name in bad] == [False] * len(bad)
