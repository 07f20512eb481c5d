"""Each planted fault is found, mended, and nothing that can be read is lost."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from postroad.database import acknowledged
from postroad.database.connection import open_writer
from postroad.database.local import LocalDatabase, take_lock
from postroad.database.packs import HEADER, pack_path, parse_ref
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.store.operations import Copy, CreateMailbox, DeleteMailbox, Expunge
from postroad.store.repair import Repair, repair
from postroad.store.undelete import removed_messages
from postroad.store.values import Want
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, State, opened

BIG = os.urandom(300_000)
SMALL = b"small " * 50
ALL = UIDSet(((1, 1 << 31),))
WORK = 7


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INBOX: 1 small, 2 big, 4 (keyword), 5 the small one's octets again; a copy of 1 in Drafts;
    3 expunged; a message in Work; one removed with its mailbox."""
    data_dir = tmp_path_factory.mktemp("prepared") / "data"

    async def make() -> None:
        async with opened("local", data_dir) as state:
            await state.append(SMALL, flags=Flag.SEEN)
            await state.append(BIG)
            await state.append(b"third")
            await state.append(b"fourth " * 9, keywords=(b"$Work",), flags=Flag.DELETED)
            await state.append(SMALL)
            for name in ("Work", "Gone"):
                await state.database.submit(CreateMailbox(account=BOB, name=name, now=NOW))
            await state.append(b"working " * 5, mailbox=WORK)
            await state.append(b"gone " * 5, mailbox=WORK + 1)
            await state.database.submit(
                Copy(account=BOB, mailbox=INBOX, uids=[(1, 1)], to=2),
                Expunge(account=BOB, mailbox=INBOX, uids=[(3, 3)], only_deleted=False, now=NOW),
                DeleteMailbox(account=BOB, name="Gone", now=NOW),
            )

    asyncio.run(make())
    return data_dir


@pytest.fixture
def data_dir(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "data")
    return tmp_path / "data"


def execute(data_dir: Path, *statements: str) -> None:
    connection = open_writer(data_dir)
    for sql in statements:
        connection.execute(sql)
    connection.close()


def mail(data_dir: Path) -> dict[str, list[bytes | None]]:
    """Mailbox name to the octets of its messages; None where they cannot be read."""
    found: dict[str, list[bytes | None]] = {}

    def octets(state: State, row: Any) -> bytes | None:
        try:
            return state.store.octets(row)
        except Unavailable:
            return None

    async def read() -> None:
        async with opened("local", data_dir) as state:
            for box in state.store.mailboxes(BOB):
                rows = state.store.messages(BOB, box.mailbox, ALL, Want.OCTETS)
                found[box.name] = [octets(state, row) for page in rows for row in page]

    asyncio.run(read())
    return {name: messages for name, messages in found.items() if messages}


def mended(data_dir: Path) -> Repair:
    """Finds something, mends it all, and leaves a copy of what was before."""
    assert list(verify(data_dir)) != []
    made = repair(data_dir, NOW)
    assert made.found and made.done and made.left == [], made
    assert list(verify(data_dir)) == []
    assert made.folder is not None and (made.folder / "before.db").stat().st_size > 0
    report = json.loads((made.folder / "report.json").read_text())
    assert len(report["found"]) == len(made.found) and report["done"] == made.done
    again = repair(data_dir, NOW)
    assert not again.found and again.folder is None
    return made


WHOLE = {
    "INBOX": [SMALL, BIG, b"fourth " * 9, SMALL],
    "Drafts": [SMALL],
    "Work": [b"working " * 5],
}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE mailbox SET messages = 9, unseen = 8, deleted = 7, size = 6 WHERE mailbox = 1",
        "UPDATE mailbox SET uidnext = 2 WHERE mailbox = 1",
        "UPDATE mailbox SET first_recent = 99 WHERE mailbox = 1",
        "UPDATE mailbox SET highestmodseq = 1 WHERE mailbox = 1",
        "UPDATE counter SET modseq = 2, mailbox = 2, uidvalidity = 3",
        "UPDATE counter SET octets = 1, messages = 2, mailboxes = 3",
        "UPDATE counter SET removed_octets = 0, removed_messages = 9",
        "DELETE FROM counter",
        "DELETE FROM shared",
        "UPDATE shared SET extra = 5",
        "INSERT INTO shared VALUES (77, 99, 1)",
        "DELETE FROM keyword",
        "DROP INDEX message_change",
        "DROP INDEX mailbox_name",
        "DROP TABLE subscription",
        "DELETE FROM removed_mailbox",
        "INSERT INTO expunged VALUES (77, 2, 1, 1, 1)",
        "INSERT INTO search_mark VALUES (77, 1, 99)",
        "INSERT INTO search_block VALUES (77, 0, 1, x'00')",
        "INSERT INTO reader VALUES (77, 1, 78, 5)",
        "INSERT INTO access VALUES (77, 99, 78, 0, '', 'lr')",
    ],
)
def test_what_can_be_counted_is_mended_without_a_loss(data_dir: Path, sql: str) -> None:
    execute(data_dir, sql)
    made = mended(data_dir)
    assert made.taken == []
    assert mail(data_dir) == WHOLE


