"""The program as an operator uses it, without a server: init, domains, accounts, aliases, queue."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dns.zone
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization

from postroad.app.cli import COMMANDS, program
from postroad.app.terminal import Failure, failures
from postroad.directory.passwords import verify_password
from postroad.mail.errors import Unavailable
from postroad.mail.secret import Secret


def call(*arguments: str | Path, stdin: str = "", expect: int = 0) -> Result:
    result = CliRunner().invoke(program, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == expect, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def parsed(*arguments: str | Path, stdin: str = "") -> Any:
    return json.loads(call(*arguments, "--json", stdin=stdin).stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("server") / "mail"
    call("init", directory, "--domain", "one.example", "--listen", "127.0.0.1",
         "--port-offset", "20000", "--workers", "0")  # fmt: skip
    return directory


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("POSTROAD_CONFIG", str(home / "postroad.toml"))
    yield home / "postroad.toml"


def test_init_makes_what_it_says(tmp_path: Path) -> None:
    made = tmp_path / "new"
    result = call("init", made, "--domain", "Bücher.example", "--hostname", "mx.example.org",
                  "--listen", "127.0.0.1", "--listen", "::1", "--port-offset", "10000",
                  "--plaintext-on-loopback", "--workers", "3")  # fmt: skip
    text = (made / "postroad.toml").read_text()
    assert 'hostname = "mx.example.org"' in text
    assert 'addresses = ["127.0.0.1", "::1"]' in text
    assert "port_offset = 10000" in text and "plaintext_on_loopback = true" in text
    assert "workers = 3" in text
    assert stat.S_IMODE((made / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "tls" / "key.pem").stat().st_mode) == 0o600
    zone = result.stdout
    assert "xn--bcher-kva.example. 3600 IN MX 10 mx.example.org." in zone
    assert "v=spf1" in zone and "v=DMARC1" in zone
    assert "k=ed25519" in zone and "k=rsa" in zone
    assert re.search(r"(?m)^; NAME +TYPE +VALUE$", zone), "the table, as comments in a pipe"
    assert re.search(r"(?m)^; xn--bcher-kva\.example +MX +10 mx\.example\.org$", zone)
    origin = dns.zone.from_text(  # all of it is still a zone
        "@ 3600 IN SOA . . 1 1 1 1 1\n@ 3600 IN NS ns.\n" + zone, origin=".", relativize=False
    )
    assert origin.get_rdataset("xn--bcher-kva.example.", "MX")
    assert "postroad serve" in result.stderr
    assert call("config", "check", "-c", made).stdout.endswith("can be used.\n")


def test_a_certificate_that_cannot_be_used_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    made = tmp_path / "new"
    call("init", made, "--domain", "one.example", "--port-offset", "20000", "--user", "root")
    key = made / "tls" / "key.pem"
    pem = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        pem.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"words"),
        )
    )
    for command in (("config", "check"), ("serve",)):  # OpenSSL would ask at the terminal
        result = call(*command, "-c", made, expect=1 if command[0] == "config" else 5)
        assert "certificate and key cannot be used" in result.stderr
    key.unlink()
    assert f"[tls] {key}: No such file" in call("config", "check", "-c", made, expect=1).stderr
    said = call("serve", "-c", made, expect=5).stderr
    assert f"[tls] {key}: No such file or directory. Set certificate and key" in said


def test_a_disk_that_is_not_mounted_is_not_a_new_server(tmp_path: Path) -> None:
    """It would answer every sender that nobody is here."""
    made = tmp_path / "new"
    call("init", made, "--domain", "one.example", "--port-offset", "20000", "--user", "root")
    (made / "data").rename(made / "elsewhere")
    for mounted in (False, True):  # no directory; the empty one that others are mounted on
        if mounted:
            (made / "data").mkdir()
        for command in (("serve",), ("account", "list"), ("verify",)):
            result = call(*command, "-c", made, expect=5)
            assert f"there is no data in {made / 'data'}" in result.stderr, command
        assert "no data in" in call("config", "check", "-c", made, expect=1).stderr
    assert not list((made / "data").iterdir())


def test_a_full_disk_is_told_with_what_to_do() -> None:
    with pytest.raises(Failure) as caught, failures():
        raise Unavailable("database: database or disk is full")
    assert caught.value.exit_code == 5
    assert caught.value.message.endswith("free some space, then say it again")
    with (
        pytest.raises(Failure, match=r"^/x: No space left on device\. Nothing was changed"),
        failures(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")
    with pytest.raises(Failure, match=r"^/x: Permission denied$"), failures():
        raise PermissionError(errno.EACCES, "Permission denied", "/x")


def test_init_overwrites_nothing(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    again = call("init", home, "--domain", "two.example", expect=4)
    assert "exists already" in again.stderr and "nothing was changed" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--domain", "nodots"], "not a full domain name"),
        (["--domain", "one.example", "--listen", "localhost"], "is not an IP address"),
        (["--domain", "one.example", "--hostname", "mx"], "not a full host name"),
        (["--domain", "one.example", "--user", "no-such-user"], "useradd"),
    ],
)
def test_init_that_fails_leaves_nothing(tmp_path: Path, options: list[str], problem: str) -> None:
    result = CliRunner().invoke(program, ["init", str(tmp_path / "new"), *options])
    assert result.exit_code in (1, 2)
    assert problem in result.stderr
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_domains(config: Path) -> None:
    call("domain", "add", "two.example")
    assert call("domain", "add", "TWO.example", expect=4).stderr.startswith("postroad: the domain")
    rows = parsed("domain", "list")
    assert [row["name"] for row in rows] == ["one.example", "two.example"]
    assert len(rows[0]["selectors"]) == 2
    zone = call("domain", "dns", "two.example").stdout
    assert "two.example. 3600 IN MX 10 mx.one.example." in zone
    assert "NAME" not in zone
    table = call("domain", "dns", "two.example", "--table").stdout
    assert table.startswith("NAME ") and "two.example" in table and " IN " not in table
    records = parsed("domain", "dns", "two.example")
    assert {"MX", "TXT"} == {record["type"] for record in records}
    call("account", "add", "x@two.example")
    assert "account" in call("domain", "remove", "two.example", expect=4).stderr
    call("account", "remove", "x@two.example", "--yes")
    call("domain", "remove", "two.example")
    call("domain", "dns", "two.example", expect=3)


def test_accounts_and_passwords(config: Path) -> None:
    call("account", "add", "ann@one.example", "--password-stdin", "--name", "Ann", stdin="first\n")
    assert password_is(config, "ann@one.example", "first")
    call("account", "add", "Ann@One.Example", "--password-stdin", stdin="x\n", expect=4)
    assert "add it first" in call("account", "add", "a@else.example", expect=3).stderr
    call("account", "add", "not an address", expect=1)
    call("account", "add", "u@one.example", "--password-stdin", expect=1)
    call("account", "add", "u@one.example", "--password-stdin", "--generate", expect=2)
    long = call("account", "add", "u@one.example", "--password-stdin", stdin="p" * 1025, expect=1)
    assert "longer than 1024" in long.stderr
    made = call("account", "password", "ann@one.example", "--generate")
    assert password_is(config, "ann@one.example", made.stdout.strip())
    assert not password_is(config, "ann@one.example", "first")
    call("account", "password", "ann@one.example", "--password-stdin", stdin="third")
    assert password_is(config, "ann@one.example", "third")
    call("account", "password", "nobody@one.example", "--generate", expect=3)
    row = parsed("account", "add", "bob@one.example")
    assert row["address"] == "bob@one.example" and len(row["password"]) == 19
    assert [r["address"] for r in parsed("account", "list", "--domain", "one.example")] == [
        "ann@one.example",
        "bob@one.example",
    ]
    assert "Ann" in call("account", "list").stdout
    assert call("account", "remove", "bob@one.example", stdin="n\n", expect=1)
    call("account", "remove", "bob@one.example", stdin="y\n")
    call("account", "remove", "ann@one.example", "--yes")
    assert "postroad account add" in call("account", "list").stderr


def password_is(config: Path, address: str, password: str) -> bool:
    from postroad.app.connect import books_of, configured

    async def ask() -> Secret:
        async with books_of(configured(str(config))) as books:
            account = books.directory.account(address)
            assert account is not None
            found = books.directory.credentials(account.account)
            assert found is not None
            return found.argon2

    return verify_password(asyncio.run(ask()), Secret(password))


def test_aliases(config: Path) -> None:
    call("alias", "add", "Sales@one.example", "ann@one.example", "far@else.example")
    assert parsed("alias", "list") == [
        {"address": "sales@one.example", "targets": ["ann@one.example", "far@else.example"]}
    ]
    call("alias", "add", "sales@one.example", "x@else.example", expect=4)
    call("alias", "add", "x@else.example", "ann@one.example", expect=3)
    call("alias", "add", "x@one.example", expect=2)
    star = call("alias", "add", "*@one.example", "ann@one.example", expect=1)
    assert "name each one" in star.stderr
    loop = call("alias", "add", "x@one.example", "X@One.example", "y@else.example", expect=1)
    assert "lead to itself" in loop.stderr
    assert len(parsed("alias", "list")) == 1
    call("alias", "remove", "sales@one.example")
    call("alias", "remove", "sales@one.example", expect=3)


def test_queue_and_trace(config: Path) -> None:
    enqueue(config)
    rows = parsed("queue", "list")
    assert [row["message"] for row in rows] == ["0000000000000001", "0000000000000002"]
    assert [r["path"] for r in rows[0]["recipients"]] == ["a@two.example", "b@three.example"]
    assert rows[0]["recipients"][0]["state"] == "waiting"
    assert len(parsed("queue", "list", "--domain", "three.example")) == 1
    assert len(parsed("queue", "list", "--sender", "")) == 1
    assert len(parsed("queue", "list", "--sender", "ANN@one.example")) == 1
    assert parsed("queue", "list", "--recipient", "no@body.example") == []
    assert parsed("queue", "list", "--deferred") == []
    assert "a@two.example" in call("queue", "list").stdout
    assert "Goes back" in call("queue", "show", "0000000000000001").stdout
    call("queue", "show", "nothing", expect=3)
    call("queue", "retry", expect=2)
    call("queue", "remove", expect=2)
    call("queue", "remove", "--all", "0000000000000001", expect=2)
    assert parsed("queue", "retry", "--all") == {"recipients": 3}
    assert call("queue", "retry", "nothing", expect=3)
    assert parsed("queue", "remove", "--domain", "three.example") == {"recipients": 2}
    assert [row["message"] for row in parsed("queue", "list")] == ["0000000000000002"]
    call("queue", "remove", "0000000000000002")
    assert "empty" in call("queue", "list").stderr

    records = parsed("message", "trace", "0000000000000001")
    assert [record["event"] for record in records] == ["MailAccepted", "SettledFailed"]
    assert records[0]["at"] == "2027-01-15T08:00:00.500Z"
    told = call("message", "trace", "0000000000000001").stdout
    assert "Mail accepted" in told and "reverse path" in told
    assert "Message-ID" in call("message", "trace", "0000000000000009", expect=3).stderr


def enqueue(config: Path) -> None:
    from postroad.app.connect import configured
    from postroad.database.local import LocalDatabase
    from postroad.queue.operations import Enqueue, QueuedPath, Remember
    from postroad.store.blobs import BlobStore

    data_dir = configured(str(config)).data_dir

    def message(number: int, sender: str, blob: str, *paths: str) -> Enqueue:
        return Enqueue(
            message=f"{number:016d}",
            blob=blob,
            head=b"",
            size=10,
            reverse_path=sender,
            recipients=tuple(
                QueuedPath(path=path, domain=path.partition("@")[2]) for path in paths
            ),
            accepted=1_800_000_000 + number,
            expires=1_900_000_000,
        )

    async def work() -> None:
        database = LocalDatabase.open(data_dir)
        blobs = BlobStore.open(data_dir)
        draft = blobs.draft()
        draft.write(b"0123456789")
        blob = draft.commit()
        await database.submit(
            message(1, "ann@one.example", blob, "a@two.example", "b@three.example"),
            message(2, "", blob, "c@two.example"),
            Remember(
                message=f"{1:016d}",
                records=(
                    (1_800_000_000.5, b'{"event":"MailAccepted","reverse_path":"ann@one.example"}'),
                    (1_800_000_009.0, b'{"event":"SettledFailed","why":["a","b"]}'),
                ),
            ),
        )
        blobs.close()
        await database.close()

    asyncio.run(work())


def test_verify_says_what_is_wrong(config: Path) -> None:
    assert "All is whole" in call("verify").stdout
    assert parsed("verify")["findings"] == []


def test_config_commands(config: Path, tmp_path: Path) -> None:
    shown = call("config", "show").stdout
    assert 'hostname = "mx.one.example"' in shown and "[limits]" in shown
    assert parsed("config", "show")["listen"]["port_offset"] == 20000
    assert "## `[listen]`" in call("config", "reference").stdout
    broken = tmp_path / "broken.toml"
    broken.write_text(config.read_text().replace("port_offset", "port_ofset"))
    result = call("config", "check", "-c", broken, expect=2)
    assert "unknown key [listen] port_ofset. Did you mean 'port_offset'?" in result.stderr
    broken.write_text(config.read_text())
    result = call("-c", broken, "config", "check", expect=1)
    assert "[tls]" in result.stderr and "data_dir" in result.stderr
    call("config", "check", "-c", tmp_path / "absent.toml", expect=2)


def test_config_may_stand_before_or_after(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTROAD_CONFIG", raising=False)
    monkeypatch.chdir("/")
    call("account", "list", expect=2)
    call("-c", home, "account", "list")
    call("account", "list", "-c", home / "postroad.toml")
    monkeypatch.chdir(home)
    call("account", "list")


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                walk(child, (*path, name))
        else:
            found.append(path)

    walk(program, ())
    return found


def test_the_commands_are_all_there() -> None:
    named = {" ".join(path) for path in every_command()}
    assert named >= {
        *{"init", "serve", "config check", "message trace", "verify", "completion"},
        *{f"domain {verb}" for verb in ("add", "list", "remove", "dns")},
        *{f"account {verb}" for verb in ("add", "list", "password", "remove")},
        *{f"alias {verb}" for verb in ("add", "list", "remove")},
        *{f"queue {verb}" for verb in ("list", "show", "retry", "remove")},
    }
    assert {path[0] for path in every_command()} == set(COMMANDS)


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    text = call(*path, "--help").stdout
    assert "Example:" in text
    assert re.search(rf"(?m)^ +\$ .*postroad {' '.join(path)}", text)


def test_an_unknown_command_gets_a_hint() -> None:
    assert "Did you mean 'queue'?" in call("queu", expect=2).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_POSTROAD_COMPLETE" in call("completion", shell).stdout


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "postroad", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith("postroad, version 0.")
    done = subprocess.run(
        [sys.executable, "-m", "postroad", "account", "list", "-c", "/nonexistent.toml"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("postroad: /nonexistent.toml: no such file.")
