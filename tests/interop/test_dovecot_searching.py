"""SORT and THREAD of random mail by Debian's dovecot and by Postroad: they must agree.

Left out: messages with equal Message-IDs, references that would close a loop, and the order of REFS
threads, which dovecot takes from the Date: fields and draft-ietf-morg-inthread-01 from arrival.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import Dovecot
from postroad.lab.process import free_offset
from support.programs import needs
from support.raw_imap import RawClient
from support.world import world

PASSWORD = "bench"

pytestmark = [
    pytest.mark.interop,
    needs("dovecot", "dovecot-imapd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dovecot's master needs root"),
    pytest.mark.timeout(120),
]

SUBJECTS = [
    "alpha", "Re: alpha", "RE: [list] alpha", "Fwd: alpha (fwd)", "[fwd: beta]", "beta", "Beta",
    "[x] [y] gamma", "Re[2]: gamma", "", "re:", "=?utf-8?q?=C3=84pfel?=",
    "Re: =?utf-8?q?=C3=A4pfel?=", "[only]", "Re: [only]", "zeta  two", "zeta two",
]  # fmt: skip
AUTHORS = [
    "ann@x.example",
    "Bob <bob@y.example>",
    '"Carl, C." <ANN@z.example>',
    "dora@x.example",
    "",
]
COUNT = 80


def mails(chance: random.Random) -> list[bytes]:
    out = []
    for number in range(COUNT):
        head = []
        subject = chance.choice(SUBJECTS)
        if subject or chance.random() < 0.5:
            head.append(f"Subject: {subject}")
        author = chance.choice(AUTHORS)
        if author:
            head.append(f"From: {author}")
        head.append(f"To: {chance.choice(AUTHORS[:4])}")
        if chance.random() < 0.9:
            zone = chance.choice(["+0000", "-0800", "+0530"])
            head.append(
                f"Date: {chance.randint(1, 28)} Sep 2026 {chance.randint(0, 23):02}:00:00 {zone}"
            )
        if chance.random() < 0.9:
            head.append(f"Message-ID: <{number}@x>")
        earlier = chance.sample(range(number), min(number, chance.choice([0, 0, 1, 2, 3])))
        if earlier:
            ids = " ".join(f"<{other}@x>" for other in sorted(earlier))
            gone = f"<gone{chance.randint(0, 5)}@x> " if chance.random() < 0.2 else ""
            kind = chance.choice(["References", "References", "In-Reply-To"])
            head.append(f"{kind}: {gone}{ids}" if kind == "References" else f"{kind}: {ids}")
        out.append(("\r\n".join(head) + "\r\n\r\n" + "x" * chance.randint(1, 50)).encode())
    return out


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[RawClient, RawClient]]:
    """dovecot's own user must be able to enter the directory: pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix="postroad-dovecot-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with world(directory / "ours") as made:
            server = made.server("x.example", address="127.0.0.1", plaintext_on_loopback=True)
            server.add_account("ann@x.example", PASSWORD)
            server.start()
            offset = free_offset("127.0.0.1")
            tls = server.directory / "tls"
            dovecot = Dovecot(
                directory / "dovecot", imap=offset + 143, imaps=offset + 993, pop3=offset + 110,
                certificate=tls / "cert.pem", key=tls / "key.pem",
            )  # fmt: skip
            with dovecot.config.open("a") as config:
                config.write(f"mail_location = sdbox:{dovecot.mail}/%n\n")
            dovecot.start()
            try:
                ours, theirs = RawClient(server.port("imap")), RawClient(dovecot.imap)
                ours.ok(b"LOGIN ann@x.example bench")
                theirs.ok(b"LOGIN ann bench")
                yield ours, theirs
                ours.close()
                theirs.close()
            finally:
                dovecot.stop()


COMMANDS = [
    *(
        b"SORT (%b) UTF-8 ALL" % by
        for by in (
            b"SUBJECT", b"REVERSE SUBJECT", b"SUBJECT DATE", b"DATE", b"REVERSE DATE", b"FROM",
            b"TO SUBJECT", b"REVERSE FROM REVERSE DATE", b"ARRIVAL", b"SIZE",
            b"REVERSE SIZE SUBJECT", b"DISPLAYFROM", b"REVERSE DISPLAYTO DATE",
        )
    ),
    b"THREAD REFERENCES UTF-8 ALL",
    b"THREAD REFERENCES UTF-8 10:60",
    b"UID THREAD REFERENCES UTF-8 SUBJECT alpha",
    b"THREAD ORDEREDSUBJECT UTF-8 ALL",
    b"THREAD REFS UTF-8 ALL",
    b"UID SORT RETURN (COUNT MIN MAX) (SUBJECT) UTF-8 FROM ann",
]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_order_and_the_same_threads(both: tuple[RawClient, RawClient], seed: int) -> None:
    octets = mails(random.Random(seed))
    for client in both:
        client.ok(b"CREATE m%d" % seed)
        for number, text in enumerate(octets):
            before = b'"%02d-Oct-2026 %02d:00:00 +0000"' % (1 + number % 28, number % 24)
            assert client.append(b"m%d" % seed, text, before)[-1].startswith(b"OK")
        client.ok(b"SELECT m%d" % seed)
    for command in COMMANDS:
        ours, theirs = (told(client.ask(command)) for client in both)
        if b"THREAD REFS" in command:
            assert sorted(threads(ours)) == sorted(threads(theirs))
        else:
            assert ours == theirs, command


def told(answers: list[bytes]) -> bytes:
    """The one response that is the answer, without its tag."""
    assert answers[-1].startswith(b"OK"), answers
    [line] = [line for line in answers[:-1] if b"RECENT" not in line]
    return re.sub(rb'\(TAG "\w+"\)', b"", line)


def threads(line: bytes) -> list[bytes]:
    """Each thread of a response by itself."""
    out = []
    depth = start = 0
    for at, letter in enumerate(line):
        if letter == ord("("):
            depth += 1
            start = at if depth == 1 else start
        elif letter == ord(")"):
            depth -= 1
            if not depth:
                out.append(line[start : at + 1])
    return out
