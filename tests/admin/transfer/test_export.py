"""Export and import again: what comes back is what was there, for Maildir and mbox."""

from __future__ import annotations

import mailbox
import shutil
from pathlib import Path

import pytest

from support.servers import ANN, BOB, Home, Kept, crlf, mail, make_home


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made")
    home = make_home(path / "mail")
    root = path / "Maildir"
    put(root, "1.x:2,S", mail(1))
    put(root, "2.x:2,DFRTab", mail(2, b"From the start\n>From there\n>>From far\n"))
    put(root, "3.x:2,", b"Subject: no body\n\n")
    put(root, "4.x:2,P", mail(4, b"no line end"))
    put(root / ".Work.2026", "5.x:2,", mail(5))
    put(root / ".Work", "6.x:2,S", mail(6, b"x" * 500_000 + b"\n"))
    put(root / ".Entw&APw-rfe", "7.x:2,", mail(7))
    (root / "dovecot-keywords").write_bytes(b"0 $Label1\n1 work\n")
    home.call("import", ANN, root)
    return path


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    shutil.copytree(made / "mail", tmp_path / "mail")
    return Home(tmp_path / "mail")


def put(path: Path, name: str, octets: bytes) -> None:
    for folder in ("cur", "new", "tmp"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    (path / "cur" / name).write_bytes(octets)


def without_uids(found: dict[str, list[Kept]]) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: sorted((item.flags, item.keywords, item.date, item.octets) for item in kept)
        for name, kept in found.items()
    }


def test_a_maildir_comes_back_as_it_was(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    report = home.parsed("export", ANN, target)
    assert report["added"] == report["verified"] == 7
    box = mailbox.Maildir(target, create=False)
    assert len(box) == 4 and {*box.list_folders()} >= {"Work", "Work.2026"}
    home.call("import", BOB, target)
    assert without_uids(home.mailboxes(BOB)) == without_uids(home.mailboxes(ANN))
    again = home.parsed("export", ANN, target)
    assert again["added"] == 0 and sum(item["known"] for item in again["folders"]) == 7


def test_changes_go_to_a_maildir_too(home: Home, tmp_path: Path, made: Path) -> None:
    target = tmp_path / "out"
    home.call("export", ANN, target)
    root = made / "Maildir"
    shutil.copytree(root, tmp_path / "more")
    # the source of the first import, with a new message and other flags
    put(root, "8.x:2,", mail(8))
    (root / "cur" / "1.x:2,S").rename(root / "cur" / "1.x:2,FS")
    try:
        home.call("import", ANN, root)
    finally:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "more", root)
    report = home.parsed("export", ANN, target)
    inbox = next(item for item in report["folders"] if item["folder"] == "INBOX")
    assert (inbox["added"], inbox["known"], inbox["changed"]) == (1, 4, 1)
    whole = next((target / "cur").glob("*Q3.*"))
    whole.write_bytes(b"")  # as a power failure may leave it
    assert home.parsed("export", ANN, target)["added"] == 1
    assert home.parsed("export", ANN, target, "--dry-run")["added"] == 0


def test_an_mbox_comes_back_as_it_was(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    report = home.parsed("export", ANN, target, "--format", "mbox")
    assert report["added"] == report["verified"] == 7, report
    assert len(mailbox.mbox(target / "INBOX")) == 4
    assert (target / "Work").is_file() and (target / "Work.sbd" / "2026").is_file()
    home.call("import", BOB, target)
    expected = without_uids(home.mailboxes(ANN))
    expected["INBOX"] = sorted(
        (flags, words, date, octets + (b"" if octets.endswith(b"\r\n") else b"\r\n"))  # type: ignore[operator]
        for flags, words, date, octets in expected["INBOX"]
    )
    assert without_uids(home.mailboxes(BOB)) == expected
    assert home.parsed("export", ANN, target, "--format", "mbox")["added"] == 0
    assert home.parsed("import", BOB, target)["added"] == 0


def test_an_mbox_is_gone_on_with_and_never_overwritten(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    home.call("export", ANN, target, "--format", "mbox", "--mailbox", "INBOX")
    whole = (target / "INBOX").read_bytes()
    beside = target / ".INBOX.postroad"
    said = beside.read_text()
    # killed: behind what is noted lies a piece of a message
    beside.write_text(said.replace('"writing":false', '"writing":true'))
    (target / "INBOX").write_bytes(whole + b"From x Mon Nov 2")
    home.call("export", ANN, target, "--format", "mbox", "--mailbox", "INBOX")
    assert (target / "INBOX").read_bytes() == whole
    (target / "INBOX").write_bytes(whole + b"From another program\n")
    result = home.call("export", ANN, target, "--format", "mbox", "--mailbox", "INBOX", expect=1)
    assert "another program" in result.stderr
    (target / "Work").write_bytes(b"mine")
    result = home.call("export", ANN, target, "--format", "mbox", "--mailbox", "Work", expect=1)
    assert "move it away" in result.stderr and (target / "Work").read_bytes() == b"mine"
    assert (target / "Work.sbd" / "2026").is_file(), "the others go"


def test_selections(home: Home, tmp_path: Path) -> None:
    report = home.parsed("export", ANN, tmp_path / "out", "--mailbox", "Work", "--into", "Old")
    assert [item["folder"] for item in report["folders"]] == ["Old/Work", "Old/Work/2026"]
    assert "no mailbox" in home.call("export", ANN, tmp_path / "x", "--mailbox", "No",
                                     expect=3).stderr  # fmt: skip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "no Maildir" in home.call("export", ANN, tmp_path / "full", expect=4).stderr
    assert crlf(mail(5)) in home.octets("Work/2026")
