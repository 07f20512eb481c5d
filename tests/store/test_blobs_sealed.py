"""Encrypted accounts: nothing of their mail lies in the clear, all of it is read, none is lost."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.database.packs import SEALED, Damaged, FileRef, PackRef, file_path, parse_ref
from postroad.directory.operations import AddAccount, RemoveAccount
from postroad.mail import limits
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.secret import Secret
from postroad.mail.uidset import UIDSet
from postroad.queue.operations import Enqueue, QueuedPath
from postroad.store import recoding
from postroad.store.blobs import BlobStore
from postroad.store.compaction import Compactor, Rules
from postroad.store.gate import Gate
from postroad.store.keys import (
    CELL,
    Cipher,
    Keys,
    NoKey,
    check_master_key,
    new_master_key,
    new_wrapped_key,
    read_master_key,
    unwrap_key,
)
from postroad.store.mailboxes import MailStore
from postroad.store.operations import Append, Copy
from postroad.store.recoding import accounts_to_convert, recode
from postroad.store.sealed_files import CHUNK_OCTETS, SealedFile, write_sealed
from postroad.store.sealing import octets_of
from postroad.store.undelete import header_of
from postroad.store.upkeep import Encrypt, Recode, Relocate
from postroad.store.values import Appended, Content, MessageRow, Want
from support.state import BOB, FORMS, INBOX, NOW, State, opened

MASTER = Secret(bytes(range(32)))
ANN = 78
NEEDLE = b"nobody shall read this"
EVERYTHING = (
    Want.ENVELOPE | Want.BODY | Want.BODYSTRUCTURE | Want.HEADER | Want.OCTETS | Want.PREVIEW
)
BIG = random.Random(5).randbytes(limits.DRAFT_MEMORY_OCTETS_MAX + 99_999) + NEEDLE
RULES = Rules(octets_per_second=1 << 40, age_s=0.0, grace_s=0.0, live_share=1.0)


class Site:
    """A process that has the keys."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.keys = Keys(MASTER, state.database)
        self.blobs = BlobStore.open(state.data_dir, keys=self.keys, remembers=True)
        self.gate = Gate(state.database, self.blobs, self.keys)
        self.store = MailStore(state.database, self.blobs, self.keys)

    def content(self, octets: bytes, account: int = 0) -> Content:
        draft = self.blobs.draft()
        draft.write(octets)
        blob = draft.commit(account)
        return Content(
            blob=blob,
            head=b"X-Head: " + NEEDLE + b"\r\n",
            size=len(octets) + len(NEEDLE) + 10,
            envelope=b'("' + NEEDLE + b'")',
            body=b'("body ' + NEEDLE + b'")',
            bodystructure=b'("structure ' + NEEDLE + b'")',
            header=b"Subject: " + NEEDLE + b"\r\n\r\n",
            structure=b"offsets " + NEEDLE,
            preview="preview é " + NEEDLE.decode(),
            sent=NOW,
        )

    async def append(self, octets: bytes, *accounts: int, sole: bool = False) -> list[Appended]:
        content = self.content(octets, accounts[0] if sole else 0)
        return await self.gate.submit(
            *(
                Append(account=account, mailbox=INBOX, content=content, internal_date=NOW)
                for account in accounts
            )
        )

    async def encrypt(self, account: int = BOB, sealed: bool = True) -> None:
        await self.state.database.submit(
            Encrypt(account=account, sealed=sealed, wrapped=self.keys.new_key(account), now=NOW)
        )

    async def recode(self, account: int = BOB) -> recoding.Converted:
        return await recode(self.state.database, self.blobs, self.keys, account)

    def rows(self, account: int = BOB, store: MailStore | None = None) -> list[MessageRow]:
        return [
            row
            for batch in (store or self.store).messages(
                account, INBOX, UIDSet.of_ranges([(1, 1 << 32)]), EVERYTHING
            )
            for row in batch
        ]

    def check(self, octets: list[bytes], account: int = BOB) -> None:
        """All columns of all messages as they were made."""
        rows = self.rows(account)
        assert len(rows) == len(octets)
        for row, expected in zip(rows, octets, strict=True):
            made = self.content(b"")
            for name in ("head", "envelope", "body", "bodystructure", "header", "structure"):
                assert getattr(row, name) == getattr(made, name), name
            assert row.preview == made.preview
            assert self.store.octets(row) == made.head + expected
            assert self.store.octets_range(row, 3, 60) == (made.head + expected)[3:60]

    def close(self) -> None:
        self.blobs.close()


