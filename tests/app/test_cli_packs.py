"""The commands about packs and encrypted accounts, as an operator says them, without a server."""

from __future__ import annotations

import asyncio
import json
import os
import random
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroad.app.cli import program
from postroad.app.config import load
from postroad.app.master_key import check_keys, master_key
from postroad.database.local import LocalDatabase
from postroad.mail.errors import StateError, Unavailable
from postroad.store.blobs import BlobStore
from postroad.store.operations import Append
from support.state import INBOX, NOW, content_for

ANN = "ann@one.example"
COMMON = b"Received: from relay.example.org (relay.example.org [192.0.2.7])\r\nSubject: "


def call(*arguments: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(program, [str(a) for a in arguments])
    assert result.exit_code == expect, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def parsed(*arguments: str | Path) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server with a master key outside of its data, and an account."""
    home = tmp_path / "mail"
    call("init", home, "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0",
         "--master-key", tmp_path / "master.key")  # fmt: skip
    monkeypatch.setenv("POSTROAD_CONFIG", str(home / "postroad.toml"))
    call("account", "add", ANN, "--generate")
    yield home


def deliver(home: Path, texts: list[bytes]) -> None:
    async def run() -> None:
        database = LocalDatabase.open(home / "data")
        blobs = BlobStore.open(home / "data")
        row = database.first("SELECT account FROM account WHERE address = ?", (ANN,))
        assert row is not None
        for octets in texts:
            content = content_for(blobs.append(octets), b"", len(octets))
            await database.submit(
                Append(account=row[0], mailbox=INBOX, content=content, internal_date=NOW)
            )
        blobs.close()
        await database.close()

    asyncio.run(run())


def forget(home: Path, every: int) -> None:
    """Removes messages for good, as the sweep does with what was expunged long ago."""

    async def run() -> None:
        database = LocalDatabase.open(home / "data")
        connection = database._writer._connection
        connection.execute(f"DELETE FROM content WHERE heap % {every}")
        await database.close()

    asyncio.run(run())


def test_the_master_key_is_made_for_its_owner_alone(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(home / "postroad.toml").storage.master_key == str(path)
    before = path.read_bytes()
    call("account", "encrypt", "key", path, expect=4)
    assert path.read_bytes() == before
    other = tmp_path / "other.key"
    shown = call("account", "encrypt", "key", other).stdout
    assert str(other) in shown and stat.S_IMODE(other.stat().st_mode) == 0o600
    result = call("init", tmp_path / "second", "--domain", "two.example",
                  "--master-key", path, expect=4)  # fmt: skip
    assert "exists already" in result.stderr
    assert path.read_bytes() == before and not (tmp_path / "second").exists()


def test_packs_are_listed_and_rewritten(home: Path) -> None:
    dice = random.Random(3)
    deliver(home, [dice.randbytes(3000) for _ in range(30)])
    deliver(home, [b"next"])
    (found,) = parsed("packs", "status")["packs"]
    assert found["records"] == 31 and found["live"] == found["octets"]
    forget(home, 5)
    (found,) = parsed("packs", "status")["packs"]
    assert found["live"] < found["octets"] / 4 and not found["in_use"]
    assert "%" in call("packs", "status").stdout
    assert parsed("packs", "compact")["packs"] == 0, "it changed within the hour"
    old = time.time() - 7200
    pack = home / "data" / "packs" / "00000001.pack"
    os.utime(pack, (old, old))
    (home / "data" / "packs" / "00000002.pack").touch()
    done = parsed("packs", "compact")
    assert (done["packs"], done["removed"]) == (1, 1) and done["freed"] == found["octets"]
    assert not pack.exists()
    live = [item["live"] for item in parsed("packs", "status")["packs"] if item["octets"]]
    assert live == [found["live"]]


def test_a_damaged_record_ends_it_with_a_word(home: Path) -> None:
    dice = random.Random(3)
    deliver(home, [dice.randbytes(3000) for _ in range(10)])
    forget(home, 5)
    pack = home / "data" / "packs" / "00000001.pack"
    octets = bytearray(pack.read_bytes())
    at = 4 * (3000 + 48) + 100
    octets[at] ^= 1
    pack.write_bytes(octets)
    old = time.time() - 7200
    os.utime(pack, (old, old))
    (home / "data" / "packs" / "00000002.pack").touch()
    result = call("packs", "compact", expect=1)
    assert "checksum differs" in result.stderr and pack.exists()


def test_a_dictionary_is_learnt_when_there_is_mail_to_learn_from(home: Path) -> None:
    assert "too few" in call("packs", "train", expect=1).stderr
    dice = random.Random(4)
    words = [b"word%d" % number for number in range(300)]
    deliver(home, [COMMON + b" ".join(dice.choices(words, k=90)) for _ in range(1100)])
    made = parsed("packs", "train")
    assert made["number"] == 1 and made["ratio"] > made["plain"]
    (known,) = parsed("packs", "status")["dictionaries"]
    assert known["number"] == 1 and known["in_use"]
    assert "newest" in call("packs", "status").stdout


def test_an_account_is_sealed_and_opened(home: Path) -> None:
    secret = b"nobody shall read this " * 9
    deliver(home, [secret, secret + b"!"])
    assert parsed("account", "encrypt", "status") == []
    call("account", "encrypt", "off", ANN, expect=3)
    call("account", "encrypt", "on", "stranger@one.example", expect=3)
    assert "2 messages" in call("account", "encrypt", "on", ANN).stderr
    assert parsed("account", "encrypt", "status") == [{"address": ANN, "state": "on"}]
    assert ANN in call("account", "encrypt", "status").stdout
    call("verify")
    assert "0 messages" in call("account", "encrypt", "on", ANN).stderr
    assert "2 messages" in call("account", "encrypt", "off", ANN).stderr
    assert parsed("account", "encrypt", "status") == [{"address": ANN, "state": "off"}]
    call("verify")
    call("account", "remove", ANN, "--yes")
    assert parsed("account", "encrypt", "status") == []


def test_without_the_right_key_nothing_begins_and_nothing_is_lost(
    home: Path, tmp_path: Path
) -> None:
    deliver(home, [b"secret " * 9])
    call("account", "encrypt", "on", ANN)
    key = tmp_path / "master.key"
    right = key.read_bytes()

    def start() -> None:
        async def run() -> None:
            database = LocalDatabase.open(home / "data")
            try:
                check_keys(load(home / "postroad.toml").storage.master_key, database)
            finally:
                await database.close()

        asyncio.run(run())

    start()
    key.write_bytes(b"ab" * 32)
    with pytest.raises(StateError, match="is not the key"):
        start()
    assert "another one" in call("account", "encrypt", "off", ANN, expect=5).stderr
    key.write_bytes(b"nonsense")
    with pytest.raises(Unavailable, match="hexadecimal"):
        start()
    key.unlink()
    with pytest.raises(Unavailable, match="put the key back"):
        start()
    config = home / "postroad.toml"
    text = config.read_text()
    config.write_text(text.replace(f'master_key = "{key}"', 'master_key = ""'))
    with pytest.raises(StateError, match="names no key"):
        start()
    assert "no master key" in call("account", "encrypt", "on", ANN, expect=1).stderr
    config.write_text(text)
    key.write_bytes(right)
    start()
    call("account", "encrypt", "off", ANN)


def test_the_master_key_is_changed_and_mail_stays(home: Path, tmp_path: Path) -> None:
    deliver(home, [b"secret " * 9])
    call("account", "encrypt", "on", ANN)
    old, new = tmp_path / "master.key", tmp_path / "new.key"
    call("account", "encrypt", "key", new)
    pack = (home / "data" / "packs" / "00000001.pack").read_bytes()
    shown = call("account", "encrypt", "rekey", new)
    assert "1 accounts" in shown.stderr and str(new) in shown.stdout
    assert (home / "data" / "packs" / "00000001.pack").read_bytes() == pack
    assert "another one" in call("account", "encrypt", "off", ANN, expect=5).stderr
    call("account", "encrypt", "rekey", new, expect=5)
    config = home / "postroad.toml"
    config.write_text(config.read_text().replace(str(old), str(new)))
    assert "1 messages" in call("account", "encrypt", "off", ANN).stderr


def test_the_key_may_come_from_systemd_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = b"ab" * 32
    (tmp_path / "mail").write_bytes(octets + b"\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(Unavailable, match="LoadCredential"):
        master_key("credential:mail")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert master_key("credential:mail") == master_key(str(tmp_path / "mail"))
    with pytest.raises(Unavailable, match="MAIL_KEY is not set"):
        master_key("env:MAIL_KEY")
    monkeypatch.setenv("MAIL_KEY", octets.decode())
    assert master_key("env:MAIL_KEY") == master_key("credential:mail")
    assert master_key("") is None
