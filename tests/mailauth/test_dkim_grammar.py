"""DKIM fields and key records: every tag, every fault, and hostile octets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.dns.zone import Zone
from postroad.mailauth.canonical import Canon, canonical_field, hash_body
from postroad.mailauth.dkim import DKIMResult, DKIMSigner, generate_key, load_key, sign, verify_dkim
from postroad.mailauth.dkim.keys import load_public_key, parse_key_record
from postroad.mailauth.dkim.signature import HeaderHasher, Unusable, parse_signature
from postroad.mailauth.fields import raw_fields, split_header
from postroad.mailauth.result import Result
from postroad.mailauth.tags import parse_tags

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
PEM, PUBLIC = generate_key("ed25519-sha256")
SIGNER = load_key(PEM, domain="one.example", selector="s", algorithm="ed25519-sha256")
MESSAGE = b"From: ann@one.example\r\nTo: b@two.example\r\nSubject: x\r\n\r\nHello\r\nthere\r\n"
RECORD = f"v=DKIM1; k=ed25519; p={PUBLIC}"


def zone(record: str | bytes = RECORD, name: str = "s._domainkey.one.example") -> Zone:
    return Zone({name: {"TXT": record}})


def verify(octets: bytes, resolver: Zone | None = None, now: datetime = NOW) -> DKIMResult:
    (result,) = asyncio.run(verify_dkim(resolver or zone(), octets, now))
    return result


def signed(
    message: bytes = MESSAGE,
    *,
    signer: DKIMSigner = SIGNER,
    header: Canon = Canon.RELAXED,
    body: Canon = Canon.RELAXED,
    **tags: str | None,
) -> bytes:
    """The message with a signature whose tags are as wanted; None leaves one out."""
    section, body_at = split_header(message)
    limit = int(tags["l"] or 0) if "l" in tags and (tags["l"] or "").isdigit() else None
    found = hash_body(message[body_at:], body, {limit})[limit]
    values: dict[str, str | None] = {
        "v": "1",
        "a": signer.algorithm,
        "c": f"{header.value}/{body.value}",
        "d": "one.example",
        "s": "s",
        "h": "from:to:subject",
        "bh": base64.b64encode(found.digest).decode(),
        **tags,
    }
    listed = [name.strip() for name in (values["h"] or "").lower().encode().split(b":")]
    front = "; ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    field = f"DKIM-Signature: {front}; b=".encode()
    hasher = HeaderHasher(raw_fields(section))
    data = b"".join(hasher.selected(listed, header)) + canonical_field(field, header)
    return field + base64.b64encode(signer.sign(hashlib.sha256(data).digest())) + b"\r\n" + message


@pytest.mark.parametrize("header", list(Canon))
@pytest.mark.parametrize("body", list(Canon))
def test_all_canonical_forms(header: Canon, body: Canon) -> None:
    octets = signed(header=header, body=body)
    assert verify(octets).result is Result.PASS
    spaced = verify(octets.replace(b"Hello\r", b"Hello \r")).result
    assert (spaced is Result.PASS) == (body is Canon.RELAXED)
    cased = verify(octets.replace(b"\r\nSubject: x", b"\r\nSUBJECT:  x")).result
    assert (cased is Result.PASS) == (header is Canon.RELAXED)


@pytest.mark.parametrize(
    ("tags", "result", "reason"),
    [
        ({"v": "2"}, Result.NEUTRAL, "version"),
        ({"v": None}, Result.NEUTRAL, "v= is missing"),
        ({"d": None}, Result.NEUTRAL, "d= is missing"),
        ({"d": "one..example"}, Result.NEUTRAL, "d= is no domain"),
        ({"s": "a b\x7f"}, Result.NEUTRAL, "s= is no domain"),
        ({"h": "to:subject"}, Result.NEUTRAL, "From: is not signed"),
        ({"h": ":".join(["from"] * 1001)}, Result.NEUTRAL, "too many"),
        ({"bh": "!"}, Result.NEUTRAL, "bh= is not base64"),
        ({"c": "nowsp"}, Result.NEUTRAL, "canonicalization"),
        ({"c": "relaxed/nofws"}, Result.NEUTRAL, "canonicalization"),
        ({"q": "dns/other"}, Result.NEUTRAL, "dns/txt"),
        ({"i": "ann@two.example"}, Result.NEUTRAL, "i= is not within"),
        ({"i": "@xone.example"}, Result.NEUTRAL, "i= is not within"),
        ({"i": "one.example"}, Result.NEUTRAL, "no address"),
        ({"l": "-1"}, Result.NEUTRAL, "l= is no number"),
        ({"t": "soon"}, Result.NEUTRAL, "t= is no number"),
        ({"t": "20", "x": "10"}, Result.NEUTRAL, "expires before"),
        ({"t": "9" * 77}, Result.NEUTRAL, "t= is no number"),
        ({"x": "1795471200"}, Result.FAIL, "expired"),
        ({"l": "9999"}, Result.FAIL, "shorter"),
        ({"a": "rsa-sha1"}, Result.POLICY, "rsa-sha1"),
        ({"a": "rsa-sha512"}, Result.PERMERROR, "algorithm"),
        ({"a": "rsa-sha256"}, Result.PERMERROR, "another kind"),
        ({"s": "gone"}, Result.PERMERROR, "no key"),
    ],
)
def test_faults(tags: dict[str, str | None], result: Result, reason: str) -> None:
    found = verify(signed(**tags))
    assert (found.result, reason in found.reason) == (result, True), found


@pytest.mark.parametrize(
    "tags",
    [
        {"i": "ann@news.one.example"},
        {"i": "@ONE.example"},
        {"q": "dns/other : dns/txt"},
        {"c": "simple", "header": Canon.SIMPLE, "body": Canon.SIMPLE},
        {"x": "1795471201"},
        {"t": "99999999999", "x": "999999999999"},
        {"z": "From:x|To:y", "unknown": "value"},
        {"h": " From : from :\r\n\tTO: subject : subject :dkim-signature"},
        {"l": "0"},
        {"l": "7"},
        {"d": "ONE.example."},
    ],
)
def test_what_is_legal_passes(tags: dict[str, str]) -> None:
    assert verify(signed(**tags)).result is Result.PASS  # type: ignore[arg-type]


def test_a_length_covers_the_front_and_says_what_it_leaves() -> None:
    octets = signed(l="7") + b"and more\r\n"
    found = verify(octets)
    assert (found.result, found.unsigned_octets) == (Result.PASS, 17)
    assert verify(octets.replace(b"Hello", b"Hallo")).result is Result.FAIL


def test_an_internationalized_domain() -> None:
    """RFC 8616 §4: U-labels in d=, i= and s=; the key is found by A-labels."""
    name = "xn--bcher-kva._domainkey.xn--bcher-kva.example"
    found = verify(signed(d="bücher.example", s="bücher", i="@Bücher.example"), zone(RECORD, name))
    assert (found.result, found.domain) == (Result.PASS, "xn--bcher-kva.example")


def test_repeated_fields_are_taken_from_the_bottom() -> None:
    message = b"Subject: two\r\n" + MESSAGE
    octets = signed(message, h="from:subject")
    assert verify(octets).result is Result.PASS
    assert verify(octets.replace(b"Subject: two", b"Subject: 2")).result is Result.PASS
    assert verify(octets.replace(b"Subject: x", b"Subject: y")).result is Result.FAIL
    both = signed(message, h="from:subject:subject")
    assert verify(both.replace(b"Subject: two", b"Subject: 2")).result is Result.FAIL


def test_oversigned_fields_cannot_be_added() -> None:
    octets = signed(h="from:from:to:subject:subject:reply-to")
    assert verify(octets).result is Result.PASS
    for line in (b"Subject: win", b"Reply-To: eve@two.example", b"From: eve@two.example"):
        assert verify(octets.replace(b"From: ann", line + b"\r\nFrom: ann")).result is Result.FAIL
    assert verify(octets.replace(b"From: ann", b"Comments: x\r\nFrom: ann")).result is Result.PASS


def test_another_signature_can_be_signed() -> None:
    first = signed()
    both = signed(first, h="from:dkim-signature")
    found = asyncio.run(verify_dkim(zone(), both, NOW))
    assert [result.result for result in found] == [Result.PASS, Result.PASS]
    assert verify(both.partition(b"\r\n")[0] + b"\r\n" + MESSAGE).result is Result.FAIL


def test_signatures_past_the_limit_are_not_looked_at() -> None:
    octets = b"DKIM-Signature: v=1\r\n" * 50 + signed()
    found = asyncio.run(verify_dkim(zone(), octets, NOW, limit=10))
    assert [result.result for result in found] == [Result.NEUTRAL] * 10


def test_a_key_is_asked_for_once_and_only_when_the_body_matches() -> None:
    resolver = zone()
    twice = signed(signed()[: -len(MESSAGE)] + MESSAGE)
    asyncio.run(verify_dkim(resolver, twice, NOW))
    assert len(resolver.asked) == 1
    resolver.asked.clear()
    asyncio.run(verify_dkim(resolver, twice + b"more\r\n", NOW))
    assert not resolver.asked


@pytest.mark.parametrize(
    ("record", "result", "reason"),
    [
        ("v=DKIM1; k=ed25519; p=", Result.PERMERROR, "revoked"),
        ("v=DKIM1; k=ed25519", Result.PERMERROR, "no key"),
        (RECORD.replace("DKIM1", "DKIM2"), Result.PERMERROR, "version"),
        (RECORD + "; h=sha1", Result.PERMERROR, "sha256"),
        (RECORD + "; h=sha1 : SHA256", Result.PASS, ""),
        (RECORD + "; s=tlsrpt", Result.PERMERROR, "not for mail"),
        (RECORD + "; s=tlsrpt:email", Result.PASS, ""),
        (RECORD + "; s=*; n=note; g=;; x=1", Result.PASS, ""),
        (RECORD + "; t=y", Result.PASS, "tested"),
        (RECORD + "; t=s", Result.PASS, ""),
        (RECORD + "; rubbish", Result.PERMERROR, "no tag"),
        (RECORD + "; p=x", Result.PERMERROR, "twice"),
        (RECORD.replace("k=ed25519; ", ""), Result.PERMERROR, "another kind"),
        (f"p={PUBLIC}; k=ED25519; v=DKIM1", Result.PASS, ""),
        (f"k=ed25519; p={PUBLIC[:20]} \t {PUBLIC[20:]}", Result.PASS, ""),
        (f"k=ed25519; p={PUBLIC[:20]}", Result.PERMERROR, "32 octets"),
        ("k=ed25519; p=@@@", Result.PERMERROR, "base64"),
        (RECORD + "; 1x=y", Result.PERMERROR, "tag name"),
        (RECORD + "".join(f"; x{at}=y" for at in range(200)), Result.PERMERROR, "too many"),
        ("x" * 9000, Result.PERMERROR, "too long"),
        ("", Result.PERMERROR, "no key"),
    ],
)
def test_key_records(record: str, result: Result, reason: str) -> None:
    found = verify(signed(), zone(record))
    assert (found.result, reason in found.reason) == (result, True), found
    assert found.testing == ("t=y" in record)


def test_a_strict_key_does_not_sign_for_subdomains() -> None:
    octets = signed(i="@news.one.example")
    assert verify(octets).result is Result.PASS
    assert verify(octets, zone(RECORD + "; t=s:y")).result is Result.PERMERROR


def test_several_key_records_are_tried_a_few() -> None:
    resolver = zone("v=DKIM1; p=")
    resolver.add("s._domainkey.one.example", "TXT", RECORD)
    assert verify(signed(), resolver).result is Result.PASS
    resolver = zone("v=DKIM1; p=")
    for _ in range(5):
        resolver.add("s._domainkey.one.example", "TXT", "other")
    resolver.add("s._domainkey.one.example", "TXT", RECORD)
    assert verify(signed(), resolver).result is Result.PERMERROR


def test_dns_that_fails_is_temperror() -> None:
    found = verify(signed(), Zone("s._domainkey.one.example TIMEOUT"))
    assert (found.result, found.domain) == (Result.TEMPERROR, "one.example")
    assert "timed out" in found.reason


def rsa_signer(bits: int) -> tuple[DKIMSigner, str, str]:
    """A signer and its key as `p=`: SubjectPublicKeyInfo, and the bare RSAPublicKey."""
    key = rsa.generate_private_key(65537, bits)
    public = key.public_key()
    forms = (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    texts = [base64.b64encode(public.public_bytes(Encoding.DER, form)).decode() for form in forms]
    signer = replace(SIGNER, algorithm="rsa-sha256", key=key)
    return signer, texts[0], texts[1]


def test_rsa_keys_in_both_forms() -> None:
    signer, spki, pkcs1 = rsa_signer(1024)
    octets = signed(signer=signer)
    for public in (spki, pkcs1):
        found = verify(octets, zone(f"v=DKIM1; p={public}"))
        assert (found.result, found.key_bits) == (Result.PASS, 1024)


def test_other_kinds_of_keys_are_no_keys() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = curve.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    octets = signed(signer=rsa_signer(1024)[0])
    for public in (der, b"\x30\x03\x02\x01\x01", b"x" * 300):
        found = verify(octets, zone(f"v=DKIM1; p={base64.b64encode(public).decode()}"))
        assert found.result is Result.PERMERROR


def test_short_rsa_keys_are_refused() -> None:
    """A published test key of 512 bits (Mail::DKIM's); new ones cannot even be made."""
    public = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALgSoqXVSEmfcIsOzw7oRuCCOwsmtX/SJnTWxYyj2leFxfS/"
    public += "AVJ+dYfY+hXqMsT7l+MZvvh/R1WzN4MO/kI/7XsCAwEAAQ=="
    found = verify(signed(signer=rsa_signer(1024)[0]), zone(f"v=DKIM1; p={public}"))
    assert (found.result, "512 bits" in found.reason) == (Result.POLICY, True)


def test_keys_of_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        load_public_key("dsa", b"AAAA")


def test_keys_that_cost_too_much_are_refused() -> None:
    huge = rsa.RSAPublicNumbers(65537, (1 << 8200) + 1).public_key()
    long = huge.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="8201 bits"):
        load_public_key("rsa", base64.b64encode(long))
    exponent = rsa.RSAPublicNumbers(
        (1 << 200) + 1, rsa_signer(1024)[0].key.public_key().public_numbers().n
    )  # type: ignore[union-attr]
    der = exponent.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    octets = signed(signer=rsa_signer(1024)[0])
    found = verify(octets, zone(f"v=DKIM1; p={base64.b64encode(der).decode()}"))
    assert (found.result, "exponent" in found.reason) == (Result.PERMERROR, True)


