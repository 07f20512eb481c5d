"""Summaries: IMAP renderings, structure, preview; against vectors, properties and time."""

from __future__ import annotations

import mmap
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from message.imap_strings import check_body, check_envelope, read
from message.octets import HEADS, OCTETS
from postroad.mail.limits import MIME_DEPTH_MAX, MIME_PARTS_MAX
from postroad.message import part
from postroad.message.summary import Summary, summarize

PLAIN = (
    b"From: Alice <alice@one.example>\r\nTo: bob@two.example\r\nSubject: Hi\r\n"
    b"Date: Mon, 23 Nov 2026 22:15:20 +0000\r\nMessage-ID: <1@one.example>\r\n\r\nHello\r\n"
)


def message(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1")


def test_a_plain_message() -> None:
    summary = summarize(PLAIN)
    assert summary.envelope == (
        b'("Mon, 23 Nov 2026 22:15:20 +0000" "Hi" (("Alice" NIL "alice" "one.example"))'
        b' (("Alice" NIL "alice" "one.example")) (("Alice" NIL "alice" "one.example"))'
        b' ((NIL NIL "bob" "two.example")) NIL NIL NIL "<1@one.example>")'
    )
    assert summary.body == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1)'
    assert summary.bodystructure == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1 NIL NIL NIL NIL)'
    )
    assert summary.size == len(PLAIN)
    assert summary.header == PLAIN[:-7]
    assert summary.preview == "Hello"
    assert summary.sent == int(datetime(2026, 11, 23, 22, 15, 20, tzinfo=UTC).timestamp())


def test_the_example_of_rfc_3501() -> None:
    """RFC 3501 §7.4.2: a text part and a second one in base64, with ids and a description."""
    first = "x" * 71 + "\r\n"
    text = first * 15 + "y" * (1152 - 15 * 73 - 2 - 14) + "\r\n" + "\r\n" * 7
    diff = "z" * 60 + "\r\n"
    second = diff * 72 + "z" * (4554 - 72 * 62 - 2) + "\r\n"
    octets = message(
        "Content-Type: multipart/mixed; boundary=b",
        "",
        "--b",
        "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII",
        "",
        text,
        "--b",
        'Content-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME="cc.diff"',
        "Content-ID: <960723163407.20117h@cac.washington.edu>",
        "Content-Description: Compiler diff",
        "Content-Transfer-Encoding: BASE64",
        "",
        second,
        "--b--",
        "",
    )
    assert summarize(octets).body.lower() == (
        b'(("text" "plain" ("charset" "us-ascii") nil nil "7bit" 1152 23)'
        b'("text" "plain" ("charset" "us-ascii" "name" "cc.diff")'
        b' "<960723163407.20117h@cac.washington.edu>" "compiler diff" "base64" 4554 73) "mixed")'
    )


def test_sender_and_reply_to_default_to_from() -> None:
    envelope = read(summarize(b"From: a@b\r\nSender: \r\nReply-To: r@s\r\n\r\n").envelope)
    assert isinstance(envelope, list)
    assert envelope[2] == envelope[3] == [[None, None, b"a", b"b"]]
    assert envelope[4] == [[None, None, b"r", b"s"]]


def test_a_second_from_does_not_hide() -> None:
    envelope = read(summarize(b"From: a@b\r\nfrom: c@d\r\n\r\n").envelope)
    assert isinstance(envelope, list)
    assert envelope[2] == [[None, None, b"a", b"b"], [None, None, b"c", b"d"]]


def test_groups_are_bracketed() -> None:
    """RFC 3501 §7.4.2: (NIL NIL name NIL) members (NIL NIL NIL NIL)."""
    summary = summarize(b"To: A: b@c, d@e;, x@y\r\nCc: undisclosed-recipients:;\r\n\r\n")
    assert (
        b'((NIL NIL "A" NIL)(NIL NIL "b" "c")(NIL NIL "d" "e")(NIL NIL NIL NIL)'
        b'(NIL NIL "x" "y")) ((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))'
    ) in summary.envelope


def test_strings_that_quoting_cannot_carry_become_literals() -> None:
    summary = summarize(b'Subject: a "b" \\c\r\n\r\n')
    assert b'"a \\"b\\" \\\\c"' in summary.envelope
    summary = summarize("Subject: é\0x\r\n\r\n".encode())
    assert b"{3}\r\n\xc3\xa9x" in summary.envelope
    summary = summarize(b"Subject: a\0b\r\n\r\n")
    assert b'"ab"' in summary.envelope


