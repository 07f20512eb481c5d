"""Reading mbox as programs have written it."""

from __future__ import annotations

import mailbox
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroad.admin.transfer.mbox import MboxSource
from postroad.admin.transfer.places import Folder, ToCRLF
from postroad.mail.flags import Flag
from support.servers import ANN, Home, crlf, make_home, run

FROM = b"From ann@x.example Mon Nov 23 10:00:00 2026\n"
DATE = 1795428000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    make_home(path / "mail")
    return path / "mail"


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    shutil.copytree(made, tmp_path / "mail")
    return Home(tmp_path / "mail")


class Desk:
    """Takes everything, into memory."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def known(self, identity: bytes) -> bool:
        return False

    def draft(self) -> Memory:
        return Memory()


class Memory:
    def __init__(self) -> None:
        self.octets = b""

    def write(self, octets: bytes) -> None:
        self.octets += octets


def read(path: Path) -> list[tuple[bytes, int, tuple[bytes, ...], int | None]]:
    async def walk() -> list[tuple[bytes, int, tuple[bytes, ...], int | None]]:
        folder = Folder(name="x", place=path)
        return [
            (item.draft.octets, item.flags, item.keywords, item.internal_date)  # type: ignore[union-attr]
            async for item in MboxSource(path).messages(folder, Desk())  # type: ignore[arg-type]
        ]

    return run(walk())  # type: ignore[no-any-return]


def written(path: Path, octets: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    return path


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_quoted_lines_flags_and_dates(tmp_path: Path, end: bytes) -> None:
    octets = (
        FROM + b"Subject: 1\nStatus: RO\nX-Status: AFT\nX-Keywords: $Label1 work  \nX-UID: 7\n"
        b"Content-Type: text/plain;\n charset=x\n\n>From here\n>>From there\n"
        b"From nobody to nobody\n"
        b"\nFrom a sentence\n\n" + FROM + b"Subject: 2\n\nbody\n\n\n"
        + FROM + b"Subject: 3\n\nlast, without end"
    )  # fmt: skip
    first, second, third = read(written(tmp_path / "box", octets.replace(b"\n", end)))
    assert first[0] == crlf(
        b"Subject: 1\nContent-Type: text/plain;\n charset=x\n\nFrom here\n>From there\n"
        b"From nobody to nobody\n\nFrom a sentence\n"
    )
    assert first[1] == Flag.SEEN | Flag.ANSWERED | Flag.FLAGGED | Flag.DRAFT
    assert first[2] == (b"$Label1", b"work") and first[3] == DATE
    assert second[0] == crlf(b"Subject: 2\n\nbody\n\n") and second[1] == 0
    assert third[0] == crlf(b"Subject: 3\n\nlast, without end")


def test_mozilla_and_what_it_has_removed(tmp_path: Path) -> None:
    octets = (
        b"From - Mon Nov 23 10:00:00 2026\nX-Mozilla-Status: 1007\nX-Mozilla-Status2: 00000000\n"
        b"X-Mozilla-Keys: $label2 \nSubject: kept\n\nbody\n\n"
        b"From - Mon Nov 23 10:00:00 2026\nX-Mozilla-Status: 0009\nSubject: gone\n\nbody\n\n"
    )
    ((text, flags, words, date),) = read(written(tmp_path / "Inbox", octets))
    assert text == crlf(b"Subject: kept\n\nbody\n") and date == DATE
    assert flags == Flag.SEEN | Flag.ANSWERED | Flag.FLAGGED
    assert words == (b"$Forwarded", b"$label2")


def test_content_length_and_odd_messages(tmp_path: Path) -> None:
    body = b"one\n\n" + FROM + b"not another\n"
    octets = (
        FROM + b"Subject: cl\nContent-Length: %d\n\n" % len(body) + body + b"\n"
        + FROM + b"\nno header at all\n\n" + FROM + b"Subject: header alone\n\n"
        + FROM + b"Content-Length: 99999\nSubject: wrong\n\nshort\n\n" + FROM + b"Subject: end\n\n."
    )  # fmt: skip
    found = [item[0] for item in read(written(tmp_path / "box", octets))]
    assert found[0] == crlf(b"Subject: cl\n\n" + body)
    assert found[1] == crlf(b"\nno header at all\n")
    assert found[2] == b"Subject: header alone\r\n"
    assert found[3] == crlf(b"Subject: wrong\n\nshort\n")
    assert found[4] == b"Subject: end\r\n\r\n."


def test_a_tree_of_files(home: Home, tmp_path: Path) -> None:
    root = tmp_path / "Mail"
    for name, subject in (("Inbox", b"1"), ("Work", b"2"), ("Work.sbd/2026", b"3"),
                          ("old/Friends.mbox", b"4"), ("Apple.mbox/mbox", b"5")):  # fmt: skip
        written(root / name, FROM + b"Subject: " + subject + b"\n\nx\n")
    written(root / "Inbox.msf", b"From nothing\n")
    written(root / "notes.txt", b"no mail\n")
    home.call("import", ANN, root)
    found = {name: len(kept) for name, kept in home.mailboxes().items()}
    assert found == {"INBOX": 1, "Work": 1, "Work/2026": 1, "old/Friends": 1, "Apple": 1}


def test_the_same_message_twice_is_two_and_stays_two(home: Home, tmp_path: Path) -> None:
    box = written(tmp_path / "box", (FROM + b"Subject: same\n\nx\n\n") * 3)
    assert home.parsed("import", ANN, box)["added"] == 3
    assert home.parsed("import", ANN, box)["added"] == 0
    with box.open("ab") as file:
        file.write(FROM + b"Subject: same\nStatus: RO\n\nx\n\n" + FROM + b"Subject: new\n\nx\n")
    report = home.parsed("import", ANN, box)
    assert report["added"] == 2 and len(home.mailboxes()["box"]) == 5
    # the program rewrites the file: flags change, and only these come
    box.write_bytes(box.read_bytes().replace(b"Subject: new\n", b"Subject: new\nX-Status: F\n"))
    report = home.parsed("import", ANN, box)
    assert report["added"] == 0 and sum(item["changed"] for item in report["folders"]) == 1
    assert home.mailboxes()["box"][-1].flags == Flag.FLAGGED


def test_what_is_no_mbox(home: Home, tmp_path: Path) -> None:
    assert "no mbox" in home.call("import", ANN, written(tmp_path / "x", b"text"), expect=5).stderr
    (tmp_path / "d").mkdir()
    assert "no mbox" in home.call("import", ANN, tmp_path / "d", expect=5).stderr


@given(st.lists(st.binary(max_size=40).map(lambda o: o.replace(b"\0", b"")), max_size=8))
def test_line_ends_do_not_depend_on_pieces(pieces: list[bytes]) -> None:
    def converted(parts: list[bytes]) -> bytes:
        lines = ToCRLF()
        return b"".join(map(lines.feed, parts)) + lines.finish()

    whole = converted([b"".join(pieces)])
    assert (
        converted(pieces)
        == whole
        == b"".join(pieces).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    )


_LINE = st.sampled_from([b"From x", b">From y Mon Nov 23 10:00:00 2026", b"text", b"", b">>From z",
                         b"From a@b Mon Nov 23 10:00:00 2026"])  # fmt: skip


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(_LINE, min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_pythons_mailbox_writes_is_read(tmp_path: Path, bodies: list[list[bytes]]) -> None:
    path = tmp_path / "box"
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    for number, lines in enumerate(bodies):
        message = mailbox.mboxMessage(b"Subject: %d\n\n" % number + b"\n".join(lines) + b"\n")
        message.set_from("a@b", (2026, 11, 23, 10, 0, 0, 0, 327, 0))
        box.add(message)
    box.close()
    found = [item[0] for item in read(path)]
    # it writes mboxo: a line that had one `>` cannot be told from one that got it
    expected = [
        crlf(b"Subject: %d\n\n" % number + b"\n".join(lines) + b"\n")
        for number, lines in enumerate(bodies)
    ]
    plain = [octets.replace(b"\r\n>", b"\r\n").replace(b"\r\n>", b"\r\n") for octets in expected]
    assert [o.replace(b"\r\n>", b"\r\n").replace(b"\r\n>", b"\r\n") for o in found] == plain


@given(st.binary(max_size=400))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_hostile_files(tmp_path: Path, octets: bytes) -> None:
    for text in (octets, b"From " + octets, FROM + octets + b"\n\n" + FROM + octets):
        if text:
            read(written(tmp_path / "hostile", text))


def test_the_corpus_comes_whole(home: Home, tmp_path: Path) -> None:
    shared = os.environ.get("POSTROAD_SHARED", "")
    packed = Path(shared) / "corpus" / "spamassassin.tar.xz"
    if not shared or not packed.is_file():
        pytest.skip("no corpus")
    texts = []
    with tarfile.open(packed) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None and member.name.rpartition("/")[2][:1].isdigit():
                texts.append(file.read())
            if len(texts) == 300:
                break
    root = tmp_path / "Maildir" / "cur"
    root.mkdir(parents=True)
    for number, octets in enumerate(texts):
        (root / f"{number:05d}.x:2,").write_bytes(octets)
    report = home.parsed("import", ANN, root.parent)
    assert report["added"] + len(report["failed"]) == len(texts) and len(report["failed"]) < 3
    home.call("export", ANN, tmp_path / "out", "--format", "mbox")
    again = home.parsed("import", "bob@one.example", tmp_path / "out")
    assert again["added"] == report["added"]
