"""Received and Return-Path: right, folded, and closed to what a peer says."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.dates import parse_date
from postroad.message.header import parse_header
from postroad.message.trace_fields import (
    LINE_OCTETS_MAX,
    count_received,
    protocol_name,
    render_received,
    render_return_path,
)

NOW = datetime(2026, 11, 23, 22, 15, 20, tzinfo=UTC)


def received(**changes: object) -> bytes:
    given: dict[str, object] = {
        "helo": "mx.one.example",
        "peer_address": "192.0.2.1",
        "peer_name": "out.one.example",
        "hostname": "mx.two.example",
        "protocol": "ESMTPS",
        "message": "0abcdefghjkmnpqr",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "recipient": "bob@two.example",
        "now": NOW,
    }
    return render_received(**{**given, **changes})  # type: ignore[arg-type]


def test_received() -> None:
    """RFC 5321 §4.4: from, by, with, id, for, and the date behind a semicolon."""
    assert received() == (
        b"Received: from mx.one.example (out.one.example [192.0.2.1]) by mx.two.example\r\n"
        b"\twith ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384) id 0abcdefghjkmnpqr\r\n"
        b"\tfor <bob@two.example> tls TLS_AES_256_GCM_SHA384;\r\n"
        b"\tMon, 23 Nov 2026 22:15:20 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("tls", "clause"),
    [
        ("TLSv1.3 TLS_CHACHA20_POLY1305_SHA256", b" tls TLS_CHACHA20_POLY1305_SHA256;"),
        ("TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256", b" tls TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;"),
        ("TLSv1.2 ODD-SUITE", None),
        ("TLSv1.3 TLS_X; by y", None),
    ],
)
def test_the_tls_clause_takes_registered_names(tls: str, clause: bytes | None) -> None:
    """RFC 8314 §4.3."""
    octets = received(tls=tls).replace(b"\r\n\t", b" ")
    assert clause in octets if clause is not None else b" tls " not in octets


def test_what_is_not_known_is_left_out() -> None:
    assert received(peer_name=None, tls=None, recipient=None) == (
        b"Received: from mx.one.example ([192.0.2.1]) by mx.two.example with ESMTPS\r\n"
        b"\tid 0abcdefghjkmnpqr; Mon, 23 Nov 2026 22:15:20 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("2001:db8::1", b"[IPv6:2001:db8::1]"),
        ("::ffff:192.0.2.7", b"[192.0.2.7]"),
        ("fe80::1%eth0", b"[IPv6:fe80::1]"),
    ],
)
def test_address_literals(address: str, shown: bytes) -> None:
    """RFC 5321 §4.1.3."""
    assert shown in received(peer_address=address)


@pytest.mark.parametrize(
    ("helo", "shown"),
    [
        ("[192.0.2.1]", b"from [192.0.2.1] ("),
        ("[IPv6:2001:db8::1]", b"from [IPv6:2001:db8::1] ("),
        ("a b", b"from a?b ("),
        ("x) by forged (", b"from x??by?forged?? ("),
        ("a;b", b"from a?b ("),
        ("a\r\nX-Evil: 1", b"from a??X-Evil??1 ("),
        ("", b"from unknown ("),
        ("\xe4.example", b"from ?.example ("),
    ],
)
def test_greetings_cannot_forge(helo: str, shown: bytes) -> None:
    assert shown in received(helo=helo)


def test_utf8_stands_only_in_utf8_sessions() -> None:
    """RFC 6531 §3.7.3."""
    assert "ü@ö.example".encode() in received(protocol="UTF8SMTPS", recipient="ü@ö.example")
    assert received(recipient="ü@ö.example").isascii()


@pytest.mark.parametrize(
    ("esmtp", "tls", "authenticated", "smtputf8", "name"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),
        (True, False, True, False, "ESMTPA"),
        (True, True, True, False, "ESMTPSA"),
        (True, False, False, True, "UTF8SMTP"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_protocol_names(
    esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool, name: str
) -> None:
    """RFC 3848 §2, RFC 6531 §4.3."""
    assert (
        protocol_name(esmtp=esmtp, tls=tls, authenticated=authenticated, smtputf8=smtputf8) == name
    )


TEXT = st.text(max_size=60) | st.text(alphabet='a.[]()<>;\\"\r\n\t ,:@é', max_size=300)


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT, TEXT, st.sampled_from(["ESMTP", "UTF8SMTPS"]))
def test_nothing_a_peer_says_leaves_its_place(
    helo: str, name: str, tls: str, recipient: str, protocol: str
) -> None:
    octets = received(helo=helo, peer_name=name, tls=tls, recipient=recipient, protocol=protocol)
    header, body = parse_header(octets + b"\r\nbody")
    assert (octets + b"\r\n") == header.raw and body == len(octets) + 2
    (field,) = header
    assert field.key == b"received"
    assert field.value.count(b";") == 1 or b";" in recipient.encode(
        "utf-8", "replace"
    ) + tls.encode("utf-8", "replace") + name.encode("utf-8", "replace")
    assert re.search(rb";[ \t]Mon, 23 Nov 2026 22:15:20 \+0000\Z", field.value)
    assert parse_date(field.value.rpartition(b";")[2]) == NOW
    assert b"\0" not in octets and not re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
    for line in octets.split(b"\r\n"):
        assert len(line) <= max(LINE_OCTETS_MAX, *map(len, re.split(rb"[ \t]", line))) + 9


def test_return_path() -> None:
    assert render_return_path("a@b") == b"Return-Path: <a@b>\r\n"
    assert render_return_path("") == b"Return-Path: <>\r\n"
    assert render_return_path("a>\r\nX: y") == b"Return-Path: <a???X: y>\r\n"


def test_hops() -> None:
    header, _ = parse_header(received() * 7 + b"X-Received: 1\r\n\r\n")
    assert count_received(header) == 7
