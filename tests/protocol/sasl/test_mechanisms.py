"""PLAIN, LOGIN, SASLprep, and how SASL messages are carried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.errors import ProtocolError
from postroad.mail.secret import Secret
from postroad.protocol.sasl import (
    Challenge,
    Fault,
    LoginClient,
    LoginServer,
    PasswordClaim,
    PlainClient,
    PlainServer,
    decode_initial,
    decode_response,
    encode_challenge,
    saslprep,
)

WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)


def test_plain_of_rfc4616() -> None:
    """RFC 4616 §4: Ursel acts as Kurt; tim as himself."""
    assert PlainServer().respond(b"\0tim\0tanstaaftanstaaf") == PasswordClaim(
        "tim", "", Secret("tanstaaftanstaaf")
    )
    assert PlainServer().respond(b"Ursel\0Kurt\0xipj3plmq") == PasswordClaim(
        "Kurt", "Ursel", Secret("xipj3plmq")
    )


@given(WORD, WORD, st.just("") | WORD)
def test_plain_round_trip(login: str, password: str, authzid: str) -> None:
    client = PlainClient(login, Secret(password), authzid)
    server = PlainServer()
    assert server.respond(None) == Challenge(b"")
    assert server.respond(client.respond(b"")) == PasswordClaim(login, authzid, Secret(password))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"\0tim",
        b"\0tim\0",
        b"\0\0x",
        b"\0tim\0x\0y",
        b"\0t\xff\0x",
        b"\0t\0" + b"x" * 1025,
    ],
)
def test_plain_faults(message: bytes) -> None:
    assert isinstance(PlainServer().respond(message), Fault)


def test_plain_asks_once() -> None:
    server = PlainServer()
    server.respond(None)
    assert isinstance(server.respond(None), Fault)


@pytest.mark.parametrize("initial", [False, True])
def test_login_with_and_without_initial_response(initial: bool) -> None:
    server = LoginServer()
    client = LoginClient("ann@one.example", Secret("pw"))
    if initial:
        step = server.respond(client.respond(b""))
    else:
        assert server.respond(None) == Challenge(b"Username:")
        step = server.respond(client.respond(b"Username:"))
    assert step == Challenge(b"Password:")
    claim = server.respond(client.respond(b"Password:"))
    assert claim == PasswordClaim("ann@one.example", "", Secret("pw"))
    with pytest.raises(ValueError, match="more than"):
        client.respond(b"Again:")


@given(st.lists(st.none() | st.binary(max_size=20), max_size=4))
def test_login_answers_anything(messages: list[bytes | None]) -> None:
    server = LoginServer()
    for message in messages:
        if not isinstance(server.respond(message), Challenge):
            break


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 §3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\U0001f511 key", "\U0001f511 key"),  # newer than Unicode 3.2: kept
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "a\u200e", "x\u0627", "\ue000"])
def test_saslprep_prohibits(text: str) -> None:
    with pytest.raises(ValueError):
        saslprep(text)


def test_carriage() -> None:
    assert decode_initial(None) is None
    assert decode_initial(b"=") == b""
    assert decode_initial(b"AHRpbQ==") == b"\0tim"
    assert decode_response(b"") == b""
    for line in (b"A", b"AHRpbQ", b"AHRp bQ==", b"!!!!", b"AHRpbQ==AAAA", b"*"):
        with pytest.raises(ProtocolError) as caught:
            decode_response(line)
        assert caught.value.reply is not None and caught.value.reply.code == 501
    with pytest.raises(ProtocolError, match="too long"):
        decode_response(b"A" * 12289)


@given(st.binary(max_size=300))
def test_carriage_round_trip(octets: bytes) -> None:
    assert decode_response(encode_challenge(octets)) == octets