def test_keys_of_ours() -> None:
    with pytest.raises(ValueError, match="is no key for"):
        load_key(PEM, domain="one.example", selector="s", algorithm="rsa-sha256")
    for junk in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ValueError, match=r"."):
            load_key(junk, domain="one.example", selector="s", algorithm="rsa-sha256")
    with pytest.raises(ValueError, match="no algorithm"):
        generate_key("rsa-sha1")
    assert load_key(PEM, domain="one.example", selector="s", algorithm="ed25519-sha256") is SIGNER
    assert "key" not in repr(SIGNER)
    pem, public = generate_key("rsa-sha256")
    record = parse_key_record(f"v=DKIM1; k=rsa; p={public}".encode())
    assert record.for_mail
    assert not record.testing
    assert b"BEGIN PRIVATE KEY" in pem
    small = rsa.generate_private_key(65537, 1024)
    pem = small.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert load_key(pem, domain="o.example", selector="s", algorithm="rsa-sha256").selector == "s"


def test_fields_of_ours_are_folded() -> None:
    message = b"References: <1@x>\r\n" * 30 + MESSAGE
    field = sign(b"", message, [SIGNER], NOW)
    assert field.endswith(b"\r\n")
    lines = field.removesuffix(b"\r\n").split(b"\r\n")
    assert all(len(line) <= 78 for line in lines)
    assert all(line.startswith(b"\t") for line in lines[1:])
    assert not any(line.endswith((b" ", b"\t")) for line in lines)
    found = parse_signature(field.removesuffix(b"\r\n"))
    assert found.signed.count(b"references") == 20
    assert found.time == int(NOW.timestamp())
    assert verify(field + message).result is Result.PASS


