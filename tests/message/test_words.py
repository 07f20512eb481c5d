"""Encoded words: the examples of RFC 2047 §8, damage, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.words import decode_base64, decode_charset, decode_words, encode_words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"(=?ISO-8859-1?Q?a?=)", "(a)"),
        (b"(=?ISO-8859-1?Q?a?= b)", "(a b)"),
        (b"(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
        (b"(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
        (b"(=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=)", "(ab)"),
        (b"(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
        (b"(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
        (b"=?US-ASCII*EN?Q?Keith_Moore?= <moore@cs.utk.edu>", "Keith Moore <moore@cs.utk.edu>"),
        (b"=?utf-8?b?w6Q=?=", "ä"),
        (b"=?utf-8?b?w6Q?=", "ä"),
        (b"=?utf-8?b?w?= =?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        (b"=?x-unknown?q?=E4?=", "ä"),
        (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        ("raw é".encode(), "raw é"),
        (b"raw \xe9", "raw é"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?unicode_escape?q?\\x41?=", "\\x41"),
    ],
)
def test_decoding(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=120))
def test_what_we_encode_decodes_to_the_same(text: str) -> None:
    encoded = encode_words(text)
    assert encoded.isascii()
    assert all(len(word) <= 75 for word in encoded.split(b"\r\n ") if word.startswith(b"=?"))
    assert decode_words(encoded.replace(b"\r\n", b"")) == text


def test_line_ends_do_not_get_into_fields() -> None:
    assert encode_words("a\r\nBcc: x") == b"a  Bcc: x"
    assert b"\nBcc" not in encode_words("é\r\nBcc: x")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_decode_to_clean_text(value: bytes) -> None:
    decode_words(value).encode("utf-8")
    decode_words(b"=?utf-16?b?" + value + b"?=").encode("utf-8")
    decode_base64(value)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.text(max_size=20))
def test_any_charset_name_is_survived(octets: bytes, charset: str) -> None:
    decode_charset(octets, charset).encode("utf-8")


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [
        (b"QUJD", b"ABC"),
        (b"QU JD\r\n", b"ABC"),
        (b"QUI=QUI=", b"ABAB"),
        (b"QUI=\r\nQUI=\r\n", b"ABAB"),
        (b"QUI=\r\n-- \r\nA list's footer", b"AB"),
        (b"QUI", b"AB"),
        (b"QUJDR", b"ABC"),
        (b"====", b""),
        (b"!", b""),
    ],
)
def test_base64_of_any_shape(octets: bytes, decoded: bytes) -> None:
    assert decode_base64(octets) == decoded