async def add_ann(state: State) -> None:
    await state.database.submit(
        AddAccount(account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s", now=NOW)
    )


def plain_cells(state: State, account: int = BOB) -> int:
    """Of how many rows a column lies in the clear."""
    needle = NEEDLE.hex()
    columns = ("head", "envelope", "body", "bodystructure", "header", "structure", "preview")
    where = " OR ".join(f"instr(hex({name}), upper('{needle}'))" for name in columns)
    row = state.database.first(
        f"SELECT count(*) FROM content WHERE account = {account} AND ({where})"
    )
    assert row is not None
    return int(row[0])


def on_disk(data_dir: Path) -> list[str]:
    """The files that hold the needle."""
    return [
        path.name for path in data_dir.rglob("*") if path.is_file() and NEEDLE in path.read_bytes()
    ]


@pytest.mark.parametrize("form", FORMS)
def test_new_mail_of_an_encrypted_account_lies_nowhere_in_the_clear(
    tmp_path: Path, form: str
) -> None:
    async def run() -> None:
        async with opened(form, tmp_path) as state:
            site = Site(state)
            await site.encrypt()
            assert (await site.recode()).rows == 0
            small = b"Subject: a\r\n\r\n" + NEEDLE
            await site.append(small, BOB, sole=True)
            await site.append(BIG, BOB, sole=True)
            site.check([small, BIG])
            assert on_disk(tmp_path) == []
            other = Site(state)
            other.check([small, BIG])
            site.close()
            other.close()

    asyncio.run(run())


def test_one_message_for_several_is_sealed_for_each_that_wants_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            await add_ann(state)
            site = Site(state)
            await site.encrypt()
            octets = b"Subject: a\r\n\r\n" + NEEDLE
            await site.append(octets, BOB, ANN)
            site.check([octets])
            site.check([octets], ANN)
            assert plain_cells(state) == 0 and plain_cells(state, ANN) == 1
            (bobs,) = site.rows()
            (anns,) = site.rows(ANN)
            assert site.blobs.owner(str(bobs.blob)) == BOB
            assert site.blobs.owner(str(anns.blob)) == 0
            await site.encrypt(ANN)
            await site.append(octets, ANN, BOB, sole=True)
            assert len({row.blob for row in site.rows(ANN) + site.rows()}) == 4
            site.check([octets, octets])
            site.close()

    asyncio.run(run())


def test_what_is_there_is_converted_and_back_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recoding, "ROWS", 3)
    monkeypatch.setattr(recoding, "SPAN", 5)

    async def run() -> None:
        async with opened("local", tmp_path) as state:
            await add_ann(state)
            site = Site(state)
            texts = [b"%d " % number + NEEDLE * (number + 1) for number in range(17)] + [BIG]
            for octets in texts:
                await site.append(octets, BOB)
                await site.append(octets, ANN)
            before = [(row.uid, row.modseq, row.flags, row.size) for row in site.rows()]
            assert plain_cells(state) == len(texts)
            indexed = "SELECT count(*) FROM search_block"
            state.local._writer._connection.execute(
                f"INSERT INTO search_block VALUES ({BOB}, 1, 1, x'00'), ({ANN}, 1, 1, x'00')"
            )
            await site.encrypt()
            site.check(texts)
            assert accounts_to_convert(state.database) == [BOB]
            assert (await site.recode()).rows == len(texts)
            assert state.database.first(indexed) == (1,), "what was indexed in the clear is gone"
            state.local._writer._connection.execute("DELETE FROM search_block")
            assert accounts_to_convert(state.database) == []
            assert plain_cells(state) == 0 and plain_cells(state, ANN) == len(texts)
            assert {site.blobs.owner(str(row.blob)) for row in site.rows()} == {BOB}
            site.check(texts)
            site.check(texts, ANN)
            assert [(row.uid, row.modseq, row.flags, row.size) for row in site.rows()] == before
            assert (await site.recode()).rows == 0
            await site.encrypt(sealed=False)
            texts.append(b"while it is opened")
            await site.append(texts[-1], BOB)
            assert (await site.recode()).rows == len(texts) - 1
            assert plain_cells(state) == len(texts)
            assert {site.blobs.owner(str(row.blob)) for row in site.rows()} == {0}
            site.check(texts)
            plain = MailStore(state.database, state.blobs)
            assert [plain.octets(row)[-5:] for row in site.rows(store=plain)] == [
                octets[-5:] for octets in texts
            ]
            site.close()

    asyncio.run(run())


