"""Modified UTF-7 (RFC 3501 §5.1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.protocol.imap.names import canonical, decode_mailbox, decode_utf7, encode_utf7

# RFC 3501 §5.1.3 gives the first two; the others follow its rules by hand.
VECTORS = [
    ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
    ("Hi Mom -\u263a-!", b"Hi Mom -&Jjo--!"),
    ("A&B", b"A&-B"),
    ("Entwürfe", b"Entw&APw-rfe"),
    ("&", b"&-"),
    ("\U0001f4e7", b"&2D3c5w-"),
]


@pytest.mark.parametrize(("name", "wire"), VECTORS)
def test_vectors_both_ways(name: str, wire: bytes) -> None:
    assert encode_utf7(name) == wire
    assert decode_utf7(wire) == name


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_decode_is_the_inverse_of_encode(name: str) -> None:
    wire = encode_utf7(name)
    assert all(0x20 <= octet < 0x7F for octet in wire)
    assert decode_utf7(wire) == name


@pytest.mark.parametrize(
    "wire",
    [b"&", b"a&b", b"&AAA", b"&AA-", b"&2D0-", b"&!-", b"\xff\xfe"]
    + [b"&AGE-", b"&U,BTFw-&ZeVnLIqe-", b"&ACY-", b"&AOkAIADp-"],  # superfluous shifts
)
def test_what_is_not_modified_utf7_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match="UTF-7"):
        decode_utf7(wire)


def test_raw_utf8_is_understood() -> None:
    assert decode_utf7("Entwürfe".encode()) == "Entwürfe"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("inbox", "INBOX"), ("iNbOx", "INBOX"), ("inbox/x", "INBOX/x"), ("inboxes", "inboxes")],
)
def test_inbox_in_any_case(written: str, meant: str) -> None:
    assert canonical(written) == meant


@pytest.mark.parametrize("wire", [b"a\tb", b"&AAo-", b"a\x7f", b"&ICg-"])
def test_control_characters_are_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match="control"):
        decode_mailbox(wire)
