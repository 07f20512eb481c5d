"""DKIM beside dkimpy, both ways, over generated messages."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.dns.zone import Zone
from postroad.mailauth.dkim import DKIMResult, generate_key, load_key, sign, verify_dkim
from postroad.mailauth.result import Result
from support import dkimpy_oracle

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
RSA, RSA_PUBLIC = generate_key("rsa-sha256")
ED25519, ED25519_PUBLIC = generate_key("ed25519-sha256")
RECORDS = {
    "r._domainkey.one.example": f"v=DKIM1; k=rsa; p={RSA_PUBLIC}",
    "e._domainkey.one.example": f"v=DKIM1; k=ed25519; p={ED25519_PUBLIC}",
}
ZONE = Zone({name: {"TXT": value} for name, value in RECORDS.items()})
SIGNERS = [
    load_key(RSA, domain="one.example", selector="r", algorithm="rsa-sha256"),
    load_key(ED25519, domain="one.example", selector="e", algorithm="ed25519-sha256"),
]
DKIMPY_KEYS = {
    "rsa-sha256": (
        "r",
        load_pem_private_key(RSA, None).private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        ),
    ),
    "ed25519-sha256": (
        "e",
        base64.b64encode(
            load_pem_private_key(ED25519, None).private_bytes(
                Encoding.Raw, PrivateFormat.Raw, NoEncryption()
            )
        ),
    ),
}

SPACE = st.sampled_from([b" ", b"\t", b"  ", b" \t "])
WORD = st.sampled_from(
    [b"x", b"hello", b"a=b;", b"b=;", b":", b"\xc3\xa9", b"=?utf-8?q?=C3?=", b"."]
)
FOLD = st.sampled_from([b"\r\n ", b"\r\n\t", b" \r\n  "])
VALUE = (
    st.lists(st.one_of(SPACE, WORD, FOLD), max_size=8)
    .map(b"".join)
    .map(
        # a line of white space alone would end the header for some
        lambda value: b"x" + value + b"x"
    )
)
NAMES = [b"To", b"Cc", b"Subject", b"SUBJECT", b"List-Id", b"X-Odd", b"References", b"Reply-To"]
FIELD = st.builds(
    lambda name, before, after, value: name + b":" + before + value + after + b"\r\n",
    st.sampled_from(NAMES),
    st.sampled_from([b"", b" ", b"\t"]),
    st.sampled_from([b"", b" ", b"\t "]),
    VALUE,
)
LINE = st.lists(st.one_of(SPACE, WORD), max_size=6).map(b"".join).map(lambda line: line + b"\r\n")
BODY = st.lists(st.one_of(LINE, st.just(b"\r\n")), max_size=8).map(b"".join)
MESSAGE = st.builds(
    lambda fields, late, body: b"".join(
        [*fields, b"From: a@one.example\r\n", *late, b"\r\n", body]
    ),
    st.lists(FIELD, max_size=4),
    st.lists(FIELD, max_size=4),
    BODY,
)


def verify(octets: bytes) -> list[DKIMResult]:
    return asyncio.run(verify_dkim(ZONE, octets, NOW))


def lookup(name: str) -> bytes | None:
    found = RECORDS.get(name)
    return found.encode() if found else None


@settings(max_examples=60, deadline=None)
@given(MESSAGE, st.integers(0, 3))
def test_dkimpy_verifies_what_we_sign(message: bytes, cut: int) -> None:
    lines = message.split(b"\r\n")
    head = b""
    if len(lines) > 4 and lines[0] and not lines[1][:1].isspace() and lines[1]:
        head, message = lines[0] + b"\r\n", b"\r\n".join(lines[1:])
    signed = sign(head, message, SIGNERS, NOW) + head + message
    assert [result.result for result in verify(signed)] == [Result.PASS] * 2
    assert dkimpy_oracle.verifies(signed, lookup, 0)
    assert dkimpy_oracle.verifies(signed, lookup, 1)


@settings(max_examples=100, deadline=None)
@given(
    MESSAGE,
    st.sampled_from(sorted(DKIMPY_KEYS)),
    st.sampled_from(["simple", "relaxed"]),
    st.sampled_from(["simple", "relaxed"]),
    st.booleans(),
)
def test_we_verify_what_dkimpy_signs(
    message: bytes, algorithm: str, header: str, body: str, length: bool
) -> None:
    selector, key = DKIMPY_KEYS[algorithm]
    signed = dkimpy_oracle.sign(
        message,
        selector=selector,
        domain="one.example",
        key=key,
        algorithm=algorithm,
        header=header,
        body=body,
        length=length,
    )
    (result,) = verify(signed)
    assert result.result is Result.PASS, (result, signed)
    assert result.unsigned_octets == 0


@settings(max_examples=60, deadline=None)
@given(MESSAGE.filter(lambda message: b"X-Odd" not in message), st.integers(0, 1 << 30))
def test_an_octet_changed_is_seen(message: bytes, place: int) -> None:
    """All fields here are signed; white space is left alone, which relaxed forgives."""
    signed = sign(b"", message, SIGNERS[1:], NOW)
    written = [at for at, octet in enumerate(message) if octet not in b" \t\r\n"]
    octets = bytearray(message)
    octets[written[place % len(written)]] = ord("7")
    assert [result.result for result in verify(signed + bytes(octets))] in (
        [Result.FAIL],
        [Result.PERMERROR],  # From: is gone
    )
