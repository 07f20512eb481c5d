"""The program as an operator shares mailboxes with it, without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroad.app.cli import program


def call(*arguments: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == expect, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def parsed(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("server") / "mail"
    call("init", str(directory), "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0")  # fmt: skip
    config = str(directory / "postroad.toml")
    for name in ("ann", "bob", "team"):
        call("account", "add", f"{name}@one.example", "--generate", "-c", config)
    return directory


@pytest.fixture(autouse=True)
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POSTROAD_CONFIG", str(home / "postroad.toml"))
    yield


def test_access_lists() -> None:
    assert "Nothing is shared" in call("acl", "list", "ann@one.example").stderr
    call("acl", "set", "ann@one.example", "inbox", "bob@one.example", "lrd")
    call("acl", "set", "ann@one.example", "INBOX", "bob@one.example", "w", "--add")
    call("acl", "set", "ann@one.example", "INBOX", "bob@one.example", "r", "--take")
    call("acl", "set", "ann@one.example", "Sent", "Anyone", "lr")
    call("acl", "set", "ann@one.example", "Sent", "bob@one.example", "r", "--negative")
    assert parsed("acl", "list", "ann@one.example") == [
        {"mailbox": "INBOX", "who": "bob@one.example", "negative": False, "rights": "lwte"},
        {"mailbox": "Sent", "who": "anyone", "negative": False, "rights": "lr"},
        {"mailbox": "Sent", "who": "bob@one.example", "negative": True, "rights": "r"},
    ]
    assert "not r" in call("acl", "list", "ann@one.example", "Sent").stdout
    call("acl", "remove", "ann@one.example", "Sent", "bob@one.example", "--negative")
    call("acl", "remove", "ann@one.example", "Sent", "anyone")
    assert parsed("acl", "list", "ann@one.example", "Sent") == []


def test_access_lists_that_cannot_be() -> None:
    ann, bob = "ann@one.example", "bob@one.example"
    assert "no right 'q'" in call("acl", "set", ann, "INBOX", bob, "lq", expect=1).stderr
    assert "no mailbox Nope" in call("acl", "set", ann, "Nope", bob, "l", expect=3).stderr
    call("acl", "set", ann, "INBOX", "nobody@one.example", "l", expect=3)
    call("acl", "list", "nobody@one.example", expect=3)
    assert "keeps every right" in call("acl", "set", ann, "INBOX", ann, "l", expect=1).stderr
    call("acl", "set", ann, "INBOX", bob, "l", "--add", "--take", expect=2)


def test_public_accounts() -> None:
    assert "No account is public" in call("public", "list").stderr
    made = parsed("public", "add", "team@one.example", "--name", "Team")
    assert made == {"address": "team@one.example", "name": "Team", "rights": "lrs"}
    assert parsed("acl", "list", "team@one.example", "Sent")[0]["who"] == "anyone"
    assert "Shared/Team" in call("public", "list").stdout
    assert (
        "another account"
        in call("public", "add", "bob@one.example", "--name", "Team", expect=4).stderr
    )
    call("public", "add", "bob@one.example", "--name", "a%", expect=1)
    call("public", "add", "bob@one.example", "--name", "a/b", expect=1)
    call("public", "remove", "team@one.example")
    call("public", "remove", "team@one.example", expect=3)
    assert parsed("acl", "list", "team@one.example") == []


def test_annotations_of_the_server() -> None:
    assert "Nothing is noted" in call("annotation", "list").stderr
    call("annotation", "set", "/shared/comment", "Closed on Sunday")
    call("annotation", "set", "/Shared/Admin", "mailto:help@one.example")
    assert parsed("annotation", "list") == {
        "/shared/admin": "mailto:help@one.example",
        "/shared/comment": "Closed on Sunday",
    }
    for entry in ("/private/comment", "/shared", "/shared//x", "/shared/x/", "/shared/*", "x"):
        call("annotation", "set", entry, "x", expect=1)
    call("annotation", "set", "/shared/admin", "call me", expect=1)
    call("annotation", "remove", "/shared/comment")
    assert list(parsed("annotation", "list")) == ["/shared/admin"]


def test_administrators() -> None:
    assert parsed("account", "administrators", "--add", "ann@one.example") == ["ann@one.example"]
    call("account", "administrators", "--add", "nobody@one.example", expect=3)
    assert parsed("account", "administrators", "--remove", "ann@one.example") == []
