"""Importing from an IMAP account elsewhere: Postroad itself, on a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from postroad.lab.process import PostroadServer
from support.raw_imap import RawClient
from support.servers import ANN, BOB, Home, crlf, mail
from support.world import world

PASSWORD = "secret words"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostroadServer]:
    with world(tmp_path_factory.mktemp("remote")) as made:
        running = made.server("one.example", address="127.0.0.1", plaintext_on_loopback=True)
        running.add_accounts([ANN, BOB], PASSWORD)
        running.start()
        client = _client(running)
        for name in (b"Work/2026", b"Entw&APw-rfe"):
            client.ok(b"CREATE " + name)
        for number in range(1, 121):
            _append(
                client, b"INBOX", crlf(mail(number)), b"(\\Seen $Label1)" if number % 2 else b"()"
            )
        _append(client, b"Entw&APw-rfe", crlf(mail(200, b"x" * 70 + b"\n")) * 5000, b"(\\Flagged)")
        _append(client, b"Work/2026", crlf(mail(201)), b"()")
        client.ok(b"UNSUBSCRIBE Work/2026")
        client.ok(b"SUBSCRIBE Entw&APw-rfe")
        yield running


def _client(server: PostroadServer) -> RawClient:
    client = RawClient(server.offset + 143)
    client.ok(b'LOGIN ann@one.example "secret words"')
    return client


def _append(client: RawClient, mailbox: bytes, octets: bytes, flags: bytes) -> None:
    client.ok(
        b'APPEND %b %b "01-Jan-2020 10:00:00 +0200" {%d+}\r\n' % (mailbox, flags, len(octets))
        + octets
    )


def test_everything_comes_into_another_account_beside_the_server(server: PostroadServer) -> None:
    source = ["--insecure", "--password-stdin", "--json"]
    url = f"imap://{ANN}@127.0.0.1:{server.offset + 143}".replace("ann@one", "ann%40one")
    said = server.run("import", BOB, url, *source, "-c", str(server.config), stdin=PASSWORD + "\n")
    report = json.loads(said)
    assert report["added"] == report["verified"] == 122 and not report["failed"]
    home = Home(server.directory)
    assert home.mailboxes(BOB) == home.mailboxes(ANN)
    again = json.loads(
        server.run("import", BOB, url, *source, "-c", str(server.config), stdin=PASSWORD + "\n")
    )
    assert again["added"] == 0
    client = _client(server)
    client.ok(b"SELECT INBOX")
    client.ok(b"STORE 3 +FLAGS (\\Flagged)")
    _append(client, b"INBOX", crlf(mail(500)), b"()")
    third = json.loads(
        server.run("import", BOB, url, *source, "-c", str(server.config), stdin=PASSWORD + "\n")
    )
    assert third["added"] == 1 and sum(item["changed"] for item in third["folders"]) == 1
    assert home.mailboxes(BOB) == home.mailboxes(ANN)
