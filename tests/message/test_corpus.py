"""3,006 real messages: the same parts, texts, subjects and dates as stdlib email finds."""

from __future__ import annotations

import email
import os
import re
import tarfile
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from message.imap_strings import check_body, check_envelope, read
from postroad.message.header import decode_words, parse_header
from postroad.message.part import Part, scan
from postroad.message.section import text_parts
from postroad.message.summary import summarize
from postroad.message.text import decode_transfer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "POSTROAD_SHARED" not in os.environ,
        reason="POSTROAD_SHARED is not set: it holds the corpus of real mail",
    ),
]

ODD_DATES = {"spam/spam-1/00068.d10af636a6082d5172ceb34a944486e6.eml"}
"""`01800` as a zone."""


def corpus() -> Iterator[tuple[str, bytes]]:
    archive = Path(os.environ["POSTROAD_SHARED"], "corpus", "spamassassin.tar.xz")
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and member.name.endswith(".eml"):
                yield member.name, re.sub(rb"(?<!\r)\n", b"\r\n", file.read())


def their_shape(message: Message) -> Any:
    kind = message.get_content_type()
    payload = message.get_payload()
    if not message.is_multipart() or kind == "message/delivery-status":  # blocks of fields to it
        return kind
    assert isinstance(payload, list)
    return [kind, *(their_shape(part) for part in payload if isinstance(part, Message))]


def our_shape(part: Part) -> Any:
    kind = (part.type + b"/" + part.subtype).decode("latin-1")
    return [kind, *map(our_shape, part.children)] if part.children else kind


def their_texts(message: Message) -> Iterator[bytes]:
    if message.get_content_type() == "message/delivery-status":
        return
    payload = message.get_payload()
    if isinstance(payload, list):
        for part in payload:
            assert isinstance(part, Message)
            yield from their_texts(part)
    elif message.get_content_maintype() == "text":
        octets = message.get_payload(decode=True)
        yield octets if isinstance(octets, bytes) else b""


def plain(octets: bytes) -> bytes:
    """Without white space at line ends, which RFC 2045 §6.7 lets quoted-printable lose."""
    return re.sub(rb"[ \t\r]*\n", b"\n", octets).rstrip()


def moment(message: Message) -> int:
    try:
        return int(parsedate_to_datetime(str(message["Date"])).timestamp())
    except (TypeError, ValueError):
        return 0


def subject(value: bytes) -> str | None:
    try:
        return str(make_header(decode_header(value.decode("ascii"))))
    except (LookupError, ValueError):
        return None


def test_stdlib_finds_the_same() -> None:
    count = 0
    for name, octets in corpus():
        count += 1
        theirs = email.message_from_bytes(octets)
        summary = summarize(octets)
        check_envelope(read(summary.envelope))
        check_body(read(summary.body), False)
        check_body(read(summary.bodystructure), True)
        assert our_shape(scan(octets)) == their_shape(theirs), name
        if name not in ODD_DATES:
            assert summary.sent == moment(theirs), name
        texts = [
            decode_transfer(octets[part.start : part.stop], part.encoding)
            for part in text_parts(summary.structure)
        ]
        assert [plain(text) for text in texts] == [plain(text) for text in their_texts(theirs)], (
            name
        )
        value = parse_header(octets)[0].value(b"subject")
        wanted = None if value is None else subject(value)
        if value is not None and wanted is not None:
            assert decode_words(value) == wanted, name
    assert count == 3006
