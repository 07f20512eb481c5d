"""kill -9 of import and backup while the server serves: nothing twice, nothing half."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.raw_imap import RawClient
from support.servers import ANN, BOB, Home, crlf, mail
from support.world import world

pytestmark = [pytest.mark.crash, pytest.mark.timeout(170)]
MESSAGES = 1500


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostroadServer]:
    with world(tmp_path / "w") as made:
        running = made.server(
            "one.example", address="127.0.0.1", workers=1, plaintext_on_loopback=True
        )
        running.add_accounts([ANN, BOB], "secret")
        running.start()
        yield running


def killed_after(server: PostroadServer, seconds: float, *arguments: str) -> bool:
    """Whether it was still at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "postroad", *arguments, "-c", str(server.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    alive = process.poll() is None
    if alive:
        process.send_signal(signal.SIGKILL)
    process.wait(10)
    return alive


def maildir(path: Path) -> Path:
    (path / "cur").mkdir(parents=True)
    dice = random.Random(5)
    for number in range(MESSAGES):
        body = dice.randbytes(dice.choice((300, 3000))).hex().encode() + b"\n"
        (path / "cur" / f"{number:06d}.x:2,S").write_bytes(mail(number, body))
    return path


def test_an_import_that_is_killed_again_and_again(server: PostroadServer, tmp_path: Path) -> None:
    root = maildir(tmp_path / "Maildir")
    dice = random.Random(7)
    kills = sum(
        killed_after(server, dice.uniform(0.4, 0.9), "import", ANN, str(root)) for _ in range(8)
    )
    assert kills, "none was killed at work"
    report = json.loads(server.run("import", ANN, str(root), "--json", "-c", str(server.config)))
    assert not report["failed"]
    found = Home(server.directory).octets()
    expected = [crlf((root / "cur" / f"{n:06d}.x:2,S").read_bytes()) for n in range(MESSAGES)]
    assert sorted(found) == sorted(expected)
    again = json.loads(server.run("import", ANN, str(root), "--json", "-c", str(server.config)))
    assert again["added"] == 0
    server.run("verify", "-c", str(server.config))


def test_backups_under_load_and_killed(server: PostroadServer, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    client = RawClient(server.offset + 143)
    client.ok(b"LOGIN %b secret" % ANN.encode())
    server.run("import", ANN, str(maildir(tmp_path / "Maildir")), "-c", str(server.config))
    load = _Load(server, tmp_path / "load.py")
    dice = random.Random(11)
    try:
        for _ in range(6):
            killed_after(server, dice.uniform(0.3, 1.0), "backup", "take", str(repository))
        taken = json.loads(
            server.run("backup", "take", str(repository), "--json", "-c", str(server.config))
        )
    finally:
        load.stop()
    client.ok(b"SELECT INBOX")
    client.ok(b"STORE 1:700 +FLAGS.SILENT (\\Deleted)")
    client.ok(b"EXPUNGE")
    second = json.loads(
        server.run("backup", "take", str(repository), "--json", "-c", str(server.config))
    )
    before = {address: Home(server.directory).mailboxes(address) for address in (ANN, BOB)}
    said = json.loads(server.run("backup", "verify", str(repository), "--all", "--json"))
    assert not any(said.values()), said
    for backup, name in ((taken, "first"), (second, "second")):
        server.run("restore", str(repository), "--to", str(tmp_path / name), "--backup",
                   str(backup["name"]))  # fmt: skip
        restored = Home(tmp_path / name)
        assert restored.parsed("verify")["findings"] == []
        messages = sum(len(kept) for a in (ANN, BOB) for kept in restored.mailboxes(a).values())
        assert messages == backup["messages"]
    after = {address: Home(tmp_path / "second").mailboxes(address) for address in (ANN, BOB)}
    assert after == before
    server.kill()
    assert Home(server.directory).parsed("verify")["findings"] == []


class _Load:
    """Appends and expunges without a rest, in a process of its own."""

    def __init__(self, server: PostroadServer, script: Path) -> None:
        script.write_text(
            "import imaplib, itertools\n"
            f"box = imaplib.IMAP4('127.0.0.1', {server.offset + 143})\n"
            f"box.login({BOB!r}, 'secret')\n"
            "box.select('INBOX')\n"
            "for number in itertools.count():\n"
            "    size = 400_000 if number % 20 == 0 else 2000\n"
            "    text = b'Subject: %d\\r\\n\\r\\n' % number + b'x' * size\n"
            "    box.append('INBOX', None, None, text)\n"
            "    if number % 50 == 49:\n"
            "        box.store('1:10', '+FLAGS', '\\\\Deleted')\n"
            "        box.expunge()\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stderr=subprocess.PIPE, env={**os.environ}
        )
        time.sleep(0.5)
        assert self._process.poll() is None

    def stop(self) -> None:
        assert self._process.poll() is None, self._process.stderr
        self._process.kill()
        self._process.wait(10)
        assert self._process.stderr is not None
        self._process.stderr.close()
