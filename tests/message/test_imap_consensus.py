"""ENVELOPE and BODYSTRUCTURE against what Dovecot 2.3, Dovecot 2.4 and Cyrus 3.10 agree on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from message.imap_strings import Value, check_body, check_envelope, read
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
