"""The commands about the search index, as an operator says them, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroad.app.cli import program
from postroad.database.local import LocalDatabase
from postroad.message.summary import summarize
from postroad.store.blobs import BlobStore
from postroad.store.operations import Append
from postroad.store.values import content_of
from support.mails import plain_mail
from support.state import INBOX, NOW

ANN, CARL = "ann@one.example", "carl@one.example"
MESSAGES = 70


def call(*arguments: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(program, [str(a) for a in arguments])
    assert result.exit_code == expect, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def status(*arguments: str) -> dict[str, Any]:
    found = json.loads(call("index", "status", *arguments, "--json").stdout)
    return {item.pop("address"): item for item in found}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = tmp_path / "mail"
    call("init", home, "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0")  # fmt: skip
    monkeypatch.setenv("POSTROAD_CONFIG", str(home / "postroad.toml"))
    call("account", "add", ANN, CARL, "--generate")
    asyncio.run(deliver(home))
    yield home


async def deliver(home: Path) -> None:
    database, blobs = LocalDatabase.open(home / "data"), BlobStore.open(home / "data")
    row = database.first("SELECT account FROM account WHERE address = ?", (ANN,))
    assert row is not None
    for number in range(MESSAGES):
        octets = plain_mail(number)
        content = content_of(summarize(octets), blobs.append(octets), b"")
        await database.submit(
            Append(account=row[0], mailbox=INBOX, content=content, internal_date=NOW)
        )
    await database.close()
    blobs.close()


def test_an_index_is_built_shown_and_removed(home: Path) -> None:
    before = status()
    assert before[CARL]["messages"] == 0
    assert before[ANN] == {
        "messages": MESSAGES, "indexed": 0, "waiting": MESSAGES, "blocks": 0, "octets": 0
    }  # fmt: skip
    assert f"Indexed {MESSAGES} messages" in call("index", "rebuild").stderr
    built = status(ANN)[ANN]
    assert built["indexed"] == MESSAGES and built["waiting"] == 0
    assert built["blocks"] == 2 and built["octets"] > 5000
    call("verify")
    assert f"Indexed {MESSAGES} messages" in call("index", "rebuild", ANN).stderr
    assert status(ANN)[ANN]["indexed"] == MESSAGES
    assert "1 account." in call("index", "drop", ANN).stderr
    assert status()[ANN] == before[ANN]
    assert ANN in call("index", "status").stdout
    call("verify")


def test_an_account_that_is_not_there(home: Path) -> None:
    for verb in ("status", "rebuild", "drop"):
        assert "nobody@one.example" in call("index", verb, "nobody@one.example", expect=3).stderr
