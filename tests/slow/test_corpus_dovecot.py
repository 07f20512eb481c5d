"""ENVELOPE and BODYSTRUCTURE of every message of the corpus, ours beside dovecot's.

Each difference must be of a kind that is known and meant:
- white space: dovecot makes each fold one space, here only the line's end goes (RFC 5322 §2.2.3);
- a text part without charset: dovecot supplies us-ascii;
- an address that is none (junk mail's `undisclosed recipients`, `a@b@c`, words without commas): any
  answer is a guess; dovecot writes SYNTAX_ERROR or drops it, here what stands there is kept;
- an encoding without MIME-Version: dovecot says 7bit, here the encoding counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import Dovecot
from postroad.lab.process import free_offset
from postroad.message.summary import summarize
from slow.test_corpus import corpus
from support.programs import needs
from support.raw_imap import RawClient, Value, values

pytestmark = [
    pytest.mark.slow,
    needs("dovecot", "dovecot-imapd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dovecot's master needs root"),
    pytest.mark.timeout(300),
]

BATCH = 100
MIME_VERSION = re.compile(rb"(?im)^mime-version[ \t]*:")
TWO_SIGNS = re.compile(rb"@[\w.-]+@")


@pytest.fixture(scope="module")
def client() -> Iterator[RawClient]:
    """dovecot's own user must be able to enter the directory: pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix="postroad-dovecot-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            + ["-nodes", "-keyout", str(directory / "key.pem"), "-subj", "/CN=x"]
            + ["-out", str(directory / "cert.pem"), "-days", "3"],
            check=True,
            capture_output=True,
        )
        offset = free_offset("127.0.0.1")
        dovecot = Dovecot(
            directory / "d", imap=offset + 143, imaps=offset + 993, pop3=offset + 110,
            certificate=directory / "cert.pem", key=directory / "key.pem",
        )  # fmt: skip
        dovecot.start()
        try:
            with RawClient(dovecot.imap, timeout_s=120) as made:
                made.ok(b"LOGIN ann bench")
                made.ok(b"CREATE Corpus")
                yield made
        finally:
            dovecot.stop()


def same(value: Value) -> Value:
    """Without the first two kinds of difference, and in lower case."""
    if isinstance(value, list):
        if len(value) > 6 and isinstance(value[0], bytes) and value[0].lower() == b"text":
            given = value[2] if isinstance(value[2], list) else []
            names = [name.lower() for name in given[::2] if isinstance(name, bytes)]
            if b"charset" not in names:
                given = [*given, b"charset", b"us-ascii"]
            value = [*value[:2], given, *value[3:]]
        return [same(item) for item in value]
    if value in (None, b"MISSING_DOMAIN", b"MISSING_MAILBOX"):
        return b""
    return re.sub(rb"\s+", b" ", value).strip().lower()


def differences(ours: Value, theirs: Value) -> Iterator[tuple[Value, Value]]:
    """The smallest lists that differ."""
    if ours == theirs:
        return
    inside = [ours, theirs]
    if all(isinstance(one, list) and any(isinstance(i, list) for i in one) for one in inside):
        assert isinstance(ours, list) and isinstance(theirs, list)
        if len(ours) == len(theirs):
            for one, other in zip(ours, theirs, strict=True):
                yield from differences(one, other)
            return
    yield ours, theirs


def is_guess(theirs: Value) -> bool:
    """dovecot could not read the address either."""
    if not isinstance(theirs, list):
        return False
    if any(isinstance(item, list) and is_guess(item) for item in theirs):
        return True
    return b"syntax_error" in theirs or b"" in theirs[2:4]


def is_special_name(ours: Value, theirs: Value) -> bool:
    """A display name with `@` or brackets outside quotes: kept here, dropped there."""
    if not isinstance(ours, list) or not isinstance(theirs, list) or ours[1:] != theirs[1:]:
        return False
    return isinstance(ours[0], bytes) and not theirs[0] and bool(re.search(rb"[@\[\]]", ours[0]))


def test_every_difference_is_of_a_kind_that_is_meant(client: RawClient) -> None:
    mails = [
        (name, re.sub(rb"\r?\n|\r", b"\r\n", octets).replace(b"\0", b""))
        for name, octets in corpus()
    ]
    for at in range(0, len(mails), BATCH):
        batch = [octets for _, octets in mails[at : at + BATCH]]
        client.ok(b"APPEND Corpus" + b"".join(b" {%d+}\r\n%b" % (len(o), o) for o in batch))
    client.ok(b"SELECT Corpus")
    told = {}
    for line in client.ok(b"FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE)")[:-1]:
        if found := re.match(rb"\* (\d+) FETCH ", line):
            [items] = values(line[found.end() :])
            assert isinstance(items, list)
            told[int(found[1])] = dict(zip(items[::2], items[1::2], strict=True))  # type: ignore[type-var]  # names
    unexplained = []
    for number, (name, octets) in enumerate(mails, 1):
        ours = summarize(octets)
        assert str(ours.size).encode() == told[number][b"RFC822.SIZE"], name
        for one, other in differences(
            same(values(ours.envelope)[0]), same(told[number][b"ENVELOPE"])
        ):
            guess = is_guess(other) or b"" in (one, other) or TWO_SIGNS.search(octets)
            if not guess and not is_special_name(one, other):
                unexplained.append((name, one, other))
        structure = same(values(ours.bodystructure)[0]), same(told[number][b"BODYSTRUCTURE"])
        if structure[0] != structure[1] and MIME_VERSION.search(octets):
            unexplained.append((name, *structure))
    assert not unexplained, unexplained[:5]
