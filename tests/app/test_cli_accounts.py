"""What an operator does with accounts' space and with mail that was removed, without a server."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroad.app.cli import program
from postroad.app.commands.account_quota import parse_limit
from postroad.app.connect import books_of, configured
from postroad.store.blobs import BlobStore
from postroad.store.operations import Append, DeleteMailbox
from support.state import NOW, content_for


def call(*arguments: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(program, [str(a) for a in arguments])
    assert result.exit_code == expect, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def parsed(*arguments: str | Path, expect: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    call("init", tmp_path / "mail", "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0")  # fmt: skip
    monkeypatch.setenv("POSTROAD_CONFIG", str(tmp_path / "mail" / "postroad.toml"))
    call("account", "add", "ann@one.example", "--generate")
    return tmp_path / "mail" / "postroad.toml"


def test_quota_is_shown_and_set(config: Path) -> None:
    ann = "ann@one.example"
    shown = call("account", "quota", ann).stdout
    assert re.search(r"storage \(octets\) +0 +none +default", shown)
    found = parsed("account", "quota", ann, "--storage", "2G", "--mailboxes", "none")
    assert (found["octets_max"], found["messages_max"], found["mailboxes_max"]) == (
        2 << 30,
        None,
        None,
    )
    assert found["own"] == [2 << 30, None, -1]
    found = parsed("account", "quota", ann, "--storage", "default", "--messages", "0")
    assert found["own"] == [None, 0, -1]
    call("account", "quota", ann, "--storage", "much", expect=1)
    call("account", "quota", "nobody@one.example", expect=3)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("0", 0),
        ("500M", 500 << 20),
        ("3k", 3072),
        ("1 TiB", 1 << 40),
        ("2gb", 2 << 30),
        ("none", -1),
        ("default", None),
    ],
)
def test_limits_as_people_write_them(text: str, limit: int | None) -> None:
    assert parse_limit(text) == limit


def test_removed_mail_is_listed_and_brought_back(config: Path) -> None:
    asyncio.run(_remove_drafts(config))
    ann = "ann@one.example"
    assert "\nDrafts   1 " in call("account", "undelete", ann).stdout
    dry = parsed("account", "undelete", ann, "--mailbox", "Drafts", "--dry-run")
    assert dry["restored"] is None
    assert [item["mailbox"] for item in dry["messages"]] == ["Drafts"]
    call("account", "undelete", ann, "--mailbox", "INBOX", expect=3)
    call("account", "undelete", ann, "--all", "--since", "1d", expect=2)
    call("account", "undelete", ann, "--message", "1", expect=1)
    call("account", "undelete", ann, "--since", "soon", expect=1)
    done = call("account", "undelete", ann, "--all")
    assert done.stdout == "Drafts (made again): 1 messages brought back\n"
    assert "Nothing that was removed" in call("account", "undelete", ann).stderr
    call("verify")


async def _remove_drafts(config_file: Path) -> None:
    config = configured(str(config_file))
    blobs = BlobStore.open(config.data_dir)
    try:
        async with books_of(config) as books:
            account = books.directory.account("ann@one.example")
            assert account is not None
            octets = b"Subject: x\r\n\r\n"
            content = content_for(blobs.append(octets), b"", len(octets))
            number = account.account
            await books.database.submit(
                Append(account=number, mailbox=2, content=content, internal_date=NOW),
                DeleteMailbox(account=number, name="Drafts", now=NOW),
            )
    finally:
        blobs.close()