def test_parameters_stay_as_they_were_written() -> None:
    """RFC 2231 pieces are the client's business, as they are in Dovecot and Cyrus."""
    summary = summarize(
        b'Content-Type: image/png; Name*0*=us-ascii\'en\'a%20; name*1="b \\"c"\r\n'
        b"Content-Disposition: ATTACHMENT; filename=x\r\nContent-Language: de\r\n\r\n"
    )
    assert summary.bodystructure == (
        b'("image" "png" ("name*0*" "us-ascii\'en\'a%20" "name*1" "b \\"c") NIL NIL "7bit" 0'
        b' NIL ("attachment" ("filename" "x")) ("de") NIL)'
    )


def test_digests_hold_messages_by_default() -> None:
    """RFC 2046 §5.1.5."""
    octets = message(
        "Content-Type: multipart/digest; boundary=d", "", "--d", "", "Subject: in", "", "x", "--d--"
    )
    assert summarize(octets).body == (
        b'(("message" "rfc822" NIL NIL NIL "7bit" 16 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL)'
        b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) 2) "digest")'
    )


def test_a_boundary_that_begins_like_the_outer_one() -> None:
    """`--foobar` is no delimiter of `foo`."""
    octets = message(
        "Content-Type: multipart/mixed; boundary=foo",
        "",
        "--foo",
        "Content-Type: multipart/mixed; boundary=foobar",
        "",
        "--foobar",
        "",
        "one",
        "--foobar--",
        "--foo",
        "",
        "two",
        "--foo--",
    )
    leaf = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0)'
    assert summarize(octets).body == b"((" + leaf + b' "mixed")' + leaf + b' "mixed")'


def test_text_behind_a_boundary_is_passed_over() -> None:
    """RFC 2046 §5.1.1: it is sufficient that the boundary appear behind the line end."""
    octets = message(
        "Content-Type: multipart/mixed; boundary=b",
        "",
        "--b and more",
        "",
        "one",
        "--b-- and the end",
        "--b",
        "",
        "epilogue",
    )
    leaf = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0)'
    assert summarize(octets).body == b"(" + leaf + b' "mixed")'


def test_an_unclosed_inner_multipart_ends_with_the_outer_part() -> None:
    octets = message(
        "Content-Type: multipart/mixed; boundary=o",
        "",
        "--o",
        "Content-Type: multipart/mixed; boundary=i",
        "",
        "--i",
        "",
        "one",
        "--o",
        "",
        "two",
    )
    leaf = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0)'
    assert summarize(octets).body == b"((" + leaf + b' "mixed")' + leaf + b' "mixed")'


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"\r\n  a \r\n\t b\r\n\r\nc", "a b c"),
        (b"Content-Type: text/html\r\n\r\n<style>p{}</style><p>a</p>b &amp; <b>c</b>", "a b & c"),
        (b"Content-Transfer-Encoding: base64\r\n\r\nw6TDtg==\r\n", "äö"),
        (b"Content-Type: text/plain; charset=latin-1\r\n\r\n\xe4", "ä"),
        (b"Content-Type: text/plain; charset=no-such\r\n\r\n\xe4", "ä"),
        (b"Content-Type: image/png\r\n\r\nabc", ""),
        (b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nabc", ""),
        (
            b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: text/html\r\n\r\nhtml\r\n--b\r\n\r\nplain\r\n--b--",
            "plain",
        ),
        (b"\r\n" + b"word " * 100, ("word " * 40).strip()),
    ],
)
def test_previews(octets: bytes, shown: str) -> None:
    assert summarize(octets).preview == shown


@settings(max_examples=300, deadline=None)
@given(OCTETS, HEADS)
def test_any_octets_give_legal_answers(octets: bytes, head: bytes) -> None:
    """And a message with fields on top is the same as one that had them all along."""
    summary = summarize(octets, head)
    check_envelope(read(summary.envelope))
    check_body(read(summary.body), False)
    check_body(read(summary.bodystructure), True)
    assert summary == summarize(head + octets)
    assert (head + octets).startswith(summary.header)


