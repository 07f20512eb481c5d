"""Importing Maildirs: folders, flags, keywords, dates, order; once, however often it is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from postroad.mail.flags import Flag
from support.servers import ANN, Home, crlf, mail, make_home


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    make_home(path / "mail")
    return path / "mail"


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    import shutil

    shutil.copytree(made, tmp_path / "mail")
    return Home(tmp_path / "mail")


def maildir(path: Path) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True, exist_ok=True)
    return path


def put(path: Path, name: str, octets: bytes, when: int = 1_700_000_000) -> Path:
    file = maildir(path) / ("cur" if ":2," in name else "new") / name
    file.write_bytes(octets)
    os.utime(file, (when, when))
    return file


def full(root: Path) -> Path:
    put(root, "1.a.host:2,RS", mail(1), 1_600_000_001)
    put(root, "2.b.host", mail(2), 1_600_000_002)
    put(root, "3.c.host:2,DFPTab", mail(3), 1_600_000_003)
    (root / "dovecot-keywords").write_bytes(b"0 $Label1\n1 work\n")
    put(root / ".Work.2026", "4.d.host:2,S", mail(4))
    put(root / ".Entw&APw-rfe", "5.e.host:2,", mail(5))
    (root / "subscriptions").write_bytes(b"Work.2026\n")
    return root


def test_everything_comes_with_what_belongs_to_it(home: Home, tmp_path: Path) -> None:
    root = full(tmp_path / "Maildir")
    report = home.parsed("import", ANN, root)
    assert report["added"] == report["verified"] == 5 and not report["failed"]
    found = home.mailboxes()
    assert set(found) == {"INBOX", "Work/2026", "Entwürfe"}
    first, second, third = found["INBOX"]
    assert [item.octets for item in found["INBOX"]] == [crlf(mail(n)) for n in (2, 1, 3)] or [
        item.octets for item in found["INBOX"]
    ] == [crlf(mail(n)) for n in (1, 2, 3)]
    assert first.flags == Flag.SEEN | Flag.ANSWERED and first.date == 1_600_000_001
    assert second.flags == 0 and second.keywords == ()
    assert third.flags == Flag.DRAFT | Flag.FLAGGED | Flag.DELETED
    assert third.keywords == (b"$Forwarded", b"$Label1", b"work")
    assert home.parsed("import", ANN, root)["added"] == 0
    assert home.mailboxes() == found
    assert home.parsed("verify")["findings"] == []


def test_a_second_run_brings_what_is_new_and_the_flags(home: Home, tmp_path: Path) -> None:
    root = full(tmp_path / "Maildir")
    home.call("import", ANN, root)
    (root / "new" / "2.b.host").rename(root / "cur" / "2.b.host:2,FS")
    put(root, "6.f.host", mail(6))
    report = home.parsed("import", ANN, root)
    inbox = next(item for item in report["folders"] if item["folder"] == "INBOX")
    assert (inbox["added"], inbox["known"], inbox["changed"]) == (1, 3, 1)
    kept = home.mailboxes()["INBOX"]
    assert kept[1].flags == Flag.FLAGGED | Flag.SEEN and kept[3].octets == crlf(mail(6))


def test_dry_run_changes_nothing(home: Home, tmp_path: Path) -> None:
    root = full(tmp_path / "Maildir")
    report = home.parsed("import", ANN, root, "--dry-run")
    assert report["added"] == 5 and report["dry_run"]
    assert home.mailboxes() == {}
    assert "Entwürfe" not in home.call("acl", "list", ANN, "INBOX", expect=0).stdout


def test_what_cannot_be_taken_is_listed_and_the_others_come(home: Home, tmp_path: Path) -> None:
    root = full(tmp_path / "Maildir")
    put(root, "7.empty", b"")
    put(root, "8.nul", b"Subject: \0 x\n\nbody\n")
    put(root, "9.parts", b"Subject: x\n\nbody with \0 in it\n")
    (root / "new" / "0.dir").mkdir()
    report = home.parsed("import", ANN, root, expect=1)
    reasons = {item["where"].split(": ")[1]: item["reason"] for item in report["failed"]}
    assert set(reasons) == {"7.empty", "8.nul"} and "NUL" in reasons["8.nul"]
    assert report["added"] == report["verified"] == 6
    (remark,) = report["remarks"]
    assert "base64" in remark["text"]
    assert any(b"base64" in octets for octets in home.octets())


def test_into_map_and_folder(home: Home, tmp_path: Path) -> None:
    root = full(tmp_path / "Maildir")
    home.call("import", ANN, root, "--into", "Old", "--map", "Work/2026=Job", "--folder", "INBOX",
              "--folder", "Work/2026")  # fmt: skip
    assert {name: len(kept) for name, kept in home.mailboxes().items()} == {"Old": 3, "Old/Job": 1}


def test_folders_in_folders_and_the_order_of_dovecot(home: Home, tmp_path: Path) -> None:
    root = tmp_path / "fs"
    put(root / "Work" / "2026", "1.x:2,S", mail(1))
    put(root / "Work" / "2026", "2.x:2,S", mail(2))
    (root / "Work" / "2026" / "dovecot-uidlist").write_bytes(
        b"3 V1700000000 N9 G0\n5 W30 :2.x:2,S\n8 :1.x\n"
    )
    home.call("import", ANN, root)
    assert home.octets("Work/2026") == [crlf(mail(2)), crlf(mail(1))]


def test_no_maildir_is_said_so(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = home.call("import", ANN, tmp_path / "empty", "--format", "maildir", expect=5)
    assert "no Maildir" in result.stderr
    assert "nothing" in home.call("import", ANN, tmp_path / "none", expect=5).stderr
    assert (
        "no account" in home.call("import", "x@one.example", full(tmp_path / "m"), expect=3).stderr
    )
