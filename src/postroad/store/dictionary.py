"""Compression dictionaries of this server: what its small messages have in common, kept once.

Each is a file `dictionaries/NNNN-<id>.dict`: a magic word, the SHA-256 of what follows, and a zstd
dictionary. The newest serves new records; a record's frame names its dictionary by id, so an old
file is needed for as long as a record may name it, and is never removed or changed. Processes
notice a new one by the folder's time of change.
Knows neither packs nor rows. Trusts nothing it reads before the checksum.
Source: RFC 8878 §5 (dictionary format), §3.1.1.1.3 (a frame names its dictionary).
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from postroad.database.packs import Damaged, sync_directory

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FOLDER = "dictionaries"
MAGIC = b"PRD1"
DICTIONARY_OCTETS = 65_536
"""Measured on mail of 1 to 8 KB: 32 KB compress 5 % worse, 110 KB the same and use more cache."""
SAMPLES_MIN = 1000
"""With fewer a dictionary learns single messages by heart."""
LEVEL = 3
"""With a dictionary level 3 takes the time that level 1 takes without, to half the size."""
LOOK_EVERY = 512
"""Records written between two looks at the folder: a look costs 2 us."""
GAIN_MIN = 1.1
"""A dictionary that saves less than a tenth on messages it has not seen is not taken into use."""
FAULT = "the dictionary "
"""How every text begins that says what is wrong with one."""
_NAME = re.compile(r"(\d{4,9})-([0-9a-f]{8})\.dict")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to. plain, ratio: octets in by octets out, on messages kept apart, of
    compression without and with the dictionary. number: 0 when it was not worth keeping."""

    number: int
    id: int
    octets: int
    samples: int
    plain: float
    ratio: float


class Dictionaries:
    """Safe to use from several threads."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER
        self._mutex = threading.Lock()
        self._known: dict[int, zstd.ZstdDict] = {}
        self._newest: zstd.ZstdDict | None = None
        self._seen = -1
        self._until_look = 0

    def newest(self) -> zstd.ZstdDict | None:
        """For new records. One that cannot be read is passed over: plain compression serves."""
        self._until_look -= 1
        if self._until_look < 0:
            with self._mutex:
                self._until_look = LOOK_EVERY
                self._look()
        return self._newest

    def _look(self) -> None:
        try:
            changed = self.folder.stat().st_mtime_ns
        except OSError:
            return
        if changed == self._seen:
            return
        for number, id in reversed(listed(self.folder)):
            try:
                self._newest = self._load(number, id)
            except Damaged:
                continue
            break
        self._seen = changed

    @staticmethod
    def is_at_fault(fault: str) -> bool:
        """Whether a fault is of a dictionary, not of the record that needs it: the file put back,
        the record can be read."""
        return fault.startswith(FAULT)

    def find(self, id: int) -> zstd.ZstdDict:
        """Raises: Damaged when it is missing, has changed or cannot be read."""
        found = self._known.get(id)
        if found is not None:
            return found
        with self._mutex:
            for number, other in listed(self.folder):
                if other == id:
                    return self._load(number, id)
        raise Damaged(f"{FAULT}{id:08x} is not in {self.folder}")

    def _load(self, number: int, id: int) -> zstd.ZstdDict:
        found = self._known.get(id)
        if found is None:
            found = self._known[id] = load(self.folder, number, id)
        return found


def path_of(folder: Path, number: int, id: int) -> Path:
    return folder / f"{number:04d}-{id:08x}.dict"


def listed(folder: Path) -> list[tuple[int, int]]:
    """(number, id) of every dictionary, ascending."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    matches = (_NAME.fullmatch(name) for name in names)
    return sorted((int(found[1]), int(found[2], 16)) for found in matches if found)


def load(folder: Path, number: int, id: int) -> zstd.ZstdDict:
    """Raises: Damaged."""
    try:
        octets = path_of(folder, number, id).read_bytes()
    except OSError as error:
        raise Damaged(f"{FAULT}{id:08x}: {error}") from error
    kept = octets[36:]
    if octets[:4] != MAGIC or hashlib.sha256(kept).digest() != octets[4:36]:
        raise Damaged(f"{FAULT}{id:08x} has changed")
    try:
        found = zstd.ZstdDict(kept)
    except (ValueError, zstd.ZstdError) as error:
        raise Damaged(f"{FAULT}{id:08x}: {error}") from error
    if found.dict_id != id:
        raise Damaged(f"{FAULT}{id:08x} says that it is {found.dict_id:08x}")
    return found


def keep(folder: Path, octets: bytes, id: int) -> int:
    """Adds a dictionary, durable when it returns; its number. Raises: OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_directory(folder.parent)
    number = max((number for number, _ in listed(folder)), default=0) + 1
    fresh = folder / f"new-{os.getpid()}"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(MAGIC + hashlib.sha256(octets).digest() + octets)
            file.flush()
            os.fsync(file.fileno())
        path_of(folder, number, id).hardlink_to(fresh)  # never over another one
    finally:
        fresh.unlink(missing_ok=True)
    sync_directory(folder)
    return number


def train(folder: Path, samples: Sequence[bytes], plain_level: int) -> Trained:
    """Makes a dictionary of four fifths of the samples, tries it on the others, and keeps it when
    it helps. Blocks for some seconds, most of them without the interpreter lock.

    Raises: ValueError with too few samples, OSError.
    """
    if len(samples) < SAMPLES_MIN:
        raise ValueError(
            f"{len(samples)} small messages are too few to learn from: there must be {SAMPLES_MIN}"
        )
    apart = samples[::5]
    learnt = [octets for at, octets in enumerate(samples) if at % 5]
    try:
        made = zstd.train_dict(learnt, DICTIONARY_OCTETS)
    except zstd.ZstdError as error:
        raise ValueError(f"no dictionary can be made of these messages: {error}") from error
    size = sum(map(len, apart))
    plain = size / _compressed(zstd.ZstdCompressor(level=plain_level), apart)
    ratio = size / _compressed(zstd.ZstdCompressor(level=LEVEL, zstd_dict=made), apart)
    number = 0
    if ratio >= plain * GAIN_MIN and all(id != made.dict_id for _, id in listed(folder)):
        number = keep(folder, made.dict_content, made.dict_id)
    return Trained(number, made.dict_id, len(made.dict_content), len(samples), plain, ratio)


def _compressed(compressor: zstd.ZstdCompressor, samples: Sequence[bytes]) -> int:
    return sum(len(compressor.compress(octets, compressor.FLUSH_FRAME)) for octets in samples)
