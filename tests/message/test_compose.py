"""Submissions: what is completed, what is refused, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings

from message.octets import OCTETS
from postroad.message.addresses import MailboxAddress
from postroad.message.compose import author, check_submission, completions
from postroad.message.header import parse_header

NOW = datetime(2026, 11, 3, 2, 5, 9, tzinfo=UTC)


def completed(octets: bytes, message_id: bytes | None = b"0abc") -> bytes:
    return completions(
        parse_header(octets)[0], now=NOW, message_id=message_id, hostname="mx.one.example"
    )


def test_missing_fields_are_made() -> None:
    """RFC 6409 §8.1, §8.3; RFC 5322 §3.3."""
    assert completed(b"From: a@b\r\n\r\n") == (
        b"Date: Tue, 3 Nov 2026 02:05:09 +0000\r\nMessage-ID: <0abc@mx.one.example>\r\n"
    )
    assert completed(b"date: x\r\n\r\n") == b"Message-ID: <0abc@mx.one.example>\r\n"
    assert completed(b"Message-Id: <x>\r\nDATE: x\r\n\r\n") == b""
    assert completed(b"Date: x\r\n\r\n", None) == b""


def test_ids_are_cleaned() -> None:
    assert completed(b"Date: x\r\n", b"<a@b.example>") == b"Message-ID: <a@b.example>\r\n"
    assert completed(b"Date: x\r\n", b"a\r\nX: <y>@h") == b"Message-ID: <aXy@h>\r\n"
    assert completed(b"Date: x\r\n", b"a@") == b"Message-ID: <a@mx.one.example>\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"From: a@b.example\r\n",
        b'From: "A, B" <a@b.example>\r\nTo: c@d\r\n',
        b"From: a@b, c@d\r\nSender: a@b\r\n",
        b"From: a@[192.0.2.1]\r\n",
        "From: ü@ö.example\r\n".encode(),
        b"From: a@b\r\nX-A: 1\r\nX-A: 2\r\nReceived: x\r\nReceived: y\r\n",
        b"From: a@b\r\nTo: undisclosed-recipients:;\r\n",
        b"From: a@b\r\nTo: root\r\n",
    ],
)
def test_sound_messages(octets: bytes) -> None:
    assert check_submission(parse_header(octets + b"\r\n")[0]) is None


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", "there is no From field"),
        (b"To: a@b\r\n", "there is no From field"),
        (b"From: a@b\r\nfrom: c@d\r\n", "there are 2 From fields where one is allowed"),
        (b"From: a@b\r\nDate: x\r\nDate: y\r\nDate: z\r\n", "there are 3 Date fields"),
        (b"From: a@b\r\nSubject: x\r\nSubject: y\r\n", "there are 2 Subject fields"),
        (b"From: a@b\r\nMessage-ID: x\r\nMessage-Id: y\r\n", "there are 2 Message-ID fields"),
        (b"From: a@b\r\nMIME-Version: 1.0\r\nMime-version: 1.0\r\n", "there are 2 MIME-Version"),
        (b"From: \r\n", "the From field names no address"),
        (b"From: friends:;\r\n", "the From field names no address"),
        (b"From: alice\r\n", "the From field is malformed: 'alice'"),
        (b"From: A <>\r\n", "the From field is malformed"),
        (b"From: a@b c@d\r\n", "the From field is malformed"),
        (b"From: a@b, c@d\r\n", "From names several addresses, but there is no Sender field"),
        (b"From: a@b, c@d\r\nSender: e@f, g@h\r\n", "the Sender field must name exactly one"),
        (b"From: a@b <c@d>\r\n", "the From field is malformed"),
        (b"From: a@b\r\nSender: alice\r\n", "the Sender field is malformed"),
        (b"From: a@b\r\nno field\r\n", "a line of the header is no field: 'no field'"),
        (b"From: a@b\r\nA b: c\r\n", "a line of the header is no field: 'A b: c'"),
        (b"From: a@b\r\n\xe4: c\r\n", "a line of the header is no field: '?: c'"),
        (b"From: a@b\r\n" + b"a: b\r\n" * 10_000, "the header has more than 10000 fields"),
        (b" folded: x\r\nFrom: a@b\r\n", "a line of the header is no field"),
    ],
)
def test_faults_are_named(octets: bytes, fault: str) -> None:
    found = check_submission(parse_header(octets + b"\r\n")[0])
    assert found is not None
    assert found.startswith(fault)


@settings(max_examples=150, deadline=None)
@given(OCTETS)
def test_faults_may_stand_in_a_reply(octets: bytes) -> None:
    header, _ = parse_header(octets)
    found = check_submission(header)
    assert found is None or (found.isascii() and found.isprintable() and len(found) < 200)
    if found is None:
        assert author(header) is not None or header.first(b"sender") is not None


def test_the_author() -> None:
    header, _ = parse_header(b"From: Alice <a@b.example>\r\n\r\n")
    assert author(header) == MailboxAddress(b"Alice", b"a", b"b.example")
    for octets in (b"", b"From: a@b, c@d\r\n", b"From: a@b\r\nFrom: a@b\r\n", b"From: x\r\n"):
        assert author(parse_header(octets)[0]) is None
