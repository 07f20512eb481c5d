"""ENVELOPE and BODYSTRUCTURE against what Dovecot 2.3, Dovecot 2.4 and Cyrus 3.10 agree on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from message.imap_strings import Value, check_body, check_envelope, read
from postroad.message.part import Part, scan
from postroad.message.summary import summarize

pytestmark = pytest.mark.skipif(
    "POSTROAD_SHARED" not in os.environ,
    reason="POSTROAD_SHARED is not set: it holds the conformance messages",
)


def conformance() -> Path:
    return Path(os.environ["POSTROAD_SHARED"]) / "conformance"


def comparable(value: Value) -> Any:
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return value.decode("latin-1").lower() if isinstance(value, bytes) else value


def lower(value: Any) -> Any:
    if isinstance(value, list):
        return [lower(item) for item in value]
    return value.lower() if isinstance(value, str) else value


def test_no_difference_to_the_consensus() -> None:
    entries = json.loads((conformance() / "imap-structure" / "consensus.json").read_text())
    assert len(entries) == 133
    differences = []
    for name, entry in entries.items():
        octets = (conformance() / "mime" / name).read_bytes()
        octets = re.sub(rb"(?<!\r)\n", b"\r\n", octets)
        assert hashlib.sha256(octets).hexdigest() == entry["sha256_crlf"], name
        summary = summarize(octets)
        assert summary.size == entry["rfc822_size"]
        for item in ("envelope", "bodystructure"):
            if item in entry:
                found = comparable(read(getattr(summary, item)))
                if found != lower(entry[item]):
                    differences.append((name, item, found, entry[item]))
    assert not differences


ENCODED = {
    "multi-2gifs-base64", "bad-newlines-multiple-parts-base64", "base64encoded-rfc822message-nested"
}  # fmt: skip
"""message/rfc822 in base64, which RFC 2046 §5.2.1 forbids: mime4j looks inside, IMAP cannot."""
ODD = {"very-very-long-boundary"}
"""A boundary of 14 KB."""
NOT_XML = {"2002_06_12_doublebound", "twopart"}


def mime4j_shape(element: Element) -> Any:
    for child in element:
        if child.tag == "multipart":
            return [mime4j_shape(part) for part in child if part.tag == "body-part"]
        if child.tag == "message":
            return [mime4j_shape(child)]
    return "leaf"


def our_shape(found: Part) -> Any:
    if found.is_multipart or found.is_message:
        return [our_shape(child) for child in found.children]
    return "leaf"


def test_the_parts_that_mime4j_finds() -> None:
    """Source: apache/james-mime4j testmsgs and mimetools-testmsgs (Apache-2.0, Artistic)."""
    compared = 0
    for file in conformance().glob("mime/mime4j/*/*.msg"):
        if file.stem in ENCODED | ODD | NOT_XML:
            continue
        text = re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", b"", file.with_suffix(".xml").read_bytes())
        octets = re.sub(rb"(?<!\r)\n", b"\r\n", file.read_bytes())
        assert our_shape(scan(octets)) == mime4j_shape(fromstring(text)), file.name
        compared += 1
    assert compared == 74


def test_all_messages_give_legal_answers() -> None:
    files = [*conformance().glob("mime/**/*.eml"), *conformance().glob("mime/**/*.msg")]
    assert len(files) > 130
    for file in files:
        octets = file.read_bytes()
        for form in (octets, re.sub(rb"(?<!\r)\n", b"\r\n", octets)):
            summary = summarize(form)
            check_envelope(read(summary.envelope))
            check_body(read(summary.body), False)
            check_body(read(summary.bodystructure), True)
