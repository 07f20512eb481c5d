"""Domain names as keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.dns.names import a_labels, is_carriable, is_within, parents, reverse_name, u_labels


def test_a_labels_keep_underscores_and_fold_case() -> None:
    assert a_labels("_DMARC.Bücher.Example.") == "_dmarc.xn--bcher-kva.example"
    assert a_labels("a\u3002example") == "a.example"
    assert u_labels("_dmarc.xn--bcher-kva.example") == "_dmarc.bücher.example"
    assert u_labels("xn--\u0000.example") == "xn--\u0000.example"


@pytest.mark.parametrize("name", ["", ".", "a..b", "a.b..", "x" * 64, "é" * 60, "a\tb", "\u200d.b"])
def test_what_dns_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        a_labels(name)


def test_sizes_of_names() -> None:
    longest = ".".join(["x" * 61] * 4) + ".yyyyy"
    assert len(longest) == 253
    assert is_carriable(longest)
    assert is_carriable(longest + ".")
    assert not is_carriable(longest + "y")
    assert not is_carriable("a\x00b.example")


def test_relations() -> None:
    assert parents("a.b.example") == ["a.b.example", "b.example", "example"]
    assert is_within("a.example", "example")
    assert is_within("example", "example")
    assert not is_within("aexample", "example")


def test_reverse_names() -> None:
    assert reverse_name("192.0.2.1") == "1.2.0.192.in-addr.arpa"
    assert reverse_name("::ffff:192.0.2.1") == "1.2.0.192.in-addr.arpa"
    assert reverse_name("2001:db8::1").endswith(".8.b.d.0.1.0.0.2.ip6.arpa")
    with pytest.raises(ValueError, match="nonsense"):
        reverse_name("nonsense")


@given(st.text(max_size=80))
def test_a_labels_gives_a_key_or_refuses(name: str) -> None:
    try:
        key = a_labels(name)
    except ValueError:
        return
    assert is_carriable(key)
    assert key == key.lower()
    assert a_labels(key) == key
