"""Signing and verifying DKIM: our own both ways."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from postroad.dns.zone import Zone
from postroad.mailauth.dkim import DKIMResult, generate_key, load_key, sign, verify_dkim
from postroad.mailauth.result import Result

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
KEYS = {kind: generate_key(kind) for kind in ("rsa-sha256", "ed25519-sha256")}
SIGNERS = [
    load_key(pem, domain="one.example", selector=kind[:3], algorithm=kind)
    for kind, (pem, _) in KEYS.items()
]
ZONE = Zone(
    {
        f"{kind[:3]}._domainkey.one.example": {
            "TXT": f"v=DKIM1; k={kind.partition('-')[0]}; p={public}"
        }
        for kind, (_, public) in KEYS.items()
    }
)
MESSAGE = (
    b"From: Ann <ann@one.example>\r\nTo: bob@two.example\r\nSubject: a walk\r\n"
    b" in the park\r\nDate: Mon, 23 Nov 2026 22:00:00 +0000\r\nMessage-ID: <1@one.example>\r\n"
    b"\r\nShall we?\r\n\r\nAnn\r\n"
)


def verify(octets: bytes, zone: Zone = ZONE, now: datetime = NOW) -> list[DKIMResult]:
    return asyncio.run(verify_dkim(zone, octets, now))


def words(octets: bytes, zone: Zone = ZONE) -> list[Result]:
    return [result.result for result in verify(octets, zone)]


def test_what_we_sign_verifies() -> None:
    rsa, ed25519 = verify(sign(b"", MESSAGE, SIGNERS, NOW) + MESSAGE)
    assert (rsa.result, ed25519.result) == (Result.PASS, Result.PASS)
    assert (rsa.domain, rsa.selector, rsa.identity) == ("one.example", "rsa", "@one.example")
    assert (rsa.algorithm, rsa.key_bits) == ("rsa-sha256", 2048)
    assert (ed25519.algorithm, ed25519.reason) == ("ed25519-sha256", "")


def test_an_unsigned_message_has_no_results() -> None:
    assert verify(MESSAGE) == []
    assert sign(b"", MESSAGE, [], NOW) == b""


def test_the_head_is_signed_with_the_rest() -> None:
    head = b"Message-ID: <new@one.example>\r\nSubject: second\r\n"
    signed = sign(head, memoryview(MESSAGE), SIGNERS, NOW) + head + MESSAGE
    assert words(signed) == [Result.PASS] * 2
    assert words(signed.replace(b"second", b"zweite")) == [Result.FAIL] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Shall", b"shall"),
        (b"a walk", b"a  talk"),
        (b"\r\n\r\nAnn", b"\r\nAnn"),
        (b"Subject:", b"Subject: win\r\nSubject:"),
        (b"Subject: a walk", b"Content-Type: text/html\r\nSubject: a walk"),
        (b"From: Ann", b"From: Eve"),
    ],
)
def test_changes_are_seen(old: bytes, new: bytes) -> None:
    changed = MESSAGE.replace(old, new, 1)
    assert changed != MESSAGE
    assert words(sign(b"", MESSAGE, SIGNERS, NOW) + changed) == [Result.FAIL] * 2


def test_relaxed_forgives_white_space() -> None:
    signed = sign(b"", MESSAGE, SIGNERS, NOW) + MESSAGE
    changed = signed.replace(b"Subject: a walk", b"SUBJECT :  a\twalk").replace(b"we?", b"we? \t")
    assert words(changed + b"\r\n \r\n") == [Result.PASS] * 2
