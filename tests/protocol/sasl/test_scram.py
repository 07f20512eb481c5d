"""SCRAM: the RFC's exchange octet by octet, both sides against each other, and what must fail."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.secret import Secret
from postroad.protocol.sasl import (
    Challenge,
    Fault,
    Proven,
    ScramClient,
    ScramServer,
    ScramVerifier,
    VerifierWanted,
    derive_verifier,
)

# RFC 7677 §3
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
VERIFIER = derive_verifier(Secret("pencil"), SALT, 4096)


def test_rfc7677_server() -> None:
    server = ScramServer(nonce=SERVER_NONCE)
    assert server.respond(CLIENT_FIRST) == VerifierWanted("user", "")
    assert server.provide(VERIFIER) == Challenge(SERVER_FIRST)
    assert server.respond(CLIENT_FINAL) == Proven("user", SERVER_FINAL)
    assert isinstance(server.respond(CLIENT_FINAL), Fault)


def test_rfc7677_client() -> None:
    client = ScramClient("user", Secret("pencil"), nonce=CLIENT_NONCE)
    assert client.initial() == CLIENT_FIRST
    assert client.respond(SERVER_FIRST) == CLIENT_FINAL
    assert not client.server_proven
    assert client.respond(SERVER_FINAL) == b""
    assert client.server_proven


def test_rfc5802_both_sides() -> None:
    """RFC 5802 §5: SCRAM-SHA-1."""
    verifier = derive_verifier(Secret("pencil"), b64decode("QSXCR+Q6sek8bf92"), 4096, "sha1")
    assert ScramVerifier.parse(verifier.render(), "sha1") == verifier
    with pytest.raises(ValueError, match="sha256"):
        ScramVerifier.parse(verifier.render())
    nonce = b"3rfcNHYJY1ZVvWVs7j"
    server = ScramServer(nonce=nonce, digest="sha1")
    client = ScramClient("user", Secret("pencil"), nonce=b"fyko+d2lbbFgONRv9qkxdawL", digest="sha1")
    assert client.name == "SCRAM-SHA-1"
    assert server.respond(client.initial()) == VerifierWanted("user", "")
    challenge = server.provide(verifier)
    first = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    assert challenge == Challenge(first)
    final = client.respond(first)
    assert final == (
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    )
    proven = server.respond(final)
    assert proven == Proven("user", b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    assert client.respond(proven.octets) == b""


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    client = ScramClient("user", Secret("pencil"), nonce=CLIENT_NONCE)
    client.respond(SERVER_FIRST)
    with pytest.raises(ValueError, match="did not prove"):
        client.respond(SERVER_FINAL.replace(b"v=6", b"v=7"))


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=other%hvYD,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=900000000",
        b"m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"e=unknown-user",
    ],
)
def test_a_client_refuses_bad_challenges(challenge: bytes) -> None:
    client = ScramClient("user", Secret("pencil"), nonce=CLIENT_NONCE)
    with pytest.raises(ValueError, match="SCRAM"):
        client.respond(challenge)


@given(
    login=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
    password=st.text(
        st.characters(categories=("L", "N", "P", "S"), max_codepoint=0x24F),
        min_size=1,
        max_size=30,
    ),
    binding=st.none() | st.binary(min_size=32, max_size=64),
    spaced=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_both_sides_agree(login: str, password: str, binding: bytes | None, spaced: bool) -> None:
    from postroad.protocol.sasl import saslprep

    try:
        prepared = saslprep(login)
    except ValueError:
        return
    if not prepared:
        return
    if spaced:
        password += "\u00a0x"  # RFC 4013 §2.1: a space like another
    verifier = ScramVerifier.parse(
        derive_verifier(Secret(password.replace("\u00a0", " ")), b"salt", 4096).render()
    )
    client = ScramClient(login, Secret(password), nonce=b"abc", channel_binding=binding)
    server = ScramServer(
        nonce=b"def", plus=binding is not None, plus_offered=True, channel_binding=binding
    )
    assert server.respond(None) == Challenge(b"")
    assert server.respond(client.respond(b"")) == VerifierWanted(prepared, "")
    proven = server.respond(client.respond(server.provide(verifier).octets))
    assert isinstance(proven, Proven)
    client.respond(proven.octets)
    assert client.server_proven


@given(st.integers(0, len(CLIENT_FINAL) - 1), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_one_changed_octet_is_never_proven(at: int, change: int) -> None:
    changed = bytearray(CLIENT_FINAL)
    changed[at] ^= change
    server = ScramServer(nonce=SERVER_NONCE)
    server.respond(CLIENT_FIRST)
    server.provide(VERIFIER)
    assert isinstance(server.respond(bytes(changed)), Fault)


@given(st.binary(max_size=80), st.binary(max_size=80))
@settings(max_examples=100)
def test_hostile_octets_are_faults(first: bytes, final: bytes) -> None:
    server = ScramServer(nonce=SERVER_NONCE)
    assert isinstance(server.respond(first), Fault)
    assert isinstance(server.respond(final), Fault)
    server = ScramServer(nonce=SERVER_NONCE)
    server.respond(CLIENT_FIRST)
    server.provide(VERIFIER)
    assert isinstance(server.respond(final), Fault)


@pytest.mark.parametrize(
    ("first", "plus", "plus_offered", "fault"),
    [
        (b"y,,n=user,r=abc", False, True, "did not see the offer"),
        (b"n,,n=user,r=abc", True, True, "PLUS without"),
        (b"p=tls-unique,,n=user,r=abc", True, True, "unsupported"),
        (b"p=tls-server-end-point,,n=user,r=abc", False, False, "without PLUS"),
        (b"n,,m=ext,n=user,r=abc", False, False, "malformed first"),
        (b"n,,n=us=er,r=abc", False, False, "malformed name"),
        (b"n,,n=user,r=a,b", False, False, "malformed first"),
    ],
)
def test_first_messages_that_are_refused(
    first: bytes, plus: bool, plus_offered: bool, fault: str
) -> None:
    """RFC 5802 §6 (a downgrade shows in the flag), §7 (mandatory extensions)."""
    server = ScramServer(nonce=b"x", plus=plus, plus_offered=plus_offered, channel_binding=b"cb")
    step = server.respond(first)
    assert isinstance(step, Fault) and fault in step.reason


def test_authzid_and_escapes() -> None:
    server = ScramServer(nonce=b"x")
    step = server.respond(b"n,a=b=3Dc=2Cd,n=x=2Cy=3D,r=abc,e=ext")
    assert step == VerifierWanted("x,y=", "b=c,d")


def test_channel_binding_must_match() -> None:
    client = ScramClient("user", Secret("pencil"), nonce=b"abc", channel_binding=b"one")
    server = ScramServer(nonce=b"x", plus=True, plus_offered=True, channel_binding=b"two")
    server.respond(client.initial())
    step = server.respond(client.respond(server.provide(VERIFIER).octets))
    assert isinstance(step, Fault) and "channel binding differs" in step.reason


def test_verifier_round_trip_and_faults() -> None:
    assert ScramVerifier.parse(VERIFIER.render()) == VERIFIER
    key = b64encode(bytes(32)).decode()
    for text in (
        "",
        "4096:c2FsdA==:AAAA:AAAA",
        f"x:c2FsdA==:{key}:{key}",
        f"0:c2FsdA==:{key}:{key}",
    ):
        with pytest.raises(ValueError):
            ScramVerifier.parse(text)
    assert "stored_key" not in repr(VERIFIER)
