"""What the text of a message is: folding, lines of the header, pieces of the body."""

from __future__ import annotations

import sys
import time
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from postroad.message.header import field_octets
from postroad.message.summary import summarize
from postroad.store.search import text as module
from postroad.store.search.contract import Needle, Where
from postroad.store.search.digesting import keys_of
from postroad.store.search.text import (
    collate,
    fields,
    fold,
    header_fields,
    header_lines,
    text_octets,
)


def simple_title(character: str) -> str:
    title = character.title()
    return title if len(title) == 1 else character


def casemap(text: str) -> str:
    """i;unicode-casemap, as RFC 5051 §2 words it."""
    return unicodedata.normalize("NFKD", "".join(map(simple_title, text)))


def every_character() -> list[str]:
    characters = map(chr, range(1, sys.maxunicode + 1))
    return [item for item in characters if unicodedata.category(item) not in ("Cn", "Co", "Cs")]


def test_what_casemap_holds_equal_is_equal_for_every_character() -> None:
    """Source: RFC 5051 §2. Folding may hold more equal (ß and ss), never less."""
    for character in every_character():
        assert fold(character) == fold(casemap(character)), hex(ord(character))


def test_folding_twice_is_folding_once_for_every_character() -> None:
    for character in every_character():
        once = fold(character)
        assert fold(once) == once, hex(ord(character))


def test_sort_keys_are_casemap() -> None:
    """Source: RFC 5256 §3: strings are sorted by i;unicode-casemap, octet by octet."""
    for text in ("Abc", "école", "straße", "Ǆ", "日本", "İstanbul", "_x", "ﬁ", ""):
        assert collate(text).decode() == casemap(text)
    assert collate("e") == collate("E") < collate("é") < collate("F") < collate("_")


@given(st.text(), st.text())
def test_folding_goes_character_by_character(one: str, other: str) -> None:
    if not (other and unicodedata.combining(fold(other)[:1] or "x")):
        assert fold(one + other) == fold(one) + fold(other)


@given(st.text(alphabet="aéß\u0301\u0323 日", max_size=60), st.integers(1, 20))
def test_long_text_is_folded_in_pieces(text: str, size: int) -> None:
    whole = fold(text)
    kept = module._FOLD_AT_ONCE
    module._FOLD_AT_ONCE = size
    try:
        assert fold(text) == whole
    finally:
        module._FOLD_AT_ONCE = kept


def test_long_runs_of_letters_are_folded_in_pieces() -> None:
    text = "日本e\u0301\u0323É" * 1000
    assert fold(text) == unicodedata.normalize("NFKD", text.casefold())


def test_a_heap_of_marks_costs_no_more_than_its_length() -> None:
    """Putting n marks in order takes n * n steps: 200,000 of them took minutes."""
    began = time.process_time()
    fold("a" + "\u0315\u0300\u0323" * 70_000)
    keys_of(b"Subject: " + ("a" + "\u0315\u0300\u0323" * 70_000).encode() + b"\r\n\r\n", 0)
    assert time.process_time() - began < 5


def slow_lines(header: bytes) -> tuple[str, ...]:
    return tuple(line for raw in field_octets(header) if (line := module._line(raw)))


@given(st.text(alphabet="aB: \t\r\n=?", max_size=60))
def test_the_quick_way_of_plain_headers_is_the_slow_one(text: str) -> None:
    header = text.encode()
    assert header_lines(header) == slow_lines(header)
    assert header_lines(b"Subject: x\r\n" + header) == slow_lines(b"Subject: x\r\n" + header)


def text_of(message: bytes) -> module.SearchText:
    summary = summarize(message)
    return fields(summary.header, summary.structure, message)


def test_fields_are_unfolded_and_words_decoded() -> None:
    """Source: RFC 3501 §6.4.4: encoded words are decoded before they are compared."""
    found = header_lines(
        b"Subject: =?utf-8?b?w4Q=?=\r\n =?utf-8?q?pfel?=\r\nTo: a,\r\n\tb\r\nodd line\r\n\r\nbody"
    )
    assert found == (fold("subject: Äpfel"), "to: a,\tb", "odd line")


def test_a_field_is_named_exactly() -> None:
    text = header_fields(b"Subject: one\r\nSubject-X : two\r\nTo:three\r\n\r\n")
    holds = text.holds
    assert holds(Needle(Where.SUBJECT, "one")) and not holds(Needle(Where.SUBJECT, "two"))
    assert holds(Needle(Where.HEADER, "two", b"subject-x"))
    assert holds(Needle(Where.HEADER, "", b"to")) and not holds(Needle(Where.HEADER, "", b"t"))
    assert not holds(Needle(Where.HEADER, "", b"subject: one"))
    assert not holds(Needle(Where.HEADER, "", b""))
    assert holds(Needle(Where.TO, "three")) and not holds(Needle(Where.TO, "to"))


def test_names_of_files_belong_to_the_body() -> None:
    text = text_of(
        b"Subject: x\r\nContent-Type: application/pdf;\r\n name*0*=utf-8''%E2%82%AC;\r\n"
        b" name*1=uro.pdf\r\n\r\nJVBERi0="
    )
    assert text.body == ("€uro.pdf",)


def test_only_text_is_text() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\n"
        b"imagedata\r\n--b\r\n\r\nplain\r\n--b--\r\n"
    )
    assert text_of(message).body == ("content-type: image/png", "plain")
    assert 0 < text_octets(summarize(message).structure) < len(message)


@given(st.binary(max_size=400))
def test_no_octets_do_harm(octets: bytes) -> None:
    text = text_of(octets)
    assert not any("\0" in piece for piece in (*text.header, *text.body))
    for piece in (*text.header, *text.body):
        assert text.holds(Needle(Where.TEXT, piece))