@pytest.mark.parametrize(
    ("sql", "lost", "found"),
    [
        ("DELETE FROM message WHERE mailbox = 1 AND uid = 2", "INBOX", [BIG]),
        ("DELETE FROM message WHERE mailbox = 7", "Work", [b"working " * 5]),
        ("DELETE FROM removed", "", [b"third", b"gone " * 5]),
    ],
)
def test_contents_that_nothing_names_are_recovered(
    data_dir: Path, sql: str, lost: str, found: list[bytes]
) -> None:
    execute(data_dir, sql)
    made = mended(data_dir)
    assert made.taken == []
    boxes = mail(data_dir)
    assert sorted(boxes.pop("Recovered"), key=str) == sorted(found, key=str)
    expected = {name: [o for o in all_ if name != lost or o not in found] for name, all_ in
                WHOLE.items()}  # fmt: skip
    assert boxes == {name: messages for name, messages in expected.items() if messages}


def test_messages_without_a_mailbox_keep_their_flags(data_dir: Path) -> None:
    execute(data_dir, "DELETE FROM mailbox WHERE mailbox = 1")
    mended(data_dir)
    boxes = mail(data_dir)
    assert boxes["Recovered-1"] == WHOLE["INBOX"]

    async def look() -> None:
        async with opened("local", data_dir) as state:
            assert state.store.mailbox(BOB, "INBOX") is not None
            (rows,) = state.store.messages(BOB, INBOX, ALL)
            assert rows[2].keywords == (b"$Work",) and rows[0].flags == Flag.SEEN

    asyncio.run(look())


def test_messages_without_a_content_are_taken_out(data_dir: Path) -> None:
    execute(data_dir, "DELETE FROM content WHERE heap IN (1, 3)")
    made = mended(data_dir)
    assert [(item["mailbox"], item["uid"]) for item in made.taken] == [
        ("INBOX", 1),
        ("Drafts", 1),
        ("INBOX", 3),
    ]
    assert mail(data_dir) == {"INBOX": WHOLE["INBOX"][1:], "Work": WHOLE["Work"]}

    async def look() -> None:
        async with opened("local", data_dir) as state:
            changes = state.store.changes(BOB, INBOX, 0)
            assert changes is not None and 1 in changes.vanished
            assert [item.uid for item in removed_messages(state.database, BOB)] == [1]

    asyncio.run(look())


def blob_of(data_dir: Path, heap: int) -> str:
    connection = apsw.Connection(str(data_dir / "postroad.db"))
    ((blob,),) = connection.execute("SELECT blob FROM content WHERE heap = ?", (heap,)).fetchall()
    connection.close()
    return str(blob)


def flip(data_dir: Path, blob: str, offset: int) -> None:
    ref = parse_ref(blob)
    path = pack_path(data_dir, ref.pack)  # type: ignore[union-attr]  # a small one is in a pack
    octets = bytearray(path.read_bytes())
    octets[ref.offset + offset] ^= 1  # type: ignore[union-attr]
    path.write_bytes(octets)


def test_a_flipped_bit_is_healed_by_the_same_octets_elsewhere(data_dir: Path) -> None:
    first, twin = blob_of(data_dir, 1), blob_of(data_dir, 5)
    if first == twin:
        pytest.skip("both messages name one record: there is no other")
    flip(data_dir, first, HEADER.size + 5)
    made = mended(data_dir)
    assert made.taken == [] and any(twin in text for text in made.done)
    assert mail(data_dir) == WHOLE


@pytest.mark.parametrize("offset", [0, 5, 20, HEADER.size + 3])
def test_a_flipped_bit_takes_one_message_and_keeps_its_octets(data_dir: Path, offset: int) -> None:
    flip(data_dir, blob_of(data_dir, 6), offset)
    made = mended(data_dir)
    (taken,) = made.taken
    assert (taken["mailbox"], taken["uid"]) == ("Work", 1)
    assert "Subject" in taken["header"]
    assert made.folder is not None
    (raw,) = made.folder.glob("*.raw")
    assert raw.stat().st_size > 40
    assert mail(data_dir) == {name: WHOLE[name] for name in ("INBOX", "Drafts")}


