"""Dictionaries: what is learnt serves new small records, and is needed for as long as they live."""

from __future__ import annotations

import asyncio
import os
import random
import tarfile
from pathlib import Path

import pytest

from postroad.database.packs import DICTIONARY, RAW, ZSTD, PackRef, parse_ref
from postroad.mail.errors import Unavailable
from postroad.store import dictionary, training
from postroad.store.blobs import BlobStore
from postroad.store.dictionary import FOLDER, Dictionaries, listed, path_of, train
from postroad.store.records import DICTIONARY_OCTETS_MAX
from postroad.store.repair import repair
from postroad.store.verify import verify
from support.state import BOB, NOW, opened

WORDS = [f"word{number}" for number in range(400)]


def letter(dice: random.Random) -> bytes:
    """Small mail as it is: much in common, and something of its own."""
    return (
        b"Received: from relay%d.example.org (relay%d.example.org [192.0.2.%d])\r\n"
        b"Message-ID: <%x@mail.example.org>\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\nSubject: %s\r\n\r\n%s\r\n'
        % (
            dice.randrange(9),
            dice.randrange(9),
            dice.randrange(255),
            dice.getrandbits(64),
            " ".join(dice.choices(WORDS, k=5)).encode(),
            " ".join(dice.choices(WORDS, k=80)).encode(),
        )
    )


def letters(count: int, seed: int = 1) -> list[bytes]:
    dice = random.Random(seed)
    return [letter(dice) for _ in range(count)]


def kind_of(blobs: BlobStore, blob: str) -> bytes:
    ref = parse_ref(blob)
    assert isinstance(ref, PackRef)
    return blobs.record(ref)[0]


def trained(data_dir: Path, seed: int = 1) -> None:
    made = train(data_dir / FOLDER, letters(1200, seed), 1)
    assert made.number and made.ratio > made.plain * dictionary.GAIN_MIN


def test_small_messages_shrink_and_are_read_again(tmp_path: Path) -> None:
    before = BlobStore.open(tmp_path)
    old = before.append(letters(1)[0])
    assert kind_of(before, old) == ZSTD
    trained(tmp_path)
    blobs = BlobStore.open(tmp_path)
    texts = letters(50, seed=2)
    kept = {blobs.append(octets): octets for octets in texts}
    assert {kind_of(blobs, blob) for blob in kept} == {DICTIONARY}
    plain = sum(len(before.records.pack(octets)[1]) for octets in texts)
    learnt = sum(len(blobs.records.pack(octets)[1]) for octets in texts)
    assert learnt < plain * 0.8
    for reader in (blobs, before, BlobStore(tmp_path)):
        for blob, octets in kept.items():
            assert reader.read(blob) == octets
        assert reader.read(old) == letters(1)[0]
    noise = random.Random(3).randbytes(500)
    assert kind_of(blobs, blobs.append(noise)) == RAW
    assert kind_of(blobs, blobs.append(b"a" * (DICTIONARY_OCTETS_MAX + 1))) == ZSTD
    off = BlobStore.open(tmp_path, learnt=False)
    assert kind_of(off, off.append(texts[0])) == ZSTD
    assert off.read(next(iter(kept))) == texts[0]


def test_a_running_process_takes_a_new_dictionary_into_use(tmp_path: Path) -> None:
    blobs = BlobStore.open(tmp_path)
    octets = letters(1, seed=5)[0]
    first = blobs.append(octets)
    trained(tmp_path)
    refs = [blobs.append(octets) for _ in range(dictionary.LOOK_EVERY + 2)]
    assert kind_of(blobs, first) == ZSTD and kind_of(blobs, refs[-1]) == DICTIONARY
    trained(tmp_path, seed=7)
    refs += [blobs.append(octets) for _ in range(dictionary.LOOK_EVERY + 2)]
    assert len(listed(tmp_path / FOLDER)) == 2
    assert all(BlobStore(tmp_path).read(blob) == octets for blob in refs[::50])


