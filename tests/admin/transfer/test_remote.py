"""Importing from an IMAP account elsewhere: Postroad itself, on a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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


def test_mail_goes_to_an_account_elsewhere_once(server: PostroadServer, tmp_path: Path) -> None:
    from support.servers import make_home

    home = make_home(tmp_path / "mail")
    root = tmp_path / "Maildir" / "cur"
    root.mkdir(parents=True)
    for number in range(1000, 1060):
        (root / f"{number}.x:2,{'S' if number % 2 else 'F'}").write_bytes(mail(number))
    (root / "2000.x:2,").write_bytes(mail(2000, b"y" * 300_000 + b"\n"))
    work = tmp_path / "Maildir" / ".Arch&AOk-.Old" / "cur"
    work.mkdir(parents=True)
    (work / "1.x:2,S").write_bytes(mail(3000))
    (work / "2.x:2,S").write_bytes(mail(3000))
    home.call("import", ANN, tmp_path / "Maildir")
    url = f"imap://127.0.0.1:{server.offset + 143}"
    to = [url, "--user", "carl@one.example", "--insecure", "--password-stdin"]
    server.add_account("carl@one.example", PASSWORD)
    said = PASSWORD + "\n"
    assert home.parsed("export", ANN, *to, "--dry-run", stdin=said)["added"] == 63
    report = home.parsed("export", ANN, *to, stdin=said)
    assert report["added"] == report["verified"] == 63, report
    theirs = Home(server.directory)
    assert theirs.mailboxes("carl@one.example") == home.mailboxes(ANN)
    assert home.parsed("export", ANN, *to, stdin=said)["added"] == 0
    # Killed before it was noted: what is over there is found by its octets.
    import apsw

    connection = apsw.Connection(str(home.data / "postroad.db"))
    connection.execute("DELETE FROM transfer WHERE length(digest) = 0")
    connection.execute("DELETE FROM transfer_folder")
    connection.close()
    assert home.parsed("export", ANN, *to, stdin=said)["added"] == 0
    assert theirs.mailboxes("carl@one.example") == home.mailboxes(ANN)
    # Flags that change here change there.
    (root / "1001.x:2,S").rename(root / "1001.x:2,RS")
    home.call("import", ANN, tmp_path / "Maildir")
    again = home.parsed("export", ANN, *to, stdin=said)
    assert sum(item["changed"] for item in again["folders"]) == 1
    assert theirs.mailboxes("carl@one.example") == home.mailboxes(ANN)


def test_a_wrong_password_and_a_server_that_is_not_there(
    server: PostroadServer, tmp_path: Path
) -> None:
    home = Home(server.directory)
    url = f"imap://127.0.0.1:{server.offset + 143}"
    result = home.call("import", BOB, url, "--user", ANN, "--insecure", "--password-stdin",
                       stdin="wrong\n", expect=5)  # fmt: skip
    assert "refuses the login" in result.stderr
    assert "certificate" in home.call(
        "import", BOB, f"imaps://127.0.0.1:{server.offset + 993}", "--user", ANN,
        "--password-stdin", stdin=PASSWORD + "\n", expect=5,
    ).stderr  # fmt: skip
    cert = server.directory / "tls" / "cert.pem"
    report = home.parsed(
        "import", BOB, f"imaps://127.0.0.1:{server.offset + 993}", "--user", ANN,
        "--password-stdin", "--ca", cert, "--dry-run", stdin=PASSWORD + "\n",
    )  # fmt: skip
    assert sum(item["found"] for item in report["folders"]) >= 122
    report = home.parsed(
        "import", BOB, url, "--user", ANN, "--password-stdin", "--ca", cert, "--dry-run",
        stdin=PASSWORD + "\n",
    )  # fmt: skip
    assert report["dry_run"]
    home.call("import", BOB, "imaps://ann:secret@127.0.0.1", expect=2)
    home.call("import", BOB, "http://127.0.0.1", expect=2)
