"""Text of parts, however it was encoded or damaged."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.text import PREVIEW_CHARACTERS, decode_text, preview, strip_html

CLEAN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200)


@pytest.mark.parametrize(
    ("octets", "encoding", "charset", "text"),
    [
        (b"caf=E9 =\r\nau lait  \r\n", b"Quoted-Printable", b"iso-8859-1", "café au lait\r\n"),
        (b"a=3D=zz=4", b"quoted-printable", None, "a==zz=4"),
        (b"w6Q=\r\n", b"BASE64", b"UTF-8", "ä"),
        (b"\xe4", b"8bit", b"x-user-defined-charset", "ä"),
        (b"\xc3\xa4", b"8bit", None, "ä"),
        (b"\x93q\x94", b"8bit", b"windows-1252", "“q”"),
        ("日本".encode("shift_jis"), b"8bit", b"Shift_JIS", "日本"),
        (b"\x1b$BF|K\\\x1b(B", b"7bit", b"iso-2022-jp", "日本"),
        (b"abc", b"x-uuencode", b"us-ascii", "abc"),
        (b"a\xff", b"8bit", b"us-ascii", "aÿ"),
        (b"a", b"", b"", "a"),
    ],
)
def test_decoding(octets: bytes, encoding: bytes, charset: bytes | None, text: str) -> None:
    assert decode_text(octets, encoding, charset) == text


@settings(max_examples=60, deadline=None)
@given(CLEAN)
def test_encoded_text_comes_back(text: str) -> None:
    octets = text.encode()
    assert decode_text(base64.encodebytes(octets), b"base64", b"utf-8") == text
    assert decode_text(quopri.encodestring(octets), b"quoted-printable", b"utf-8") == text


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"base64", b"quoted-printable", b"7bit", b"?"]),
    st.sampled_from([None, b"utf-8", b"utf-7", b"utf-16", b"hz", b"\xff", b"punycode", b"a\0b"]),
    st.sampled_from([b"plain", b"html"]),
)
def test_any_octets_are_survived(
    octets: bytes, encoding: bytes, charset: bytes | None, subtype: bytes
) -> None:
    decode_text(octets, encoding, charset).encode("utf-8")
    shown = preview(octets, encoding, charset, subtype)
    assert len(shown) <= PREVIEW_CHARACTERS
    assert "\n" not in shown and "\0" not in shown and "  " not in shown


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", " a  b "),
        ("a<b>c</b>", "ac"),
        ("<!-- x --><STYLE>p</STYLE>y", "  y"),
        ("&lt;b&gt; &#228; &#99999999999;", "<b> ä \ufffd"),
        ("1 < 2", "1 < 2"),
        ("<a href='x", ""),
    ],
)
def test_html(html: str, text: str) -> None:
    assert strip_html(html) == text


@pytest.mark.parametrize("shift", range(4))
def test_previews_do_not_end_in_half_a_character(shift: int) -> None:
    octets = b"x" * shift + "😀é ".encode() * 2000
    assert preview(octets, b"8bit", None, b"plain") == ("x" * shift + "😀é " * 2000)[:200].rstrip()