@pytest.mark.parametrize("stop_after", range(8))
def test_a_conversion_that_is_cut_short_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    monkeypatch.setattr(recoding, "ROWS", 2)

    class Stop(Exception):
        pass

    texts = [b"%d " % number + NEEDLE for number in range(11)]

    async def first() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            for octets in texts:
                await site.append(octets, BOB)
            await site.encrypt()
            steps = iter(range(stop_after))

            def progress(at: int, end: int) -> None:
                if next(steps, None) is None:
                    raise Stop

            try:
                await recode(state.database, site.blobs, site.keys, BOB, progress=progress)
            except Stop:
                assert stop_after < 6
            site.check(texts)
            site.close()

    async def second() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            site.check(texts)
            await site.recode()
            assert plain_cells(state) == 0
            site.check(texts)
            compactor = Compactor(state.database, tmp_path, RULES)
            site.close()
            for at in (1, 2, 3):
                await compactor.round(time.time() + at)
            await compactor.retire(time.time() + 9)
            site.check(texts)
            compactor.close()

    asyncio.run(first())
    asyncio.run(second())


def test_a_row_that_compaction_moves_meanwhile_is_looked_at_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.append(NEEDLE * 9, BOB)
            await site.encrypt()
            (row,) = site.rows()
            moved = site.blobs.append(NEEDLE * 9 + b"")
            moved = BlobStore.open(tmp_path).append(NEEDLE * 9)
            submit = state.database.submit
            done = []

            async def late(*operations: object) -> list[object]:
                if not done and isinstance(operations[0], Recode) and operations[0].rows:
                    done.append(1)
                    await submit(Relocate(moves=((str(row.blob), moved),)))
                return await submit(*operations)  # type: ignore[arg-type]

            state.database.submit = late  # type: ignore[method-assign,assignment]
            await site.recode()
            state.database.submit = submit  # type: ignore[method-assign]
            assert done and plain_cells(state) == 0
            site.check([NEEDLE * 9])
            site.close()

    asyncio.run(run())


def test_sizes_and_headers_are_known_of_what_lies_sealed(tmp_path: Path) -> None:
    """What repair and undelete ask for: a size without a key, a header with one."""

    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            texts = [b"x", NEEDLE * 40, BIG, b"y" * 262_145]
            for octets in texts:
                await site.append(octets, BOB)
            for sealed in (False, True):
                await site.encrypt(sealed=sealed)
                await site.recode()
                rows = list(
                    state.database.execute("SELECT heap, head, blob FROM content ORDER BY heap")
                )
                head = site.content(b"").head
                for (heap, kept, blob), octets in zip(rows, texts, strict=True):
                    assert octets_of(kept, blob) == len(head) + len(octets)
                    header = header_of(state.database, BOB, heap, site.keys)
                    assert header == site.content(b"").header
                    without = header_of(state.database, BOB, heap)
                    assert without == (b"" if sealed else header)
            site.close()

    asyncio.run(run())


