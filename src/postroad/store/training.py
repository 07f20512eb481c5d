"""Samples for a compression dictionary: small messages from all over the store, bounded.

Only what lies in the clear is taken: a dictionary is kept in the clear, and holds pieces of what it
was made of. An encrypted account's mail is no sample, sealed or not yet.
"""

from __future__ import annotations

from pathlib import Path

from postroad.database.contract import Database
from postroad.database.packs import SEALED, Damaged, PackRef, parse_ref
from postroad.mail.errors import Unavailable
from postroad.store.blobs import BlobStore
from postroad.store.dictionary import FOLDER, SAMPLES_MIN, Trained, listed, train
from postroad.store.records import COMPRESSED_OCTETS_MIN, DICTIONARY_OCTETS_MAX, ZSTD_LEVEL

SAMPLES = 3000
SAMPLE_OCTETS = 10 << 20
"""Of all samples: zstd wants some hundred times the dictionary."""
MESSAGES_MIN = 5000
"""Before that the server does not learn by itself: the next ones would have much more to say."""
_NEXT = (
    "SELECT blob FROM content WHERE heap >= ? AND account NOT IN"
    " (SELECT account FROM account_key) ORDER BY heap LIMIT 1"
)


def is_due(database: Database, data_dir: Path) -> bool:
    """Whether there is no dictionary yet and enough mail to learn from."""
    if listed(data_dir / FOLDER):
        return False
    row = database.first("SELECT seq FROM sqlite_sequence WHERE name = 'content'")
    return row is not None and row[0] >= MESSAGES_MIN


def train_from(database: Database, data_dir: Path) -> Trained:
    """Makes a dictionary of the mail here. Blocks for seconds: use a thread.

    Raises: ValueError when there is too little small mail, OSError, Unavailable.
    """
    return train(data_dir / FOLDER, samples(database, data_dir), ZSTD_LEVEL)


def samples(database: Database, data_dir: Path) -> list[bytes]:
    """Small messages, evenly from the oldest to the newest, each octets only once."""
    row = database.first("SELECT min(heap), max(heap) FROM content")
    if row is None or row[0] is None:
        return []
    first, last = int(row[0]), int(row[1])
    tries = min(2 * SAMPLES, last - first + 1)
    blobs = BlobStore(data_dir)
    found: list[bytes] = []
    taken: set[str] = set()
    size = 0
    try:
        # Every other place first, then those in between: when it is enough, it is from all over.
        for turn in (*range(0, tries, 2), *range(1, tries, 2)):
            if len(found) >= SAMPLES or size >= SAMPLE_OCTETS:
                break
            row = database.first(_NEXT, (first + (last - first) * turn // max(tries - 1, 1),))
            if row is None or row[0] in taken:
                continue
            taken.add(row[0])
            octets = _sample(blobs, row[0])
            if octets is not None:
                found.append(octets)
                size += len(octets)
    finally:
        blobs.close()
    return found


def _sample(blobs: BlobStore, blob: str) -> bytes | None:
    """The message, if it is of the kind that a dictionary serves."""
    try:
        ref = parse_ref(blob)
        if not isinstance(ref, PackRef):
            return None
        if not COMPRESSED_OCTETS_MIN <= ref.size <= DICTIONARY_OCTETS_MAX:
            return None
        if blobs.record(ref)[0] == SEALED:
            return None
        return blobs.read_with_checksum(ref)[0]
    except (Damaged, OSError, Unavailable):
        return None  # verify tells of it; others will do


__all__ = ["MESSAGES_MIN", "SAMPLES_MIN", "is_due", "samples", "train_from"]