@pytest.mark.parametrize(
    "header",
    [
        b"a\r\n" * 340_000,
        b"DKIM-Signature: h=" + b":" * 1_000_000 + b"\r\n",
        b"DKIM-Signature:" + b"; " * 500_000 + b"\r\n",
        b"DKIM-Signature:" + b";b " * 300_000 + b"\r\n",
        b"DKIM-Signature: v=1; b=" + b"\r\n " * 300_000 + b"\r\n",
        b"DKIM-Signature: v=1; a=" + b" " * 1_000_000 + b"\r\n",
        b"DKIM-Signature: v=1\r\n" * 50_000,
    ],
)
@pytest.mark.timeout(5)
def test_hostile_headers_cost_little(header: bytes) -> None:
    found = asyncio.run(verify_dkim(zone(), header + signed(), NOW))
    assert len(found) <= 10
    assert sign(b"", header + MESSAGE, [SIGNER], NOW)


@given(st.binary(max_size=300))
def test_tag_lists_parse_or_refuse(octets: bytes) -> None:
    try:
        tags = parse_tags(octets)
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert len(tags) <= 100


TAG = st.sampled_from(
    [
        b"v=1",
        b"a=ed25519-sha256",
        b"a=rsa-sha256",
        b"d=one.example",
        b"s=s",
        b"h=from:to",
        b"b=AAAA",
    ]
    + [
        b"bh=AAAA",
        b"c=relaxed/relaxed",
        b"l=3",
        b"x=5",
        b"i=@one.example",
        b"\xff",
        b"=",
        b"b",
        b"t=",
    ]
)
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.lists(TAG, max_size=12).map(b"; ".join).map(lambda tags: b"DKIM-Signature:" + tags),
)


