"""Backups: whole after a restore, octet for octet; only what is new; cut short they are none."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from pathlib import Path

import apsw
import pytest

from postroad.admin.backup import taking
from postroad.admin.backup.repository import Repository
from postroad.database.local import LocalDatabase
from postroad.queue.operations import Enqueue, QueuedPath
from postroad.store.blobs import BlobStore
from postroad.store.operations import DeleteMailbox, Expunge
from support.servers import ANN, BOB, Home, crlf, mail, make_home


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ann has small messages, big ones and many mailboxes; Bob is encrypted."""
    path = tmp_path_factory.mktemp("made")
    home = make_home(path / "mail", master_key=True)
    home.call("account", "encrypt", "on", BOB)
    root = path / "Maildir"
    for number in range(1, 31):
        put(root, f"{number:03d}.x:2,S", mail(number))
    put(root, "900.big:2,F", mail(900, os.urandom(200_000).hex().encode() + b"\n"))
    put(root / ".Work.2026", "901.x:2,", mail(901))
    home.call("import", ANN, root)
    home.call("import", BOB, root)
    queue(home)
    return path


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    shutil.copytree(made, tmp_path / "made")
    home = Home(tmp_path / "made" / "mail")
    text = home.config.read_text()
    home.config.write_text(text.replace(str(made), str(tmp_path / "made")))
    return home


def put(path: Path, name: str, octets: bytes) -> None:
    (path / "cur").mkdir(parents=True, exist_ok=True)
    (path / "cur" / name).write_bytes(octets)


def queue(home: Home) -> None:
    async def run() -> None:
        database = LocalDatabase.open(home.data)
        blobs = BlobStore.open(home.data)
        path = QueuedPath(path="x@y.example", domain="y.example")
        await database.submit(
            Enqueue(message="0123456789abcdef", blob=blobs.append(b"to others"), head=b"", size=9,
                    reverse_path=ANN, recipients=(path,), accepted=1, expires=int(time.time()) + 60)
        )  # fmt: skip
        blobs.close()
        await database.close()

    asyncio.run(run())


def change(home: Home, *operations: object) -> None:
    async def run() -> None:
        database = LocalDatabase.open(home.data)
        await database.submit(*operations)  # type: ignore[arg-type]
        await database.close()

    asyncio.run(run())


def number_of(home: Home, address: str = ANN) -> int:
    connection = apsw.Connection(str(home.data / "postroad.db"))
    ((number,),) = connection.execute(
        "SELECT account FROM account WHERE address = ?", (address,)
    ).fetchall()
    connection.close()
    assert isinstance(number, int)
    return number


def added(home: Home, root: Path, number: int) -> None:
    put(root, f"{number}.x:2,", mail(number))
    home.call("import", ANN, root)


