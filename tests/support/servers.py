"""A server's home made by `postroad init`, without a server running, and what it holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from postroad.app.cli import program
from postroad.database.reading import Reader
from postroad.mail.uidset import UIDSet
from postroad.store.blobs import BlobStore
from postroad.store.keys import Keys, read_master_key
from postroad.store.mailboxes import MailStore
from postroad.store.values import MessageRow, Want

ANN = "ann@one.example"
BOB = "bob@one.example"
ALL = UIDSet(((1, 0xFFFFFFFF),))


@dataclass(frozen=True, slots=True)
class Kept:
    """One message as a mailbox has it."""

    uid: int
    flags: int
    keywords: tuple[bytes, ...]
    date: int
    octets: bytes


class Home:
    """One server's directory. Commands are called in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        return self.path / "postroad.toml"

    @property
    def data(self) -> Path:
        return self.path / "data"

    def call(self, *arguments: str | Path, expect: int = 0, stdin: str = "") -> Result:
        said = [str(argument) for argument in arguments] + ["-c", str(self.config)]
        result = CliRunner().invoke(program, said, input=stdin)
        assert result.exit_code == expect, (
            f"{said}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
        )
        return result

    def parsed(self, *arguments: str | Path, expect: int = 0, stdin: str = "") -> Any:
        return json.loads(self.call(*arguments, "--json", expect=expect, stdin=stdin).stdout)

    def mailboxes(self, address: str = ANN) -> dict[str, list[Kept]]:
        """Every mailbox that holds something."""
        reader = Reader(self.data)
        blobs = BlobStore(self.data, keys=self._keys(reader))
        store = MailStore(_Reads(reader), blobs, blobs.keys)  # type: ignore[arg-type]  # reads only
        try:
            row = reader.first("SELECT account FROM account WHERE address = ?", (address,))
            assert row is not None
            found = {}
            for mailbox in store.mailboxes(row[0]):
                rows = store.messages(row[0], mailbox.mailbox, ALL, Want.OCTETS)
                kept = [_kept(store, item) for batch in rows for item in batch]
                if kept:
                    found[mailbox.name] = kept
            return found
        finally:
            blobs.close()
            reader.close()

    def _keys(self, reader: Reader) -> Keys | None:
        master = self.path.parent / "master.key"
        return Keys(read_master_key(master.read_bytes()), reader) if master.exists() else None

    def octets(self, mailbox: str = "INBOX", address: str = ANN) -> list[bytes]:
        return [item.octets for item in self.mailboxes(address).get(mailbox, [])]


class _Reads:
    """A reader as a database of which nothing is written."""

    def __init__(self, reader: Reader) -> None:
        self.execute = reader.execute
        self.first = reader.first
        self.snapshot = reader.snapshot


def _kept(store: MailStore, row: MessageRow) -> Kept:
    return Kept(row.uid, int(row.flags), row.keywords, row.internal_date, store.octets(row))


def make_home(path: Path, *, master_key: bool = False) -> Home:
    """one.example with ann and bob."""
    more = ["--master-key", str(path.parent / "master.key")] if master_key else []
    result = CliRunner().invoke(
        program,
        ["init", str(path), "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0", *more],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    home = Home(path)
    home.call("account", "add", ANN, BOB, "--password-stdin", stdin="secret words\n")
    return home


def mail(number: int, body: bytes = b"hello\n") -> bytes:
    """With LF, as files have it."""
    return (
        b"From: a@x.example\nTo: ann@one.example\nSubject: no. %d\n"
        b"Date: Mon, 23 Nov 2026 10:00:00 +0000\nMessage-ID: <%d@x.example>\n\n" % (number, number)
    ) + body


def crlf(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


Work = Callable[[], Any]
run = asyncio.run
