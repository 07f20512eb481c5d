"""A server with an encrypted account, from outside: clients see no difference, the disk shows none
of its mail, and the wrong key stops the start before anything is lost."""

from __future__ import annotations

import imaplib
import smtplib
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer, ServerFailed, free_offset
from support.mail import plain

PASSWORD = "serve secret"
ANN = "ann@x.example"
NEEDLE = b"nobody-shall-read-this"


def message(token: str) -> bytes:
    return plain(token).replace(b"elsewhere", b"x").replace(b"\r\n\r\n", b"\r\nX-Needle: "
        + NEEDLE + b"\r\n\r\n" + NEEDLE + b"\r\n", 1)  # fmt: skip


def send(server: PostroadServer, token: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port("submission"), timeout=20) as client:
        client.login(ANN, PASSWORD)
        client.sendmail(ANN, [ANN], message(token))


def login(server: PostroadServer) -> imaplib.IMAP4:
    imap = imaplib.IMAP4("127.0.0.1", server.port("imap"), timeout=20)
    imap.login(ANN, PASSWORD)
    imap.select("INBOX")
    return imap


def read(server: PostroadServer) -> list[bytes]:
    """Headers of all messages; every way to read one agrees, and SEARCH finds them."""
    with login(server) as imap:
        _, (found,) = imap.search(None, "TEXT", NEEDLE.decode())
        numbers = found.split()
        texts = []
        for number in numbers:
            _, data = imap.fetch(number, "(ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
            envelope, octets = data[0]
            assert NEEDLE in octets and b'"<' in envelope and octets.count(NEEDLE) >= 2
            _, data = imap.fetch(number, "(BODY.PEEK[HEADER.FIELDS (X-Needle)])")
            assert NEEDLE in data[0][1]
            _, data = imap.fetch(number, "(BODY.PEEK[TEXT]<0.40>)")
            assert octets[octets.index(b"\r\n\r\n") + 4 :][:40] == data[0][1]
            texts.append(octets)
        return texts


def in_the_clear(server: PostroadServer) -> list[str]:
    data = server.directory / "data"
    return [
        str(path.relative_to(data))
        for path in data.rglob("*")
        if path.is_file() and NEEDLE in path.read_bytes()
    ]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [0, 1], ids=["one process", "store and worker"])
def test_clients_see_no_difference_and_the_disk_shows_nothing(tmp_path: Path, workers: int) -> None:
    server = PostroadServer(tmp_path / "mail", offset=free_offset("127.0.0.1"))
    server.init("x.example", nameservers=["127.0.0.1:9"], plaintext_on_loopback=True,
                workers=workers)  # fmt: skip
    key = tmp_path / "master.key"
    server.run("account", "encrypt", "key", str(key))
    server.add_account(ANN, PASSWORD)
    try:
        server.start()
        server.configure(
            [("storage", "master_key", f'"{key}"'), ("storage", "dictionary", "false")]
        )
        with pytest.raises(ServerFailed, match="start it anew"):
            server.run("account", "encrypt", "on", ANN)
        server.stop()
        server.start()
        server.run("account", "encrypt", "on", ANN)
        send(server, "one")
        with login(server) as imap:
            imap.append("INBOX", None, None, message("two"))
            imap.append("INBOX", None, None, message("three") + b"x" * 300_000 + b"\r\n")
        assert len(read(server)) == 3
        assert in_the_clear(server) == []
        server.run("verify")
        server.stop()
        right = key.read_bytes()
        key.write_bytes(b"ab" * 32)
        with pytest.raises(ServerFailed, match="is not the key"):
            server.start()
        key.write_bytes(right)
        server.start()
        assert len(read(server)) == 3
        server.run("account", "encrypt", "off", ANN)
        assert len(read(server)) == 3
        assert in_the_clear(server) != []
        server.run("verify")
    finally:
        server.stop()
