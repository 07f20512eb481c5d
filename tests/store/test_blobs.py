"""Blobs: drafts in memory and in files, records in packs, what a full or broken disk does."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import resource
import struct
import sys
import threading
import tracemalloc
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroad.database.packs import (
    Damaged,
    FileRef,
    PackRef,
    check_blob,
    file_path,
    pack_path,
    parse_ref,
)
from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError, Unavailable
from postroad.store import appending, open_packs
from postroad.store.blobs import BlobStore
from postroad.store.sweep import DRAFT_AGE_S, remove_stale_drafts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BOUND = limits.DRAFT_MEMORY_OCTETS_MAX
NOISE = random.Random(5).randbytes(BOUND * 2)


@pytest.fixture
def blobs(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = BlobStore.open(tmp_path)
    yield store
    store.close()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 100, 4096, BOUND - 1, BOUND, BOUND + 1, BOUND * 2])
@pytest.mark.parametrize("chunk", [BOUND * 3, 65536, 5000])
@pytest.mark.parametrize("noise", [True, False])
def test_what_is_written_is_read(blobs: BlobStore, size: int, chunk: int, noise: bool) -> None:
    octets = NOISE[:size] if noise else (b"all work and no play " * (size // 21 + 1))[:size]
    draft = blobs.draft()
    for at in range(0, size, chunk):
        draft.write(memoryview(octets)[at : at + chunk])
    assert draft.size == size
    view = draft.view()
    assert view == octets and view.readonly
    with pytest.raises(LocalProtocolError):
        draft.write(b"more")
    blob = draft.commit()
    assert blob[0] == ("f" if size > BOUND else "p")
    assert blobs.read(blob) == octets
    assert view == octets, "a view outlives its draft"
    for start, stop in ((0, 10), (size // 2, size // 2 + 7), (size - 1, size + 99), (size, size)):
        start = max(start, 0)
        assert blobs.read_range(blob, start, stop) == octets[start:stop]
    check_blob(blobs.data_dir, blob)
    draft.discard()
    with pytest.raises(LocalProtocolError):
        draft.commit()


def test_a_draft_that_is_dropped_leaves_nothing(blobs: BlobStore) -> None:
    draft = blobs.draft()
    draft.write(NOISE)
    assert len(list((blobs.data_dir / "tmp").iterdir())) == 1
    draft.discard()
    draft.discard()
    again = blobs.draft()
    again.write(NOISE)
    del again
    assert list((blobs.data_dir / "tmp").iterdir()) == []
    assert list((blobs.data_dir / "files").iterdir()) == []


def test_the_same_big_message_twice_is_two_files(blobs: BlobStore) -> None:
    found = set()
    for _ in range(3):
        draft = blobs.draft()
        draft.write(NOISE)
        found.add(draft.commit())
    assert len(found) == 3
    for blob in found:
        assert blobs.read(blob) == NOISE


def test_a_full_disk_defers_and_leaves_nothing_half(blobs: BlobStore) -> None:
    first = blobs.append(b"first" * 100)
    ref = parse_ref(first)
    assert isinstance(ref, PackRef)
    pack = pack_path(blobs.data_dir, ref.pack)
    size = pack.stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60, limit[1]))
    try:
        with pytest.raises(Unavailable):
            blobs.append(NOISE[:5000])
        assert pack.stat().st_size == size
        draft = blobs.draft()
        with pytest.raises(Unavailable):
            draft.write(NOISE)
        assert list((blobs.data_dir / "tmp").iterdir()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    second = blobs.append(NOISE[:5000])
    assert blobs.read(first) == b"first" * 100 and blobs.read(second) == NOISE[:5000]


def test_processes_append_to_packs_of_their_own(blobs: BlobStore) -> None:
    other = BlobStore.open(blobs.data_dir)
    refs = [parse_ref(store.append(b"x" * 200)) for store in (blobs, other, blobs, other)]
    packs = [ref.pack for ref in refs if isinstance(ref, PackRef)]
    assert packs == [1, 2, 1, 2]
    other.close()
    third = BlobStore.open(blobs.data_dir)
    ref = parse_ref(third.append(b"y"))
    assert isinstance(ref, PackRef) and ref.pack == 2 and ref.offset > 0
    third.close()


def test_a_new_pack_that_somebody_looks_at_is_left_for_the_next(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`packs status` tries the lock of each pack for an instant; no delivery fails of it."""
    lock, looks = fcntl.flock, iter([True])

    def busy(fd: int, how: int) -> None:
        if next(looks, False):
            raise BlockingIOError
        lock(fd, how)

    monkeypatch.setattr(appending.fcntl, "flock", busy)
    ref = parse_ref(blobs.append(b"x" * 99))
    assert isinstance(ref, PackRef) and ref.pack == 2