@settings(max_examples=150)
@given(st.lists(HOSTILE, max_size=4), st.one_of(st.binary(max_size=80), st.just(RECORD.encode())))
def test_nothing_raises_and_nothing_hostile_passes(fields: list[bytes], record: bytes) -> None:
    octets = b"".join(field + b"\r\n" for field in fields) + MESSAGE
    for result in asyncio.run(verify_dkim(zone(record), memoryview(octets), NOW)):
        assert result.result is not Result.PASS
        assert result.reason.isprintable()
        assert all(text.isprintable() for text in (result.domain, result.selector, result.identity))


@given(st.binary(max_size=200))
def test_a_signature_parses_or_is_unusable(value: bytes) -> None:
    try:
        found = parse_signature(b"DKIM-Signature:" + value)
    except Unusable as error:
        assert str(error).isprintable()
        return
    assert b"from" in found.signed


@settings(max_examples=60)
@given(st.binary(max_size=120), st.binary(max_size=120))
def test_any_octets_can_be_signed_and_verify(head: bytes, body: bytes) -> None:
    """Whatever a client submits: the fields we put on top stay valid."""
    head = head.replace(b"\r", b"").replace(b"\n", b"")
    message = b"From: a@one.example\r\nX: " + head + b"\r\n\r\n" + body
    octets = sign(b"", message, [SIGNER], NOW) + message
    assert verify(octets).result is Result.PASS
