"""BODYSTRUCTURE of parts by their numbers (RFC 5524 §3.2)."""

from __future__ import annotations

import pytest

from postroad.message.bodypart import Identity, render_part
from postroad.message.summary import summarize

NESTED = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nYQpiCg==\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner\r\n"
    b"--b--\r\n"
)
HTML = b'("text" "html" NIL NIL NIL "base64" %d %d NIL NIL NIL NIL)'


def test_the_whole_message_is_what_bodystructure_says() -> None:
    assert render_part(NESTED, (), None) == summarize(NESTED).bodystructure


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ((1,), HTML % (8, 0)),
        ((2, 1), b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0 NIL NIL NIL NIL)'),
        ((3,), None), ((1, 1), None), ((2, 2), None), ((2, 1, 1), None),
    ],
)  # fmt: skip
def test_parts_by_number(path: tuple[int, ...], told: bytes | None) -> None:
    assert render_part(NESTED, path, None) == told


def test_the_only_part_is_number_one() -> None:
    assert render_part(b"a: b\r\n\r\nx", (1,), None) == summarize(b"a: b\r\n\r\nx").bodystructure
    assert render_part(b"a: b\r\n\r\nx", (2,), None) is None


def test_without_its_encoding() -> None:
    told = render_part(NESTED, (1,), Identity(b"7BIT", 4, 2))
    assert told == (HTML % (4, 2)).replace(b"base64", b"7BIT")