@settings(max_examples=60, deadline=None)
@given(OCTETS)
def test_the_kind_of_buffer_changes_nothing(octets: bytes) -> None:
    expected = summarize(octets)
    found: list[Summary] = [summarize(memoryview(octets))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, "_COPY_MAX", 0)
        patch.setattr(part, "_WINDOW", 7)
        found.append(summarize(memoryview(octets)))
        found.append(summarize(memoryview(b"x" + octets)[1:]))
        found.append(summarize(memoryview(bytearray(octets))))
        if octets:
            mapped = mmap.mmap(-1, len(octets))
            mapped[:] = octets
            found.append(summarize(memoryview(mapped)))
    assert all(item == expected for item in found)


def test_a_nul_in_a_type_is_not_there() -> None:
    """IMAP strings hold no NUL, and what is left here is a type with a grammar of its own."""
    body = read(summarize(b"Content-Type: message/rfc\0822\r\n\r\nSubject: x\r\n\r\n").body)
    check_body(body, False)


def nested(depth: int, filler: bytes = b"") -> bytes:
    out = b""
    for level in range(depth):
        out += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
    return out + b"\r\n" + filler


HOSTILE = {
    "nests past the bound": nested(3 * MIME_DEPTH_MAX),
    "nests with a heavy core": nested(MIME_DEPTH_MAX, b"\r\n--b" * 100_000),
    "messages in messages": b"Content-Type: message/rfc822\r\n\r\n" * 10_000,
    "more parts than allowed": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\n" * (2 * MIME_PARTS_MAX),
    "almost delimiters": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"\r\n--bx" * 100_000,
    "a field without end": b"X: " + b"a" * 500_000,
    "folds without end": b"Content-Type: text/plain" + b";\r\n " * 100_000,
    "spaces": b"Content-Type: text/plain;" + b" " * 300_000 + b"x\r\n\r\n",
    "semicolons": b"Content-Type: text/plain" + b";" * 300_000 + b"\r\n\r\n",
    "parentheses": b"From: " + b"(" * 300_000 + b"\r\n\r\n",
    "comments": b"From: <a@b>" + b"(c)" * 100_000 + b"\r\n\r\n",
    "quotes": b"From: " + b'"\\' * 150_000 + b"\r\n\r\n",
    "commas": b"From: " + b"," * 300_000 + b"\r\n\r\n",
    "angles": b"From: " + b"<" * 100_000 + b"\r\n\r\n",
    "ats": b"From: " + b"a@" * 100_000 + b"\r\n\r\n",
    "dots": b"From: " + b"a." * 100_000 + b"\r\n\r\n",
    "words": b"From: " + b"a " * 100_000 + b"\r\n\r\n",
    "many addresses": b"To: " + b"a@b, " * 100_000 + b"\r\n\r\n",
    "many To fields": b"To: a@b\r\n" * 50_000,
    "many fields": b"a: b\r\n" * 100_000,
    "encoded words": b"Subject: " + b"=?a?q?b?= " * 50_000 + b"\r\n\r\n",
    "trailing spaces": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    + b" " * 300_000
    + b"x",
    "open tags": b"Content-Type: text/html\r\n\r\n" + b"<p" * 100_000,
    "open comments": b"Content-Type: text/html\r\n\r\n" + b"<!--" * 50_000,
    "a long number": b"Content-Type: text/html\r\n\r\n&#" + b"1" * 60_000 + b";",
    "equals signs": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QQ==" * 100_000,
    "numbered parameters": b"Content-Type: a/b" + b"; n*%d=x" * 1 % 1 + b"; n*0*0=x" * 50_000,
    "dates": b"Date: " + b"((" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_cost_little(name: str) -> None:
    """Quadratic work on these takes minutes; linear work some ten milliseconds."""
    octets = HOSTILE[name]
    began = time.process_time()
    summary = summarize(octets)
    spent = time.process_time() - began
    check_envelope(read(summary.envelope))
    check_body(read(summary.bodystructure), True)
    assert spent < 3, spent


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"-", b"--", b"\n", b"\n--", b"\n--b", b"x" * 1500, b"-x" * 9000]),
        max_size=12,
    )
)
def test_delimiters_are_found_near_and_far(pieces: list[bytes]) -> None:
    """The quick search by one dash finds just what a plain search finds."""
    octets = b"".join(pieces)
    buffer = part._Buffer(octets)
    for start in range(0, len(octets), 2501):
        for stop in (start + 3, len(octets) - 1, len(octets)):
            assert buffer.find(b"\n--b", start, stop) == octets.find(b"\n--b", start, stop)