@pytest.mark.parametrize("harm", ["gone", "cut", "changed"])
def test_big_files(data_dir: Path, harm: str) -> None:
    (path,) = (data_dir / "files").glob("*/*")
    match harm:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(BIG[:-9])
        case _:
            path.write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1]))
    made = mended(data_dir)
    assert [item["uid"] for item in made.taken] == [2]
    assert made.folder is not None
    saved = [item for item in made.folder.iterdir() if item.suffix in (".eml", ".raw")]
    assert len(saved) == 1
    assert saved[0].stat().st_size == {"gone": 0, "cut": len(BIG) - 9, "changed": len(BIG)}[harm]
    assert mail(data_dir)["INBOX"] == [SMALL, b"fourth " * 9, SMALL]


def test_a_log_that_was_cut_off_is_noticed(data_dir: Path, tmp_path: Path) -> None:
    """The rows are gone for good; the octets are saved, and said to be answered mail."""
    copied = tmp_path / "crashed"

    async def deliver() -> None:
        async with opened("local", data_dir) as state:
            for number in range(20):
                await state.append(b"late %d " % number * 20)
            shutil.copytree(data_dir, copied)  # as a kill -9 leaves it

    asyncio.run(deliver())
    wal = copied / "postroad.db-wal"
    os.truncate(wal, wal.stat().st_size // 2)
    (finding,) = [item for item in verify(copied) if "answered" in item.text]
    assert finding.kind == "database"
    asyncio.run(_open_and_close(copied))  # a start notices too, and does not forget
    assert any("answered" in item.text for item in verify(copied))
    made = mended(copied)
    assert made.folder is not None
    unnamed = [path.read_bytes() for path in made.folder.glob("unnamed-*.eml")]
    left = mail(copied)["INBOX"]
    for number in range(20):
        octets = b"late %d " % number * 20
        assert (octets in left) != (octets in unnamed)


async def _open_and_close(data_dir: Path) -> None:
    database = LocalDatabase.open(data_dir)
    assert database.recovered.missing > 0
    await database.close()


def test_a_lost_log_is_noticed(data_dir: Path, tmp_path: Path) -> None:
    copied = tmp_path / "crashed"

    async def deliver() -> None:
        async with opened("local", data_dir) as state:
            await state.append(b"late")
            shutil.copytree(data_dir, copied)

    asyncio.run(deliver())
    for name in ("postroad.db-wal", "postroad.db-shm"):
        (copied / name).unlink()
    assert [item.kind for item in verify(copied)] == ["database"]
    mended(copied)
    assert not (copied / acknowledged.MISSING_NAME).exists()


def test_nothing_is_touched_while_a_server_runs(data_dir: Path) -> None:
    execute(data_dir, "UPDATE mailbox SET messages = 9 WHERE mailbox = 1")
    lock = take_lock(data_dir)
    with pytest.raises(StateError) as caught:
        repair(data_dir, NOW)
    assert caught.value.fault is Fault.INUSE
    os.close(lock)
    mended(data_dir)


def test_a_full_disk_stops_before_anything_is_changed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(data_dir, "UPDATE mailbox SET messages = 9 WHERE mailbox = 1")
    usage = shutil.disk_usage(data_dir)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: type(usage)(9, 9, 9))
        with pytest.raises(Unavailable, match="free"):
            repair(data_dir, NOW)
    assert len(list(verify(data_dir))) > 0
    mended(data_dir)


def test_a_rotten_page_is_nothing_to_mend(data_dir: Path) -> None:
    path = data_dir / "postroad.db"
    connection = apsw.Connection(str(path))
    ((page,),) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'content'"
    ).fetchall()
    connection.close()
    octets = bytearray(path.read_bytes())
    octets[(page - 1) * 8192 : (page - 1) * 8192 + 300] = b"\xff" * 300
    path.write_bytes(octets)
    with pytest.raises(Unavailable):
        repair(data_dir, NOW)
    assert path.read_bytes() == bytes(octets)


def test_many_faults_at_once(data_dir: Path) -> None:
    execute(
        data_dir,
        "DROP INDEX message_change",
        "DELETE FROM counter",
        "DELETE FROM mailbox WHERE mailbox IN (1, 7)",
        "DELETE FROM shared",
        "DELETE FROM keyword",
        "DELETE FROM message WHERE mailbox = 1 AND uid = 2",
        "DELETE FROM content WHERE heap = 4",
        "INSERT INTO search_mark VALUES (77, 1, 99)",
    )
    flip(data_dir, blob_of(data_dir, 6), HEADER.size)
    made = mended(data_dir)
    assert sorted(item["uid"] for item in made.taken) == [1, 4]
    boxes = mail(data_dir)
    assert boxes == {"Recovered-1": [SMALL, SMALL], "Drafts": [SMALL], "Recovered": [BIG]}


def test_the_search_index_is_checked_with_everything(data_dir: Path) -> None:
    execute(data_dir, "INSERT INTO search_mark VALUES (77, 1, 99)")
    assert {item.kind for item in verify(data_dir)} == {"search"}
