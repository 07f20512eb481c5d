"""kill -9 of server and workers at random moments under load: the promise of the 250.

Every message answered 250 is in the mailbox exactly once; UIDs rise; database and packs verify.
"""

from __future__ import annotations

import imaplib
import os
import random
import re
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.mail import plain
from support.world import world

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1500)]

SENDERS = 20
ROUNDS = int(os.environ.get("POSTROAD_CRASH_ROUNDS", "50"))
USERS = [f"user{number}@x.example" for number in range(5)]


class Sender(threading.Thread):
    """Sends until the server is gone; notes which tokens it began and which were answered 250."""

    def __init__(self, server: PostroadServer, number: int, seed: int, stop: threading.Event):
        super().__init__(daemon=True)
        self.port = server.port("smtp")
        self.number, self.stop = number, stop
        self.dice = random.Random(seed)
        self.acknowledged: list[tuple[str, str]] = []
        self.begun: set[str] = set()

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
                    file = peer.makefile("rb")
                    self.expect(file, b"220")
                    peer.sendall(b"EHLO crash.example\r\n")
                    self.expect(file, b"250")
                    while not self.stop.is_set():
                        count += 1
                        self.send(peer, file, f"{os.urandom(6).hex()}-{self.number}-{count}")
            except OSError:
                time.sleep(0.02)

    @staticmethod
    def expect(file: object, code: bytes) -> None:
        while True:
            line = file.readline()  # type: ignore[attr-defined]
            if not line.startswith(code):
                raise ConnectionError(repr(line))
            if line[3:4] == b" ":
                return

    def send(self, peer: socket.socket, file: object, token: str) -> None:
        user = self.dice.choice(USERS)
        size = self.dice.choice((500, 4000, 4000, 40_000, 400_000))
        self.begun.add(token)
        peer.sendall(
            b"MAIL FROM:<out@elsewhere.example>\r\nRCPT TO:<" + user.encode() + b">\r\nDATA\r\n"
        )
        for code in (b"250", b"250", b"354"):
            self.expect(file, code)
        peer.sendall(plain(token, size=size, to=user) + b".\r\n")
        self.expect(file, b"250")
        self.acknowledged.append((user, token))


def mailbox(server: PostroadServer, user: str) -> list[tuple[int, str]]:
    """(UID, token) of every message, in order."""
    with imaplib.IMAP4("127.0.0.1", server.port("imap"), timeout=60) as imap:
        imap.login(user, "crash secret")
        imap.select("INBOX", readonly=True)
        _, data = imap.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    found = []
    for item in data:
        if isinstance(item, tuple):
            uid = re.search(rb"UID (\d+)", item[0])
            token = re.search(rb"<([^@>]+)@", item[1])
            assert uid is not None and token is not None, item
            found.append((int(uid[1]), token[1].decode()))
    return found


@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "store and workers"])
def test_what_was_answered_250_is_there_once(tmp_path: Path, workers: int) -> None:
    dice = random.Random(20261102 + workers)
    acknowledged: list[tuple[str, str]] = []
    with world(tmp_path) as made:
        server = made.server(
            "x.example", address="127.0.0.1", workers=workers, plaintext_on_loopback=True
        )
        for user in USERS:
            server.add_account(user, "crash secret")
        begun = 0
        highest: dict[str, dict[str, int]] = {user: {} for user in USERS}
        for number in range(ROUNDS):
            server.start()
            stop = threading.Event()
            senders = [Sender(server, n, dice.getrandbits(32), stop) for n in range(SENDERS)]
            for sender in senders:
                sender.start()
            time.sleep(dice.uniform(0.05, 1.2))
            server.kill()
            stop.set()
            for sender in senders:
                sender.join(15)
                acknowledged += sender.acknowledged
                begun += len(sender.begun)
            if number % 5 == 4:
                server.start()
                check(server, acknowledged, highest)
                server.kill()
        server.start()
        check(server, acknowledged, highest)
        assert server.stop() == 0, server.log_end()
        server.run("verify")
    assert len(acknowledged) > ROUNDS, f"only {len(acknowledged)} of {begun} were acknowledged"


def check(
    server: PostroadServer,
    acknowledged: list[tuple[str, str]],
    known: dict[str, dict[str, int]],
) -> None:
    for user in USERS:
        rows = mailbox(server, user)
        uids = [uid for uid, _ in rows]
        assert uids == sorted(set(uids)), "UIDs rise and are never given twice"
        count = Counter(token for _, token in rows)
        assert not [token for token, times in count.items() if times > 1], "delivered twice"
        missing = [token for to, token in acknowledged if to == user and token not in count]
        assert not missing, f"{len(missing)} answered 250 and lost"
        for uid, token in rows:
            assert known[user].setdefault(token, uid) == uid, "a message changed its UID"
