"""Moving mail from and to Debian's dovecot: over IMAP, and by the Maildirs that it and we write."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import Dovecot
from postroad.lab.process import PostroadServer, free_offset
from support.programs import needs
from support.raw_imap import RawClient
from support.servers import Home, Kept, crlf, mail

pytestmark = [
    pytest.mark.interop,
    needs("dovecot", "dovecot-imapd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dovecot's master needs root"),
    pytest.mark.timeout(120),
]
WORD = "bench"


@pytest.fixture
def dovecot(server: PostroadServer) -> Iterator[Dovecot]:
    with tempfile.TemporaryDirectory(prefix="moving") as name:
        Path(name).chmod(0o755)
        offset = free_offset("127.0.0.1")
        tls = server.directory / "tls"
        made = Dovecot(Path(name) / "dovecot", imap=offset + 143, imaps=offset + 993,
                       pop3=offset + 110, certificate=tls / "cert.pem",
                       key=tls / "key.pem")  # fmt: skip
        with made.config.open("a") as config:
            config.write(
                "namespace inbox {\n  inbox = yes\n  separator = .\n"
                "  mailbox Sent {\n    special_use = \\Sent\n    auto = create\n  }\n}\n"
            )
        made.start()
        try:
            yield made
        finally:
            made.stop()


def fill(port: int, user: bytes) -> None:
    with RawClient(port) as client:
        client.ok(b"LOGIN %b %b" % (user, WORD.encode()))
        client.ok(b"CREATE Work.2026")
        client.ok(b"CREATE Entw&APw-rfe")
        client.ok(b"SUBSCRIBE Work.2026")
        boxes = (b"INBOX", b"Sent", b"Work.2026", b"Entw&APw-rfe")
        for number in range(40):
            body = b"x\n" * (100_000 if number == 7 else number)
            octets = crlf(mail(number, body))
            flags = (b"()", b"(\\Seen)", b"(\\Answered $Label1 work)", b"(\\Flagged \\Draft)")
            client.ok(
                b'APPEND %b %b "%02d-Jan-2020 10:00:00 +0200" {%d+}\r\n'
                % (boxes[number % 4], flags[number % 3], number % 28 + 1, len(octets)) + octets
            )  # fmt: skip


def said(server: PostroadServer, *arguments: str | Path) -> dict[str, list[dict[str, int]]]:
    words = [str(item) for item in arguments]
    out = server.run(*words, "--json", "-c", str(server.config), stdin=f"{WORD}\n")
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def plain(found: dict[str, list[Kept]]) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: sorted((item.flags, item.keywords, item.date, item.octets) for item in kept)
        for name, kept in found.items()
    }


def test_from_dovecot_and_back(server: PostroadServer, dovecot: Dovecot, tmp_path: Path) -> None:
    home = Home(server.directory)
    for name in ("one", "two", "three", "four"):
        server.add_account(f"{name}@x.example", WORD)
    fill(dovecot.imap, b"ann")
    ca = ["--ca", server.directory / "tls" / "cert.pem", "--password-stdin"]
    url = f"imaps://ann@127.0.0.1:{dovecot.imaps}"
    report = said(server, "import", "one@x.example", url, *ca)
    assert report["added"] == report["verified"] == 40, report
    first = plain(home.mailboxes("one@x.example"))
    assert set(first) == {"INBOX", "Sent", "Work/2026", "Entwürfe"}
    assert said(server, "import", "one@x.example", url, *ca)["added"] == 0
    with RawClient(dovecot.imap) as client:
        client.ok(b"LOGIN ann bench")
        client.ok(b"SELECT INBOX")
        client.ok(b"STORE 2 +FLAGS (\\Flagged)")
    again = said(server, "import", "one@x.example", url, *ca)
    assert sum(item["changed"] for item in again["folders"]) == 1
    first = plain(home.mailboxes("one@x.example"))
    # Its Maildir, as it lies.
    assert said(server, "import", "two@x.example", dovecot.mail / "ann")["added"] == 40
    assert plain(home.mailboxes("two@x.example")) == first
    # Out again, to another user there, over STARTTLS.
    to = f"imap://bob@127.0.0.1:{dovecot.imap}"
    report = said(server, "export", "one@x.example", to, *ca)
    assert report["added"] == report["verified"] == 40, report
    assert said(server, "export", "one@x.example", to, *ca)["added"] == 0
    back = said(server, "import", "three@x.example", to, *ca)
    assert back["added"] == 40
    assert plain(home.mailboxes("three@x.example")) == first


def test_dovecot_reads_what_is_exported(
    server: PostroadServer, dovecot: Dovecot, tmp_path: Path
) -> None:
    home = Home(server.directory)
    for name in ("five", "six"):
        server.add_account(f"{name}@x.example", WORD)
    fill(dovecot.imap, b"ann")
    said(server, "import", "five@x.example", dovecot.mail / "ann")
    owner = (dovecot.mail / "ann").stat()
    said(server, "export", "five@x.example", dovecot.mail / "carl")
    for path in (dovecot.mail / "carl", *(dovecot.mail / "carl").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    ca = ["--ca", server.directory / "tls" / "cert.pem", "--password-stdin"]
    url = f"imaps://carl@127.0.0.1:{dovecot.imaps}"
    assert said(server, "import", "six@x.example", url, *ca)["added"] == 40
    assert plain(home.mailboxes("six@x.example")) == plain(home.mailboxes("five@x.example"))
    shutil.rmtree(dovecot.mail / "carl")
