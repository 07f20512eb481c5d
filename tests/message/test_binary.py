"""Messages with NUL, made fit for IMAP (RFC 3516 §4.4)."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.message.binary import LINES, Unencodable, encode_nul_parts


def encode(octets: bytes) -> bytes:
    return b"".join(encode_nul_parts(octets))


def message(*parts: tuple[bytes, bytes]) -> bytes:
    """A multipart of (header fields, body)."""
    shown = b"".join(b"--b\r\n%b\r\n%b\r\n" % part for part in parts)
    return b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + shown + b"--b--\r\n"


@given(st.binary(max_size=400).filter(lambda raw: b"\0" not in raw))
def test_without_nul_nothing_changes(octets: bytes) -> None:
    assert encode(octets) == octets


BODIES = st.binary(max_size=300).filter(lambda raw: b"--b" not in raw)


@given(st.lists(st.tuples(st.sampled_from([b"", b"7bit", b"8bit", b"binary", b"BINARY"]), BODIES),
                min_size=1, max_size=4))  # fmt: skip
def test_bodies_come_back_octet_for_octet(parts: list[tuple[bytes, bytes]]) -> None:
    """As another reader of MIME sees them; parts without NUL keep their octets."""
    wire = message(
        *(
            (
                b"Content-Type: application/x\r\n"
                + (b"Content-Transfer-Encoding: %b\r\n" % encoding if encoding else b""),
                body,
            )
            for encoding, body in parts
        )
    )
    encoded = encode(wire)
    assert b"\0" not in encoded
    for encoding, body in parts:
        if b"\0" not in body and encoding:
            assert b"%b\r\n\r\n%b\r\n--b" % (encoding, body) in encoded
    found = email.message_from_bytes(encoded, policy=email.policy.SMTP)
    for part, (_, body) in zip(found.iter_parts(), parts, strict=True):
        if b"\0" in body:
            assert part["content-transfer-encoding"] == "base64"
            assert part.get_content_maintype() == "application"
            assert part.get_payload(decode=True) == body


@pytest.mark.parametrize("size", [1, 57, 58, LINES - 1, LINES, LINES + 1, LINES * 2 + 5])
def test_lines_are_76_long_whatever_the_size(size: int) -> None:
    body = b"\0" * size
    encoded = encode(b"Content-Transfer-Encoding: binary\r\n\r\n" + body)
    lines = encoded.split(b"\r\n\r\n", 1)[1].split(b"\r\n")
    assert lines[-1] == b""
    assert {len(line) for line in lines[:-2]} <= {76}
    assert email.message_from_bytes(encoded).get_payload(decode=True) == body


def test_all_said_encodings_are_replaced() -> None:
    header = (
        b"A: b\r\ncontent-transfer-ENCODING:\r\n\tbinary\r\nC: d\r\n"
        b"Content-Transfer-Encoding: 8bit\r\nE: f\r\n\r\n"
    )
    assert encode(header + b"\0") == (
        b"A: b\r\nContent-Transfer-Encoding: base64\r\nC: d\r\nE: f\r\n\r\nAA==\r\n"
    )


def test_a_body_without_any_header() -> None:
    assert encode(b"\r\n\0") == b"Content-Transfer-Encoding: base64\r\n\r\nAA==\r\n"
    assert encode(message((b"", b"\0"))) == message(
        (b"Content-Transfer-Encoding: base64\r\n", b"AA==")
    )


def test_an_embedded_message_is_looked_into() -> None:
    inner = b"Content-Type: message/rfc822\r\n", b"Subject: y\r\n\r\na\0b"
    assert encode(message(inner)) == message(
        (inner[0], b"Content-Transfer-Encoding: base64\r\nSubject: y\r\n\r\nYQBi")
    )


@pytest.mark.parametrize(
    "octets",
    [
        b"\0", b"A: \0\r\n\r\nx", b"A: b\0",
        b"Content-Transfer-Encoding: base64\r\n\r\nAA\0==\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=\0",
        b"Content-Transfer-Encoding: x-other\r\n\r\n\0",
        b"Content-Type: multipart/mixed\r\n\r\n\0",
        message((b"", b"x")).replace(b"\r\n\r\n--b", b"\r\n\r\n\0\r\n--b", 1),
        message((b"", b"x")) + b"\0",
        message((b"A: \0\r\n", b"x")),
    ],
)  # fmt: skip
def test_nul_where_no_encoding_helps(octets: bytes) -> None:
    with pytest.raises(Unencodable):
        encode(octets)


@given(st.binary(max_size=200))
def test_hostile_octets_are_encoded_or_refused(octets: bytes) -> None:
    try:
        assert b"\0" not in encode(octets)
    except Unencodable:
        assert b"\0" in octets
