"""The servers that are compared: Postroad, and Dovecot with maildir and with mdbox, fsync on."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from bench import peers, processes
from bench.imap import mail
from bench.imap.client import Client
from bench.sections import PASSWORD, Ground
from postroad.lab.process import PostroadServer

BATCH = 200
INDEX_WAITING_MAX = 200
"""Fewer wait for the next block to be full; searches read them."""


class PostroadSide:
    name = "postroad"

    def __init__(self, ground: Ground) -> None:
        self.server: PostroadServer = ground.postroad(users=210)
        self.server.start()

    @property
    def imap(self) -> int:
        return self.server.port("imap")

    @property
    def imaps(self) -> int:
        return self.server.port("imaps")

    @property
    def pop3(self) -> int:
        return self.server.port("pop3")

    @property
    def deliver(self) -> tuple[str, int]:
        return ("127.0.0.1", self.server.port("smtp"))

    def pids(self) -> list[int]:
        assert self.server.process is not None
        return processes.tree(self.server.process.pid)

    def settle(self) -> None:
        """Waits until the search index has what was filled in, as it has in a running server."""
        end = time.monotonic() + 900
        while any(
            account["waiting"] > INDEX_WAITING_MAX
            for account in json.loads(self.server.run("index", "status", "--json"))
        ):
            if time.monotonic() > end:
                raise TimeoutError("the search index is not built")
            time.sleep(1)

    def make_cold(self) -> None:
        """The next client is the first since the server's start."""
        self.server.stop()
        self.server.start()

    def stop(self) -> None:
        self.server.stop()
        shutil.rmtree(self.server.directory.parent, ignore_errors=True)


class DovecotSide:
    def __init__(self, ground: Ground, layout: str) -> None:
        self.name = f"dovecot {layout}"
        self.dovecot = ground.dovecot()
        config = self.dovecot.config.read_text()
        if layout == "mdbox":
            config = re.sub(r"mail_location = .*", f"mail_location = mdbox:{self.mail}/%n", config)
        self.dovecot.config.write_text(config)
        self.dovecot.start()

    @property
    def mail(self) -> Path:
        return self.dovecot.mail

    @property
    def imap(self) -> int:
        return self.dovecot.imap

    @property
    def imaps(self) -> int:
        return self.dovecot.imaps

    @property
    def pop3(self) -> int:
        return self.dovecot.pop3

    @property
    def deliver(self) -> Path:
        return self.dovecot.lmtp

    def pids(self) -> list[int]:
        return processes.tree(self.dovecot.pid)

    def settle(self) -> None:
        """Dovecot of Debian searches without an index of its own."""

    def make_cold(self) -> None:
        """Without the cache of what clients asked before; the index of UIDs and flags stays."""
        self.dovecot.stop()
        for cache in self.mail.rglob("dovecot.index.cache*"):
            cache.unlink()
        self.dovecot.start()

    def stop(self) -> None:
        self.dovecot.stop()
        shutil.rmtree(self.dovecot.directory.parent, ignore_errors=True)


Side = PostroadSide | DovecotSide


def sides(ground: Ground, chosen: list[str]) -> Iterator[Side]:
    """One after the other: each is stopped and removed before the next one starts."""
    for name in chosen:
        if name == "postroad":
            side: Side = PostroadSide(ground)
        elif not peers.installed():
            continue
        else:
            side = DovecotSide(ground, name.removeprefix("dovecot-"))
        try:
            yield side
        finally:
            side.stop()


def fill(side: Side, count: int, mailbox: bytes = b"INBOX") -> None:
    """The same messages on each side, appended by the hundred; every third is \\Seen."""
    client = Client(side.imap, password=PASSWORD)
    numbered = iter(mail.messages(count))
    while batch := list(itertools.islice(numbered, BATCH)):
        client.multiappend(mailbox, batch)
    client.run(b"SELECT " + mailbox)
    seen = b",".join(b"%d" % n for n in range(1, min(count, 5000) + 1, 3))
    client.run(b"STORE %b +FLAGS.SILENT (\\Seen)" % seen)
    client.run(b"CLOSE")
    client.close()
    side.settle()