@pytest.mark.parametrize("how", ["gone", "flipped", "cut", "another"])
def test_a_dictionary_that_is_not_whole_is_told_and_never_used(tmp_path: Path, how: str) -> None:
    trained(tmp_path)
    blobs = BlobStore.open(tmp_path)
    octets = letters(1, seed=5)[0]
    blob = blobs.append(octets)
    ((number, id),) = listed(tmp_path / FOLDER)
    path = path_of(tmp_path / FOLDER, number, id)
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "another":
        path.rename(path_of(tmp_path / FOLDER, number, id ^ 1))
    else:
        path.write_bytes(whole[:-9] if how == "cut" else whole[:99] + b"?" + whole[100:])
    fresh = BlobStore.open(tmp_path)
    with pytest.raises(Unavailable, match="dictionary"):
        fresh.read(blob)
    assert fresh.read(fresh.append(octets)) == octets, "new mail does without"
    if how != "another":
        path.write_bytes(whole)
        assert BlobStore(tmp_path).read(blob) == octets


def test_too_little_mail_or_mail_of_nothing_in_common_makes_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        train(tmp_path / FOLDER, letters(20), 1)
    dice = random.Random(4)
    noise = [dice.randbytes(400) for _ in range(1100)]
    made = train(tmp_path / FOLDER, noise, 1)
    assert made.number == 0 and listed(tmp_path / FOLDER) == []


def test_a_crash_while_it_is_kept_leaves_no_dictionary_or_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        dictionary.keep(tmp_path / FOLDER, b"x" * 99, 5)
    monkeypatch.undo()
    assert listed(tmp_path / FOLDER) == []


def test_samples_come_from_all_over_and_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with opened("local", tmp_path) as state:
            texts = letters(60)
            for octets in texts:
                await state.append(octets)
            await state.append(b"x" * 50)
            await state.append(b"y" * 20_000)
            await state.append(b"z" * 300_000)
            found = training.samples(state.database, tmp_path)
            assert sorted(found) == sorted(texts)
            monkeypatch.setattr(training, "SAMPLES", 10)
            some = training.samples(state.database, tmp_path)
            assert len(some) == 10 and texts[0] in some and set(some) & set(texts[-12:])
            assert not training.is_due(state.database, tmp_path)
            monkeypatch.setattr(training, "MESSAGES_MIN", 60)
            assert training.is_due(state.database, tmp_path)

    asyncio.run(run())


def test_verify_looks_into_records_with_a_dictionary(tmp_path: Path) -> None:
    async def run() -> None:
        trained(tmp_path)
        async with opened("local", tmp_path) as state:
            await state.append(letters(1, seed=9)[0])

    asyncio.run(run())
    assert list(verify(tmp_path)) == []
    ((number, id),) = listed(tmp_path / FOLDER)
    path_of(tmp_path / FOLDER, number, id).unlink()
    assert ["dictionary" in finding.text for finding in verify(tmp_path)] == [True]


def test_repair_takes_nothing_out_for_want_of_a_dictionary(tmp_path: Path) -> None:
    """The records are whole: the file need only be put back."""

    async def run(check: bool) -> None:
        async with opened("local", tmp_path) as state:
            if not check:
                await state.append(letters(1, seed=9)[0])
            box = state.store.mailbox(BOB, "INBOX")
            assert box is not None and box.messages == 1

    trained(tmp_path)
    asyncio.run(run(False))
    ((number, id),) = listed(tmp_path / FOLDER)
    path = path_of(tmp_path / FOLDER, number, id)
    whole = path.read_bytes()
    for octets in (None, whole[:-1], whole[:50] + b"?" + whole[51:]):
        path.unlink() if octets is None else path.write_bytes(octets)
        made = repair(tmp_path, NOW)
        assert not made.taken and [Dictionaries.is_at_fault(item.text) for item in made.left]
    path.write_bytes(whole)
    asyncio.run(run(True))


@pytest.mark.skipif("POSTROAD_SHARED" not in os.environ, reason="POSTROAD_SHARED is not set")
def test_real_mail_halves_again(tmp_path: Path) -> None:
    shared = Path(os.environ["POSTROAD_SHARED"]) / "corpus" / "spamassassin.tar.xz"
    if not shared.exists():
        pytest.skip("no corpus")
    texts = []
    with tarfile.open(shared) as corpus:
        for member in corpus:
            file = corpus.extractfile(member) if member.isfile() else None
            if file is not None and 200 < member.size <= DICTIONARY_OCTETS_MAX:
                texts.append(file.read())
    random.Random(1).shuffle(texts)
    made = train(tmp_path / FOLDER, texts, 1)
    assert made.number and made.ratio > 2.7 and made.plain < 2.3
