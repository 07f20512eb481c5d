"""Sections: part numbers of RFC 3501 §6.4.5, offsets that name the right octets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from message.octets import HEADS, OCTETS
from postroad.message.header import field_octets, parse_header
from postroad.message.section import encoding_of, filter_header, locate, text_parts
from postroad.message.structure import Node, pack, unpack
from postroad.message.summary import summarize

HEAD = b"Return-Path: <a@b>\r\n"
MESSAGE = b"""Subject: outer
Content-Type: multipart/mixed; boundary=o

preamble
--o

one
--o
Content-Type: application/octet-stream

two
--o
Content-Type: message/rfc822

Subject: three
Content-Type: multipart/mixed; boundary=i

--i
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: Base64

aGk=
--i
Content-Type: message/rfc822

Subject: deepest

deep
--i--
--o--
epilogue
""".replace(b"\n", b"\r\n")


def at(path: tuple[int, ...], what: str = "", octets: bytes = MESSAGE) -> bytes | None:
    span = locate(summarize(octets, HEAD).structure, path, what)
    return None if span is None else (HEAD + octets)[slice(*span)]


@pytest.mark.parametrize(
    ("path", "what", "octets"),
    [
        ((), "", HEAD + MESSAGE),
        ((), "HEADER", HEAD + MESSAGE[: MESSAGE.index(b"preamble")]),
        ((), "TEXT", MESSAGE[MESSAGE.index(b"preamble") :]),
        ((), "MIME", None),
        ((1,), "", b"one"),
        ((1,), "MIME", b"\r\n"),
        ((1,), "HEADER", None),
        ((1, 1), "", None),
        ((2,), "", b"two"),
        ((2,), "MIME", b"Content-Type: application/octet-stream\r\n\r\n"),
        ((2,), "TEXT", None),
        ((3,), "", MESSAGE[MESSAGE.index(b"Subject: three") : MESSAGE.index(b"\r\n--o--")]),
        ((3,), "MIME", b"Content-Type: message/rfc822\r\n\r\n"),
        (
            (3,),
            "HEADER",
            b"Subject: three\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n",
        ),
        ((3,), "TEXT", MESSAGE[MESSAGE.index(b"--i\r\n") : MESSAGE.index(b"\r\n--o--")]),
        ((3, 1), "", b"aGk="),
        ((3, 2), "", b"Subject: deepest\r\n\r\ndeep"),
        ((3, 2), "HEADER", b"Subject: deepest\r\n\r\n"),
        ((3, 2), "TEXT", b"deep"),
        ((3, 2, 1), "", b"deep"),
        ((3, 2, 1), "MIME", b"Subject: deepest\r\n\r\n"),
        ((3, 2, 2), "", None),
        ((3, 3), "", None),
        ((4,), "", None),
        ((0,), "", None),
    ],
)
def test_sections(path: tuple[int, ...], what: str, octets: bytes | None) -> None:
    assert at(path, what) == octets


def test_part_1_of_a_message_that_is_no_multipart() -> None:
    plain = b"Subject: x\r\n\r\nbody"
    assert at((1,), "", plain) == b"body"
    assert at((1,), "MIME", plain) == HEAD + b"Subject: x\r\n\r\n"
    assert at((1,), "HEADER", plain) is None
    assert at((2,), "", plain) is None
    assert at((1, 1), "", plain) is None
    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + plain
    assert at((1,), "", forwarded) == plain
    assert at((1,), "HEADER", forwarded) == b"Subject: x\r\n\r\n"
    assert at((1, 1), "", forwarded) == b"body"


def test_encodings() -> None:
    structure = summarize(MESSAGE).structure
    assert encoding_of(structure, (3, 1)) == (b"base64", b"utf-8")
    assert encoding_of(structure, (1,)) == (b"7bit", b"us-ascii")
    assert encoding_of(structure, (9,)) is None


def test_text_parts() -> None:
    found = text_parts(summarize(MESSAGE).structure)
    assert [(part.path, MESSAGE[part.start : part.stop]) for part in found] == [
        ((1,), b"one"),
        ((3, 1), b"aGk="),
        ((3, 2, 1), b"deep"),
    ]
    assert [part.subtype for part in found] == [b"plain", b"html", b"plain"]


def test_attachments_have_names() -> None:
    octets = (
        b"Content-Disposition: attachment; filename*=utf-8''%C3%A4.txt\r\n"
        b"Content-Type: text/plain\r\n\r\nx"
    )
    (part,) = text_parts(summarize(octets).structure)
    assert (part.name, part.attached, part.path) == ("ä.txt", True, (1,))


@settings(max_examples=150, deadline=None)
@given(OCTETS, HEADS)
def test_every_part_lies_within_its_parent(octets: bytes, head: bytes) -> None:
    summary = summarize(octets, head)
    whole = head + octets

    def check(node: Node, start: int, stop: int) -> None:
        assert start <= node.start <= node.body <= node.stop <= stop
        at = node.body
        for child in node.children:
            check(child, at, node.stop)
            at = child.stop

    root = unpack(summary.structure)
    check(root, 0, len(whole))
    assert (root.start, root.stop) == (0, len(whole))
    assert pack(root) == summary.structure
    assert locate(summary.structure, (), "HEADER") == (0, len(summary.header))
    for part in text_parts(summary.structure):
        assert locate(summary.structure, part.path) == (part.start, part.stop)
        assert encoding_of(summary.structure, part.path) == (part.encoding, part.charset)


def test_what_was_not_packed_here_is_refused() -> None:
    for octets in (b"", b"\xc1", b"\x92\x07\x90", summarize(MESSAGE).structure[:-1]):
        with pytest.raises(ValueError, match="packed structure"):
            unpack(octets)


def test_fields_are_picked_as_they_stand() -> None:
    header = b"From: a\r\nTO : b,\r\n c\r\nSubject: s\r\nto: again\r\n\r\n"
    assert filter_header(header, [b"To"], False) == b"TO : b,\r\n c\r\nto: again\r\n\r\n"
    assert filter_header(header, {b"to", b"FROM"}, True) == b"Subject: s\r\n\r\n"
    assert filter_header(header, [b"Cc"], False) == b"\r\n"
    assert filter_header(b"From: a", [b"from"], False) == b"From: a\r\n\r\n"


@settings(max_examples=100, deadline=None)
@given(OCTETS)
def test_picked_and_left_fields_are_all_fields(octets: bytes) -> None:
    header, _ = parse_header(octets)
    names = [b"from", b"subject", b"content-type"]
    picked = filter_header(header.raw, names, False)
    left = filter_header(header.raw, names, True)
    assert sorted(field.raw.strip() for field in header) == sorted(
        field.raw.strip()
        for text in (picked, left)
        for field in (parse_header(text)[0] if text != b"\r\n" else ())
    )


_LINES = st.sampled_from(
    [b"To: a\r\n", b"TO :b\r\n", b"To\t: c\n", b" To: folded\r\n", b"\tx\r\n", b"no field\r\n"]
    + [
        b"Tom: d\r\n",
        b"X-To: e\r\n",
        b"To",
        b"Subject: To: f\r\n",
        b" \r\n",
        b"\r\r\n",
        b"From:\r\n",
    ]
)


@given(st.lists(_LINES, max_size=12))
def test_one_expression_chooses_what_the_fields_one_by_one_give(lines: list[bytes]) -> None:
    """Folds, names that begin alike, and lines that are no fields are told apart."""
    header = b"".join(lines)
    if header and not header.endswith(b"\n"):
        header += b"\r\n"
    header += b"\r\n"
    names = [b"to", b"FROM"]
    slow = b"".join(
        raw
        for raw in field_octets(header)
        if b":" in raw and raw.partition(b":")[0].rstrip(b" \t").lower() in (b"to", b"from")
    )
    assert filter_header(header, names, False) == slow + b"\r\n"