def test_a_whole_server_comes_back_octet_for_octet(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    said = home.call("backup", "take", repository)
    assert "master key is not in it" in said.stderr
    before = {address: home.mailboxes(address) for address in (ANN, BOB)}
    assert json.loads(call(home, "backup", "verify", repository, "--json")).values()
    again = home.parsed("restore", repository, "--to", tmp_path / "again")
    assert again["findings"] == [] and again["queued"] == 1
    shutil.copy(tmp_path / "made" / "master.key", tmp_path / "master.key")
    restored = Home(tmp_path / "again")
    assert {address: restored.mailboxes(address) for address in (ANN, BOB)} == before
    assert restored.parsed("verify")["findings"] == []
    assert (restored.path / "tls" / "key.pem").is_file()
    assert (restored.data / "secret.key").exists() == (home.data / "secret.key").exists()


def call(home: Home, *arguments: object) -> str:
    from click.testing import CliRunner

    from postroad.app.cli import program

    result = CliRunner().invoke(program, [str(item) for item in arguments])
    assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def test_what_clients_saw_is_not_mistaken_and_the_queue_waits(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    home.call("restore", repository, "--to", tmp_path / "again")
    home.call("restore", repository, "--to", tmp_path / "exact", "--exact", "--queue", "keep")
    home.call("restore", repository, "--to", tmp_path / "dropped", "--queue", "drop")

    def values(path: Path, sql: str) -> list[tuple[object, ...]]:
        connection = apsw.Connection(str(path / "data" / "postroad.db"))
        found = connection.execute(sql).fetchall()
        connection.close()
        return found

    uids = (
        "SELECT account, min(uidvalidity), max(uidvalidity) FROM mailbox"
        " GROUP BY account ORDER BY account"
    )
    old, new = values(home.path, uids), values(tmp_path / "again", uids)
    for before, after in zip(old, new, strict=True):
        assert after[1] > before[2], "of each account"  # type: ignore[operator]
    assert values(tmp_path / "exact", uids) == old
    waits = "SELECT next_attempt FROM queue_recipient"
    ((held,),) = values(tmp_path / "again", waits)
    assert held > time.time() + 86400 * 365  # type: ignore[operator]
    assert values(tmp_path / "exact", waits) == values(home.path, waits)
    assert values(tmp_path / "dropped", waits) == []
    shown = Home(tmp_path / "again").parsed("queue", "list")
    assert shown


def test_the_second_backup_copies_what_is_new(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    root = tmp_path / "more"
    first = home.parsed("backup", "take", repository)
    packs = {path.name: path.stat().st_size for path in (repository / "packs").iterdir()}
    files = sorted(path.name for path in (repository / "files").rglob("*-*"))
    assert len(files) == 2, "each account's big one: sealed and in the clear"
    added(home, root, 950)
    second = home.parsed("backup", "take", repository)
    assert second["messages"] == first["messages"] + 1
    grown = {path.name: path.stat().st_size for path in (repository / "packs").iterdir()}
    assert all(grown[name] >= octets for name, octets in packs.items())
    assert sum(grown.values()) - sum(packs.values()) < 2000
    assert sorted(path.name for path in (repository / "files").rglob("*-*")) == files
    listed = json.loads(call(home, "backup", "list", repository, "--json"))
    assert [item["name"] for item in listed] == [first["name"], second["name"]]
    found = json.loads(call(home, "backup", "verify", repository, "--all", "--json"))
    assert set(found) == {first["name"], second["name"]} and not any(found.values())
    home.call("restore", repository, "--backup", first["name"], "--to", tmp_path / "first")
    assert len(Home(tmp_path / "first").mailboxes()["INBOX"]) == 31


def test_a_backup_that_was_cut_short_is_none(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    added(home, tmp_path / "more", 951)
    for name in ("copy_database", "_named", "_copy_packs", "_copy_files", "_copy_dictionaries"):
        real = getattr(taking, name)

        def killed(*arguments: object, real: object = real) -> object:
            real(*arguments)  # type: ignore[operator]
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(taking, name, killed)
            home.call("backup", "take", repository, expect=1)
        assert len(Repository.open(repository).backups()) == 1
        call(home, "backup", "verify", repository)
    done = home.parsed("backup", "take", repository)
    assert done["messages"] == 65
    call(home, "backup", "verify", repository, "--all")
    assert len(list((repository / "backups").iterdir())) == 2


def test_damage_is_found(home: Home, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from postroad.app.cli import program

    home.call("backup", "take", tmp_path / "whole")

    def damaged(name: str, pattern: str, at: int) -> str:
        repository = tmp_path / name
        shutil.copytree(tmp_path / "whole", repository)
        path = next(iter(sorted(repository.glob(pattern))))
        octets = bytearray(path.read_bytes())
        octets[at] ^= 1
        path.write_bytes(octets)
        result = CliRunner().invoke(program, ["backup", "verify", str(repository)])
        assert result.exit_code == 1, name
        return result.stdout

    assert "checksum" in damaged("pack", "packs/*", 60)
    assert "its end" in damaged("end", "packs/*", -3)
    assert "SHA-256" in damaged("file", "files/??/*", 1000)
    assert "postroad.db" in damaged("database", "backups/*/postroad.db", 9000)
    assert "postroad.toml" in damaged("config", "backups/*/postroad.toml", 9)


def test_messages_come_back_into_the_account(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    for address in (ANN, BOB):
        before = home.mailboxes(address)
        account = number_of(home, address)
        expunge = Expunge(
            account=account, mailbox=1, uids=[(3, 6)], only_deleted=False, now=5, keep=False
        )
        change(home, expunge, DeleteMailbox(account=account, name="Work/2026", now=5))
        dry = home.parsed("restore", repository, "--account", address, "--dry-run")
        assert dry["added"] == 5
        report = home.parsed("restore", repository, "--account", address)
        assert report["added"] == report["verified"] == 5
        after = home.mailboxes(address)
        assert sorted(item.octets for item in after["INBOX"]) == sorted(
            item.octets for item in before["INBOX"]
        )
        assert after["INBOX"][:2] == before["INBOX"][:2], "what was there is untouched"
        assert min(item.uid for item in after["INBOX"][27:]) > 31, "new UIDs"
        assert after["Work/2026"][0].octets == crlf(mail(901))
        assert home.parsed("restore", repository, "--account", address)["added"] == 0
        # Removed once more, they come once more.
        change(
            home, Expunge(account=account, mailbox=1, uids=[(32, 33)], only_deleted=False, now=6)
        )
        assert home.parsed("restore", repository, "--account", address)["added"] == 2
    assert home.parsed("verify")["findings"] == []


def test_one_message_and_copies(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    chosen = ["restore", repository, "--account", ANN]
    copy = home.parsed(*chosen, "--message", "<7@x.example>", "--into", "Saved")
    assert copy["added"] == 1
    assert [item.octets for item in home.mailboxes()["Saved"]] == [crlf(mail(7))]
    home.call(*chosen, "--message", "7", expect=2)
    home.call(*chosen, "--message", "9", "--mailbox", "INBOX", "--into", "Other")
    assert home.octets("Other") == [crlf(mail(9))]
    assert "no mailbox" in home.call(*chosen, "--mailbox", "None", expect=3).stderr


def test_a_point_in_time_between_two_backups(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    time.sleep(1.1)
    then = int(time.time())
    account = number_of(home)
    now = then + 1
    change(home, Expunge(account=account, mailbox=1, uids=[(1, 31)], only_deleted=False, now=now),
           DeleteMailbox(account=account, name="Work/2026", now=now))  # fmt: skip
    time.sleep(2.1)
    added(home, tmp_path / "late", 960)
    home.call("backup", "take", repository)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(then))
    report = home.parsed("restore", repository, "--account", ANN, "--at", moment, "--into", "Then")
    assert report["added"] == report["verified"] == 32
    found = home.mailboxes()
    assert len(found["Then"]) == 31 and len(found["Then/Work/2026"]) == 1


def test_an_account_that_was_removed(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    before = home.mailboxes(BOB)
    home.call("account", "remove", BOB, "--yes")
    home.call("restore", repository, "--account", BOB, expect=3)
    report = home.parsed("restore", repository, "--account", BOB, "--create")
    assert report["added"] == report["verified"] == 32
    after = home.mailboxes(BOB)
    assert {name: [item.octets for item in kept] for name, kept in after.items()} == {
        name: [item.octets for item in kept] for name, kept in before.items()
    }
    assert BOB in home.call("account", "encrypt", "status").stdout


def test_nothing_is_overwritten(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    assert (
        "nothing is overwritten"
        in home.call("restore", repository, "--to", home.path, expect=4).stderr
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "something else" in home.call("backup", "take", tmp_path / "other", expect=4).stderr
    assert "no repository" in home.call("restore", tmp_path / "other", "--to", tmp_path / "x",
                                        expect=3).stderr  # fmt: skip
    home.call("restore", repository, "--to", tmp_path / "dry", "--dry-run")
    assert not (tmp_path / "dry").exists()


def test_old_backups_go_with_what_only_they_named(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    account = number_of(home)
    change(home, Expunge(account=account, mailbox=1, only_deleted=False, now=5, keep=False))
    home.call("backup", "take", repository)
    removed = json.loads(call(home, "backup", "prune", repository, "--keep", "1", "--json"))
    assert len(removed["removed"]) == 1 and removed["freed"] > 400_000
    assert len(list((repository / "files").rglob("*-*"))) == 1
    call(home, "backup", "verify", repository)


def test_another_life_after_a_restore_gets_packs_of_its_own(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "backups"
    home.call("backup", "take", repository)
    home.call("restore", repository, "--to", tmp_path / "made" / "again")
    again = Home(tmp_path / "made" / "again")
    added(home, tmp_path / "one", 970)
    home.call("backup", "take", repository)
    added(again, tmp_path / "two", 971)
    again.call("backup", "take", repository)
    call(home, "backup", "verify", repository, "--all")
    home.call("restore", repository, "--to", tmp_path / "made" / "third")
    assert crlf(mail(971)) in Home(tmp_path / "made" / "third").octets()