def test_a_pack_with_a_torn_tail_is_neither_cut_nor_added_to(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    blob = store.append(b"kept " * 99)
    store.append(b"torn " * 99)
    store.close()
    pack = pack_path(tmp_path, 1)
    os.truncate(pack, pack.stat().st_size - 5)
    size = pack.stat().st_size
    store = BlobStore.open(tmp_path)
    ref = parse_ref(store.append(b"new"))
    assert isinstance(ref, PackRef) and ref.pack == 2
    assert pack.stat().st_size == size and store.read(blob) == b"kept " * 99
    store.close()


def test_a_pack_that_is_full_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "PACK_OCTETS_MAX", 20_000)
    store = BlobStore.open(tmp_path)
    written = {store.append(NOISE[at : at + 3000]): at for at in range(0, 60_000, 3000)}
    assert len(list((tmp_path / "packs").iterdir())) > 2
    for blob, at in written.items():
        assert store.read(blob) == NOISE[at : at + 3000]
    store.close()


def test_threads_append_at_once(blobs: BlobStore) -> None:
    written: dict[str, bytes] = {}

    def write(seed: int) -> None:
        noise = random.Random(seed)
        for _ in range(50):
            octets = noise.randbytes(noise.randint(0, 3000)) + b"text " * noise.randint(0, 300)
            written[blobs.append(octets)] = octets

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 200
    for blob, octets in written.items():
        assert blobs.read(blob) == octets


