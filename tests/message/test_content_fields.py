"""Content-Type and its parameters: RFC 2231's examples, damage, foreign vectors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.content_fields import (
    decoded_parameter,
    file_name,
    parse_content_type,
    parse_disposition,
    parse_languages,
    parse_token,
)
from postroad.message.header import unfold


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (b"text/plain", (b"text", b"plain", ())),
        (b"Text/PLAIN; Charset=UTF-8", (b"text", b"plain", ((b"charset", b"UTF-8"),))),
        (b'a/b;c="d;e"; f = g ', (b"a", b"b", ((b"c", b"d;e"), (b"f", b"g")))),
        (
            b"text/plain; charset=us-ascii (Plain text)",
            (b"text", b"plain", ((b"charset", b"us-ascii"),)),
        ),
        (b'a/b; c="(no comment)"', (b"a", b"b", ((b"c", b"(no comment)"),))),
        (b"a/b;;; c=d;;", (b"a", b"b", ((b"c", b"d"),))),
        (b"a/b c=d e=f", (b"a", b"b", ((b"c", b"d"), (b"e", b"f")))),
        (b'a/b; c="open', (b"a", b"b", ((b"c", b"open"),))),
        (b"a/b; junk; c=d", (b"a", b"b", ((b"c", b"d"),))),
        (b"text", None),
        (b"/", None),
        (b"", None),
    ],
)
def test_content_type(value: bytes, parsed: object) -> None:
    assert parse_content_type(value) == parsed


def test_disposition_token_languages() -> None:
    assert parse_disposition(b"Attachment; filename=x") == (b"attachment", ((b"filename", b"x"),))
    assert parse_disposition(b";") is None
    assert parse_token(b" Base64 (so)") == b"Base64"
    assert parse_token(b"8 bit") is None
    assert parse_languages(b"de, en-GB ,, (x)") == (b"de", b"en-GB")


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        # RFC 2231 §3, §4, §4.1
        (
            b'message/external-body; URL*0="ftp://"; URL*1="cs.utk.edu/pub/x.tar"',
            b"url",
            "ftp://cs.utk.edu/pub/x.tar",
        ),
        (
            b"a/b; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
            b"title",
            "This is ***fun***",
        ),
        (
            b"a/b; title*0*=us-ascii'en'This%20is%20even%20more%20;"
            b' title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2="isn\'t it!"',
            b"title",
            "This is even more ***fun*** isn't it!",
        ),
        (b"a/b; name*=utf-8''%E2%82%AC", b"name", "€"),
        (b"a/b; name*=x-odd''%E4", b"name", "ä"),
        (b"a/b; name*1=b; name*0=a", b"name", "ab"),
        (b"a/b; name*0=a; name*2=c", b"name", "a"),
        (b'a/b; name="=?utf-8?q?=C3=A4?="', b"name", "ä"),
        (b"a/b; name=\xc3\xa4", b"name", "ä"),
        (b"a/b; name=plain; name*=utf-8''better", b"name", "better"),
        (b"a/b; other=x", b"name", None),
    ],
)
def test_decoded_parameters(value: bytes, name: bytes, text: str | None) -> None:
    parsed = parse_content_type(value)
    assert parsed is not None
    assert decoded_parameter(parsed[2], name) == text


def test_file_names() -> None:
    assert file_name(((b"filename", b"a"),), ((b"name", b"b"),)) == "a"
    assert file_name((), ((b"name", b"b"),)) == "b"
    assert file_name((), ()) is None


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=100) | st.text(alphabet="ab/;=\"\\() *0'%", max_size=60).map(str.encode))
def test_any_octets_are_survived(value: bytes) -> None:
    for text in (value, b"text/plain;" + value):
        parsed = parse_content_type(text)
        if parsed is not None:
            for name, _ in parsed[2]:
                decoded_parameter(parsed[2], name.partition(b"*")[0])
    parse_disposition(value)
    parse_languages(value)
    parse_token(value)


_NAME = st.text(alphabet="abcxyz-", min_size=1, max_size=6)
_VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_NAME, _VALUE), max_size=6))
def test_quoted_parameters_come_back(wanted: list[tuple[str, str]]) -> None:
    text = "a/b"
    for name, value in wanted:
        text += f'; {name}="' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    expected = tuple((name.encode(), value.encode()) for name, value in wanted)
    assert parse_content_type(text.encode()) == (b"a", b"b", expected)


OPINION = {
    4, 38, 39, 47, 48, 58, 67, 68, 69, 101,  # a type without subtype is a type there
    76, 77, 78,  # text/plain/format is a subtype plain/format there
    29, 30, 31,  # the language becomes a parameter there
    34, 35,  # encoded words: spaces in between kept, or unquoted
    49, 55, 56,  # an empty value is no parameter there; the white space of an open quote is kept
    59, 61,  # holes in the numbering are closed there
}  # fmt: skip


@pytest.mark.skipif(
    "POSTROAD_SHARED" not in os.environ,
    reason="POSTROAD_SHARED is not set: it holds mail-parser's field vectors",
)
def test_the_vectors_of_mail_parser() -> None:
    """Source: stalwartlabs/mail-parser (Apache-2.0 or MIT), content_type.json."""
    file = Path(
        os.environ["POSTROAD_SHARED"], "conformance/mime/mail-parser/fields/content_type.json"
    )
    cases = json.loads(file.read_text())
    assert len(cases) == 103
    for number, case in enumerate(cases):
        wanted = case["expected"]
        if number in OPINION or wanted is None or "c_type" not in wanted:
            continue
        first = re.match(rb"[^\n]*(?:\n[ \t][^\n]*)*", case["header"].encode())
        assert first is not None
        parsed = parse_content_type(unfold(first[0]))
        assert parsed is not None, number
        names = dict.fromkeys(name.partition(b"*")[0] for name, _ in parsed[2])
        found = {name.decode(): decoded_parameter(parsed[2], name) for name in names}
        assert parsed[0].decode() == wanted["c_type"].lower(), number
        assert parsed[1].decode() == (wanted["c_subtype"] or "").lower(), number
        assert found == {name.lower(): text for name, text in wanted.get("attributes") or []}, (
            number
        )
