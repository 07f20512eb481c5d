"""What went between a mailbox here and a place elsewhere, kept by the unit of work that moves it.

A message that is imported and the note that it was are one transaction: killed at any instant, a
second run finds exactly what is here, and adds what is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from postroad.database.contract import Database, Operation, Row, Transaction
from postroad.mail.flags import Flag
from postroad.store import changing
from postroad.store.values import Content

KEY_OCTETS = 16
FOLDER_OCTETS = 8
PAGE_ROWS = 1000


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """added: false when it had been imported before; then where it came to."""

    mailbox: int
    uid: int
    added: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A message that went before. flags: as they were over there (`pack_flags`)."""

    item: bytes
    digest: bytes
    mailbox: int
    uid: int
    flags: bytes


class Import(Operation[Imported], frozen=True, kw_only=True):
    """Adds a message from elsewhere, unless it was added before. No limit holds: it is the
    operator who brings it. StateError: NONEXISTENT, LIMIT, CANNOT (keywords).
    """

    Result: ClassVar[type] = Imported
    account: int
    mailbox: int
    content: Content
    flags: int
    keywords: tuple[bytes, ...]
    internal_date: int
    now: int
    peer: int
    item: bytes
    digest: bytes

    def apply(self, tx: Transaction) -> Imported:
        known = tx.first(
            "SELECT mailbox, uid FROM transfer WHERE account = ? AND peer = ? AND item = ?",
            (self.account, self.peer, self.item),
        )
        if known is not None:
            return Imported(mailbox=known[0], uid=known[1], added=False)
        done = changing.add(
            tx,
            self.account,
            self.mailbox,
            self.content,
            self.flags,
            self.keywords,
            self.internal_date,
            self.now,
        )
        tx.execute(
            "INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self.account,
                self.peer,
                self.item,
                self.digest,
                self.mailbox,
                done.uid,
                pack_flags(self.flags, self.keywords),
            ),
        )
        return Imported(mailbox=self.mailbox, uid=done.uid, added=True)


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """A message that is over there by now, or whose flags there are known anew."""

    item: bytes
    digest: bytes
    mailbox: int
    uid: int
    flags: bytes


class NoteTransfers(Operation[None], frozen=True, kw_only=True):
    """Remembers what went, over what was remembered; `forget`: items that are no more."""

    account: int
    peer: int
    notes: tuple[Noted, ...]
    forget: tuple[bytes, ...] = ()

    def is_long(self) -> bool:
        return len(self.notes) + len(self.forget) > 50

    def apply(self, tx: Transaction) -> None:
        for item in self.forget:
            tx.execute(
                "DELETE FROM transfer WHERE account = ? AND peer = ? AND item = ?",
                (self.account, self.peer, item),
            )
        for note in self.notes:
            tx.execute(
                "INSERT OR REPLACE INTO transfer VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self.account,
                    self.peer,
                    note.item,
                    note.digest,
                    note.mailbox,
                    note.uid,
                    note.flags,
                ),
            )


class NoteFolder(Operation[None], frozen=True, kw_only=True):
    """How far a folder has been gone through; state b"": not at all."""

    account: int
    peer: int
    folder: bytes
    state: bytes

    def apply(self, tx: Transaction) -> None:
        tx.execute(
            "INSERT OR REPLACE INTO transfer_folder VALUES (?, ?, ?, ?)",
            (self.account, self.peer, self.folder, self.state),
        )


# -- reading ------------------------------------------------------------------------------------


def pack_flags(flags: int, keywords: tuple[bytes, ...]) -> bytes:
    """By which two looks at a message are compared."""
    return bytes([flags & 0xFF]) + b" ".join(sorted(keywords))


def unpack_flags(packed: bytes) -> tuple[Flag, tuple[bytes, ...]]:
    return Flag(packed[0] & 31), tuple(packed[1:].split(b" ")) if packed[1:] else ()


def peer_number(name: str) -> int:
    """Of a place, by its name."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:7])


def folder_key(folder: str) -> bytes:
    return hashlib.sha256(folder.encode("utf-8", "surrogateescape")).digest()[:FOLDER_OCTETS]


def _known(row: Row) -> Known:
    return Known(row[0], row[1], row[2], row[3], row[4])


_COLUMNS = "SELECT item, digest, mailbox, uid, flags FROM transfer WHERE account = ? AND peer = ?"


def known_item(database: Database, account: int, peer: int, item: bytes) -> Known | None:
    row = database.first(f"{_COLUMNS} AND item = ?", (account, peer, item))
    return None if row is None else _known(row)


def known_items(
    database: Database, account: int, peer: int, folder: bytes = b""
) -> Iterator[list[Known]]:
    """What went between the account and a place, or one folder of it, by pages."""
    after, end = folder, folder + b"\xff" * (FOLDER_OCTETS + KEY_OCTETS + 1)
    while True:
        rows = database.execute(
            f"{_COLUMNS} AND item > ? AND item < ? ORDER BY item LIMIT ?",
            (account, peer, after, end, PAGE_ROWS),
        )
        page = [_known(row) for row in rows]
        if page:
            yield page
        if len(page) < PAGE_ROWS:
            return
        after = page[-1].item


def folder_state(database: Database, account: int, peer: int, folder: bytes) -> bytes:
    row = database.first(
        "SELECT state FROM transfer_folder WHERE account = ? AND peer = ? AND folder = ?",
        (account, peer, folder),
    )
    return b"" if row is None else bytes(row[0])