def test_who_is_told_otherwise_meanwhile_stops(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.append(NEEDLE, BOB)
            await site.encrypt()
            with pytest.raises(StateError, match="otherwise"):
                await state.database.submit(Recode(account=BOB, sealed=False, rows=(), position=-1))
            site.close()

    asyncio.run(run())


@pytest.mark.parametrize("source", [True, False])
@pytest.mark.parametrize("target", [True, False])
def test_a_copy_into_another_account_takes_that_ones_key(
    tmp_path: Path, source: bool, target: bool
) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            await add_ann(state)
            site = Site(state)
            for account, wanted in ((BOB, source), (ANN, target)):
                if wanted:
                    await site.encrypt(account)
                    await site.recode(account)
            await site.append(NEEDLE * 3, BOB, sole=True)
            results = await site.gate.submit(
                Copy(
                    account=BOB,
                    mailbox=INBOX,
                    uids=[(1, 1)],
                    to=INBOX,
                    to_account=ANN,
                    now=NOW,
                )
            )
            assert len(results) == 1
            site.check([NEEDLE * 3], ANN)
            (row,) = site.rows(ANN)
            assert site.blobs.owner(str(row.blob)) == (ANN if target else 0)
            assert plain_cells(state, ANN) == (not target)
            await state.database.submit(RemoveAccount(account=BOB))
            fresh = Site(state)
            fresh.check([NEEDLE * 3], ANN)
            fresh.close()
            site.close()

    asyncio.run(run())


def test_an_account_that_is_removed_takes_its_key_along(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.encrypt()
            await site.append(NEEDLE, BOB, sole=True)
            (row,) = site.rows()
            ((wrapped,),) = state.database.execute("SELECT wrapped FROM account_key")
            await state.database.submit(RemoveAccount(account=BOB))
            assert state.database.first("SELECT 1 FROM account_key") is None
            fresh = Site(state)
            with pytest.raises(NoKey):
                fresh.blobs.read(str(row.blob))
            fresh.close()
            site.close()
            await state.local.close()
            assert wrapped not in (tmp_path / "postroad.db").read_bytes()

    asyncio.run(run())


def test_mail_for_others_is_nobodys_and_leaves_unsealed(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.encrypt()
            content = site.content(b"for elsewhere" * 9, BOB)
            assert site.blobs.owner(content.blob) == BOB
            await site.gate.submit(
                Enqueue(
                    message="m1",
                    blob=content.blob,
                    head=b"",
                    size=9,
                    reverse_path="",
                    recipients=(QueuedPath(path="a@b.example", domain="b.example"),),
                    accepted=NOW,
                    expires=NOW + 9,
                )
            )
            queued = state.queue.message("m1")
            assert queued is not None
            assert state.blobs.read(queued.blob) == b"for elsewhere" * 9
            site.close()

    asyncio.run(run())


def test_a_wrong_or_missing_master_key_is_told_before_anything(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            check_master_key(state.database, None)
            check_master_key(state.database, MASTER)
            site = Site(state)
            await site.encrypt()
            check_master_key(state.database, MASTER)
            for wrong, words in ((None, "names no key"), (Secret(b"x" * 32), "is not the key")):
                with pytest.raises(StateError, match=words) as caught:
                    check_master_key(state.database, wrong)
                assert caught.value.fault is Fault.CANNOT
            with pytest.raises(NoKey, match="another one"):
                Keys(Secret(b"x" * 32), state.database).cipher(BOB)
            with pytest.raises(NoKey, match="another one"):
                Keys(Secret(b"x" * 32), state.database).sealing(BOB)
            site.close()

    asyncio.run(run())


@pytest.mark.parametrize("text", [b"", b"xyz", b"ab" * 31, b"ab" * 33, "é".encode() * 64])
def test_what_is_no_master_key_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match="hexadecimal digits"):
        read_master_key(text)
    assert len(read_master_key(new_master_key()).reveal()) == 32


def test_a_wrapped_key_opens_for_its_account_only() -> None:
    wrapped = new_wrapped_key(MASTER, BOB)
    assert len(unwrap_key(MASTER, BOB, wrapped)) == 32
    for account, octets in ((ANN, wrapped), (BOB, wrapped[:-1]), (BOB, b"")):
        with pytest.raises(NoKey):
            unwrap_key(MASTER, account, octets)


@settings(max_examples=80, deadline=None)
@given(octets=st.binary(max_size=300), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_sealed_values_open_as_they_were_and_not_otherwise(
    octets: bytes, at: int, bit: int
) -> None:
    cipher = Cipher(BOB, b"k" * 32)
    cell = cipher.seal(octets, b"head")
    assert cipher.open(cell, b"head") == octets
    assert cipher.open(octets, b"head") == octets or octets.startswith(CELL)
    with pytest.raises(NoKey):
        cipher.open(cell, b"body")
    with pytest.raises(NoKey):
        Cipher(BOB, b"l" * 32).open(cell, b"head")
    bad = bytearray(cell)
    bad[len(CELL) + 8 + at % (len(cell) - len(CELL) - 8)] ^= 1 << bit
    with pytest.raises(NoKey):
        cipher.open(bytes(bad), b"head")
    sealed = cipher.seal_record(octets)
    assert cipher.open_record(sealed) == octets
    assert cipher.seal_record(octets) != sealed, "a nonce is never used twice"
    block = cipher.seal_search(octets, b"7")
    assert cipher.open_search(block, b"7") == octets
    with pytest.raises(NoKey):
        cipher.open_search(block, b"8")


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from(
        [0, 1, CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 3 * CHUNK_OCTETS, 200_001]
    ),
    start=st.integers(0, 210_000),
    length=st.integers(0, 210_000),
)
def test_any_stretch_of_a_sealed_file_is_read(
    size: int, start: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    octets = random.Random(size).randbytes(size)
    path = tmp_path_factory.mktemp("sealed") / "file"
    cipher = Cipher(BOB, b"k" * 32)

    class Only:
        def cipher(self, account: int) -> Cipher:
            assert account == BOB
            return cipher

    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    _, written = write_sealed(memoryview(octets), cipher, fd)
    assert path.stat().st_size == written
    file = SealedFile(fd, written, Only())  # type: ignore[arg-type]
    assert file.size == size
    assert file.read(start, start + length) == octets[start : start + length]
    os.close(fd)


@pytest.mark.parametrize("how", ["flip", "cut", "swap", "longer"])
def test_a_sealed_file_that_changed_is_not_handed_out(tmp_path: Path, how: str) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.encrypt()
            blob = site.content(BIG, BOB).blob
            ref = parse_ref(blob)
            assert isinstance(ref, FileRef)
            path = file_path(tmp_path, ref.name)
            octets = bytearray(path.read_bytes())
            head, chunk = 44, CHUNK_OCTETS + 16
            if how == "flip":
                octets[head + 5] ^= 1
            elif how == "cut":
                del octets[head + 2 * chunk :]
            elif how == "swap":
                one, two = octets[head : head + chunk], octets[head + chunk : head + 2 * chunk]
                octets[head : head + 2 * chunk] = two + one
            else:
                octets += b"more"
            path.write_bytes(octets)
            with pytest.raises(Unavailable):
                site.blobs.read(blob)
            with pytest.raises(Unavailable):
                site.blobs.read_range(blob, 0, 9)
            site.close()

    asyncio.run(run())


def test_records_say_nothing_of_what_they_hold(tmp_path: Path) -> None:
    """Neither a checksum of the octets nor the same record for the same octets."""

    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.encrypt()
            cipher = site.keys.sealing(BOB)
            assert cipher is not None
            refs = [parse_ref(site.blobs.append(NEEDLE * 9, cipher)) for _ in range(2)]
            found = []
            for ref in refs:
                assert isinstance(ref, PackRef)
                kind, stored, sha256 = site.blobs.record(ref)
                assert kind == SEALED and site.blobs.fault(ref) is None
                assert state.blobs.fault(ref) is None, "verify needs no key"
                with pytest.raises(Unavailable):
                    state.blobs.read(str(ref))
                found.append((bytes(stored[20:]), sha256))
            assert len({*(item for pair in found for item in pair)}) == 4
            site.close()

    asyncio.run(run())


def test_hostile_mail_that_looks_sealed_is_sealed_and_read(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            await site.encrypt()
            hostile = CELL + b"\0" * 40
            content = site.content(hostile)
            content = Content(
                **{
                    **{name: getattr(content, name) for name in content.__struct_fields__},
                    "header": hostile,
                    "preview": "\x01s1:AAAA",
                }
            )
            await site.gate.submit(
                Append(account=BOB, mailbox=INBOX, content=content, internal_date=NOW)
            )
            (row,) = site.rows()
            assert row.header == hostile and row.preview == "\x01s1:AAAA"
            await site.encrypt(sealed=False)
            await site.recode()
            plain = MailStore(state.database, state.blobs)
            (row,) = site.rows(store=plain)
            assert row.header == hostile
            site.close()

    asyncio.run(run())


def test_damage_stays_where_it_is_and_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            site = Site(state)
            for number in range(3):
                await site.append(b"%d " % number + NEEDLE * 9, BOB)
            ref = parse_ref(str(site.rows()[1].blob))
            assert isinstance(ref, PackRef)
            path = tmp_path / "packs" / f"{ref.pack:08d}.pack"

            def flip() -> None:
                octets = bytearray(path.read_bytes())
                octets[ref.offset + 60] ^= 1
                path.write_bytes(octets)

            flip()
            await site.encrypt()
            done = await site.recode()
            assert done.rows == 2 and len(done.unreadable) == 1
            flip()
            site.check([b"%d " % number + NEEDLE * 9 for number in range(3)])
            site.close()

    asyncio.run(run())


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200)
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(Damaged):
        SealedFile(fd, 200, None)
    os.close(fd)
