"""verify --repair, database status and rollback, as an operator uses them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroad.app.cli import program
from postroad.database import schema
from postroad.database.connection import open_writer
from postroad.database.local import take_lock

NEWEST = len(schema.migrations())


def call(*arguments: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(program, [str(a) for a in arguments])
    assert result.exit_code == expect, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def parsed(*arguments: str | Path, expect: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    call("init", tmp_path / "mail", "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0")  # fmt: skip
    monkeypatch.setenv("POSTROAD_CONFIG", str(tmp_path / "mail" / "postroad.toml"))
    call("account", "add", "ann@one.example", "--generate")
    return tmp_path / "mail" / "data"


def harm(data_dir: Path, sql: str) -> None:
    connection = open_writer(data_dir)
    connection.execute(sql)
    connection.close()


def test_repair(data_dir: Path) -> None:
    assert "nothing was changed" in call("verify", "--repair").stdout
    harm(data_dir, "UPDATE mailbox SET messages = 5 WHERE mailbox = 1")
    assert "says 5, there are 0" in call("verify", expect=1).stdout
    lock = take_lock(data_dir)
    call("verify", "--repair", expect=4)
    os.close(lock)
    done = call("verify", "--repair")
    assert "mended: " in done.stdout and "repairs/0001" in done.stderr
    call("verify")
    harm(data_dir, "UPDATE counter SET messages = 5")
    told = parsed("verify", "--repair")
    assert told["left"] == [] and told["folder"].endswith("0002") and told["taken"] == []
    harm(data_dir, "DELETE FROM credential")
    assert "left: account" in call("verify", "--repair", expect=1).stdout


def test_status_and_rollback(data_dir: Path) -> None:
    status = parsed("database", "status")
    assert (status["version"], status["known"], status["snapshots"]) == (NEWEST, NEWEST, [])
    call("database", "rollback", "--yes", expect=3)
    _put_old_data(data_dir)
    assert parsed("database", "status")["version"] == 1
    assert "bob@two.example" in call("account", "list").stdout
    (snapshot,) = parsed("database", "status")["snapshots"]
    assert snapshot["version"] == 1
    assert "before-0002.db" in call("database", "status").stdout
    lock = take_lock(data_dir)
    call("database", "rollback", "--yes", expect=4)
    os.close(lock)
    assert "version 1 again" in call("database", "rollback", "--yes").stdout
    assert parsed("database", "status")["version"] == 1


def _put_old_data(data_dir: Path) -> None:
    vectors = Path(__file__).parents[1] / "database" / "vectors"
    for path in data_dir.glob("postroad.db*"):
        path.unlink()
    (data_dir / "packs").mkdir(exist_ok=True)
    shutil.copy(vectors / "tables-0001.pack", data_dir / "packs" / "00000001.pack")
    connection = open_writer(data_dir)
    schema.apply_migration(connection, *schema.migrations()[0])
    connection.execute("DELETE FROM durable")
    connection.execute((vectors / "tables-0001.sql").read_text())
    connection.close()