def test_threads_read_of_more_packs_than_are_kept_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of the same length at the same place in every pack: only the descriptor tells them
    apart, and a number that was given to another file would hand out another's mail."""
    monkeypatch.setattr(appending, "PACK_OCTETS_MAX", 1000)
    monkeypatch.setattr(open_packs, "OPEN_PACKS_MAX", 2)
    store = BlobStore.open(tmp_path)
    written = {store.append(b"%03d" % number + NOISE[:800]): number for number in range(12)}
    assert len({blob.partition(":")[2] for blob in written}) == 1
    wrong: list[str] = []

    def read(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(400):
            blob, number = dice.choice(list(written.items()))
            ref = parse_ref(blob)
            assert isinstance(ref, PackRef)
            octets, _ = store.read_with_checksum(ref)
            if octets[:3] != b"%03d" % number:
                wrong.append(blob)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(store._packs._packs) <= 2
    store.close()


def test_a_pack_that_was_removed_is_not_kept_open(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    blob = store.append(b"x" * 200)
    store.read(blob + "")
    ref = parse_ref(blob)
    assert isinstance(ref, PackRef)
    store.record(ref)
    other = BlobStore.open(tmp_path)
    second = parse_ref(other.append(b"y" * 200))
    assert isinstance(second, PackRef)
    pack_path(tmp_path, ref.pack).unlink()
    store.record(second)
    assert list(store._packs._packs) == [second.pack]
    other.close()
    store.close()


@settings(max_examples=60, deadline=None)
@example(at=2, bit=3)  # of RAW and ZSTD, which are one bit apart
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_rotten_bit_goes_unseen(
    at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data_dir = tmp_path_factory.mktemp("rot")
    store = BlobStore.open(data_dir)
    blob = store.append(b"Some octets of a message, some of them twice, some of them twice." * 9)
    store.close()
    pack = pack_path(data_dir, 1)
    octets = bytearray(pack.read_bytes())
    octets[at % len(octets)] ^= 1 << bit
    pack.write_bytes(octets)
    with pytest.raises(Damaged):
        check_blob(data_dir, blob)
    with pytest.raises(Unavailable):
        BlobStore(data_dir).read(blob)


def test_a_big_file_that_changed_is_not_handed_out(blobs: BlobStore) -> None:
    draft = blobs.draft()
    draft.write(NOISE)
    blob = draft.commit()
    ref = parse_ref(blob)
    assert isinstance(ref, FileRef)
    path = file_path(blobs.data_dir, ref.name)
    path.write_bytes(NOISE[:-1] + b"?")
    with pytest.raises(Unavailable):
        blobs.read(blob)
    path.write_bytes(NOISE[:-1])
    with pytest.raises(Unavailable):
        blobs.read_range(blob, 0, 5)
    path.unlink()
    with pytest.raises(Unavailable):
        blobs.read(blob)
    with pytest.raises(Damaged):
        check_blob(blobs.data_dir, blob)


@pytest.mark.parametrize(
    "text",
    ["", "p", "p1:2:3", "x1:2:3:4", "p1:a:3:4", "f../../etc/passwd:5", "f" + "a" * 64 + ":1"],
)
def test_what_is_no_reference_is_told(text: str) -> None:
    with pytest.raises(Damaged):
        parse_ref(text)


def test_references_are_rendered_as_they_are_parsed() -> None:
    sha = hashlib.sha256(b"").hexdigest()
    for text in ("p12:0:48:0", f"f{sha}-3:70000"):
        assert str(parse_ref(text)) == text


def test_stale_drafts_are_swept_and_others_are_not(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    used = store.draft()
    used.write(NOISE)
    (path,) = (tmp_path / "tmp").iterdir()
    left = tmp_path / "tmp" / "99-0-0"
    left.write_bytes(b"x")
    now = path.stat().st_mtime
    assert remove_stale_drafts(tmp_path, now) == 0
    assert remove_stale_drafts(tmp_path, now + DRAFT_AGE_S + 9) == 1
    assert not left.exists() and path.exists()
    assert store.read(used.commit()) == NOISE
    store.close()


def test_a_record_never_grows_past_what_it_says(tmp_path: Path) -> None:
    """Whoever can write to the disk cannot make a reader take gigabytes."""
    store = BlobStore.open(tmp_path)
    _, stored = store.records.pack(b"a" * 10_000_000)
    ref = store._appender.append(b"PRz1", stored, 1000, b"x" * 32)
    tracemalloc.start()
    with pytest.raises(Unavailable, match="another length"):
        store.read(str(ref))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    store.close()


@pytest.mark.parametrize("octets", [b"s", b"short", b"all work and no play " * 40])
def test_records_of_the_first_version_are_read(blobs: BlobStore, octets: bytes) -> None:
    """Their checksum leaves the kind out; a record taken for the other kind is found out."""
    plain = len(octets) < 100
    stored = octets if plain else zstd.compress(octets)
    kind, other = (b"PRr1", b"PRz1") if plain else (b"PRz1", b"PRr1")
    tail = struct.pack("<II32s", len(stored), len(octets), hashlib.sha256(octets).digest())
    crc = struct.pack("<I", zlib.crc32(tail + stored))
    blob = f"p7:48:{48 + len(stored)}:{len(octets)}"
    path = pack_path(blobs.data_dir, 7)
    path.write_bytes(bytes(48) + kind + crc + tail + stored)
    assert blobs.read(blob) == octets
    check_blob(blobs.data_dir, blob)
    path.write_bytes(bytes(48) + other + crc + tail + stored)
    with closing(BlobStore.open(blobs.data_dir)) as anew, pytest.raises(Unavailable):
        anew.read(blob)


def test_records_one_after_the_other_are_read_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came since are found all the same, and what checks a record looks at the file."""
    store = BlobStore.open(tmp_path)
    blobs = [store.append(b"%03d" % number + NOISE[:700]) for number in range(20)]
    reads = []
    plain = open_packs.read_at

    def counted(fd: int, count: int, offset: int) -> bytes:
        reads.append(offset)
        return plain(fd, count, offset)

    monkeypatch.setattr(open_packs, "read_at", counted)
    assert [store.read(blob)[:3] for blob in blobs] == [b"%03d" % number for number in range(20)]
    assert len(reads) == 2, "the first, and all that follow it"
    blobs.append(store.append(b"new" + NOISE[:700]))
    assert store.read(blobs[20])[:3] == b"new"
    assert store.read(blobs[3])[:3] == b"003"
    assert store.read(blobs[4])[:3] == b"004"
    ref = parse_ref(blobs[5])
    assert isinstance(ref, PackRef)
    with pack_path(tmp_path, ref.pack).open("r+b") as pack:
        pack.seek(ref.offset + 100)
        pack.write(b"damage")
    with pytest.raises(Damaged):
        store.fault(ref)
    with pytest.raises(Unavailable):
        store.read(blobs[5])
    store.close()


def test_what_was_read_ahead_is_read_again_when_it_is_not_whole(tmp_path: Path) -> None:
    """A record that was being written when those before it were read."""
    store = BlobStore.open(tmp_path)
    blobs = [store.append(b"%03d" % number + NOISE[:700]) for number in range(4)]
    ref = parse_ref(blobs[2])
    assert isinstance(ref, PackRef)
    path = pack_path(tmp_path, ref.pack)
    whole = path.read_bytes()
    path.write_bytes(whole[: ref.offset + 60] + bytes(len(whole) - ref.offset - 60))
    assert store.read(blobs[0])[:3] == b"000"
    assert store.read(blobs[1])[:3] == b"001"
    path.write_bytes(whole)
    assert store.read(blobs[2])[:3] == b"002"
    assert store.read(blobs[3])[:3] == b"003"
    store.close()
