"""Real mail: in by SMTP, out by IMAP and POP3, byte for byte; what SMTP may not carry is refused.

Source of the corpus: $POSTROAD_SHARED/corpus (see its README); without it the small set in
tests/slow/mails stands in.
"""

from __future__ import annotations

import imaplib
import os
import poplib
import re
import smtplib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.world import world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
USER, PASSWORD = "corpus@x.example", "corpus secret"


def corpus() -> list[tuple[str, bytes]]:
    shared = os.environ.get("POSTROAD_SHARED")
    archive = Path(shared or "/nonexistent") / "corpus" / "spamassassin.tar.xz"
    if archive.exists():
        with tarfile.open(archive) as tar:
            mails = []
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and member.name.endswith(".eml"):
                    mails.append((member.name, file.read()))
            return mails
    own = Path(__file__).parent / "mails"
    return [(file.name, file.read_bytes()) for file in sorted(own.glob("*.eml"))]


def faults(octets: bytes) -> set[bytes]:
    """Statuses that may refuse these octets (the rules in docs/smtp-rules.md); empty: carried."""
    found = set()
    if BARE.search(octets):
        found.add(b"5.6.11")
    if b"\0" in octets or any(len(line) > 998 for line in octets.split(b"\r\n")):
        found.add(b"5.6.0")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostroadServer]:
    with world(tmp_path_factory.mktemp("corpus")) as made:
        running = made.server("x.example", address="127.0.0.1", plaintext_on_loopback=True)
        running.add_account(USER, PASSWORD)
        running.start()
        yield running
        assert running.stop() == 0, running.log_end()


class RawSMTP(smtplib.SMTP):
    """smtplib mends line ends; these octets go out as they are, dots stuffed."""

    def send_octets(self, octets: bytes) -> tuple[int, bytes]:
        self.docmd("MAIL", "FROM:<out@elsewhere.example> BODY=8BITMIME")
        code, text = self.docmd("RCPT", f"TO:<{USER}>")
        assert code == 250, text
        code, text = self.docmd("DATA")
        assert code == 354, text
        stuffed = re.sub(rb"(?m)(?:\A|(?<=\r\n))\.", b"..", octets)
        if not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        self.send(stuffed + b".\r\n")
        return self.getreply()


def test_in_by_smtp_out_by_imap_and_pop3(server: PostroadServer) -> None:
    mails = corpus()
    assert len(mails) in {3006, 12}
    kept: list[bytes] = []
    refused: list[str] = []
    with RawSMTP("127.0.0.1", server.port("smtp"), timeout=60) as client:
        client.ehlo("corpus.example")
        for name, octets in mails:
            code, text = client.send_octets(octets)
            expected = faults(octets)
            if not expected:
                assert code == 250, (name, code, text)
                kept.append(octets if octets.endswith(b"\r\n") else octets + b"\r\n")
            else:
                assert code == 550 and text.split()[0] in expected, (name, code, text)
                refused.append(name)
    assert len(kept) + len(refused) == len(mails)
    assert refused, "the corpus holds messages that must be refused"

    with imaplib.IMAP4("127.0.0.1", server.port("imap"), timeout=60) as imap:
        imap.login(USER, PASSWORD)
        typ, data = imap.select("INBOX", readonly=True)
        assert typ == "OK" and data[0] is not None and int(data[0]) == len(kept)
        by_imap: list[bytes] = []
        for low in range(1, len(kept) + 1, 100):
            high = min(low + 99, len(kept))
            _, answers = imap.fetch(f"{low}:{high}", "(RFC822.SIZE BODY.PEEK[])")
            for answer in answers:
                if isinstance(answer, tuple):
                    size = re.search(rb"RFC822.SIZE (\d+)", answer[0])
                    assert size is not None and int(size[1]) == len(answer[1])
                    by_imap.append(answer[1])
    assert len(by_imap) == len(kept)
    for sent, got in zip(kept, by_imap, strict=True):
        assert got.endswith(sent)
        assert got[: len(got) - len(sent)].startswith(b"Return-Path: <out@elsewhere.example>\r\n")

    pop = poplib.POP3("127.0.0.1", server.port("pop3"), timeout=60)
    pop._maxline = 1 << 20  # type: ignore[attr-defined]
    pop.user(USER)
    pop.pass_(PASSWORD)
    assert pop.stat() == (len(kept), sum(map(len, by_imap)))
    for number, octets in enumerate(by_imap, 1):
        _, lines, _ = pop.retr(number)
        assert b"".join(line + b"\r\n" for line in lines) == octets
    pop.quit()
    server.run("verify")
