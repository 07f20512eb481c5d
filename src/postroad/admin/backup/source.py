"""An account in a backup as a place that mail comes from (`admin.transfer`).

What is still in the account is passed over, unless all comes below another mailbox: a content
keeps its number in the heap for good, so a message that names the same one is the same. Back to a
point in time: what was there then, including what was removed between then and the backup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from postroad.admin.backup.repository import Backup
from postroad.admin.transfer.places import Brought, Desk, Folder, Item, Lost, Seen, Still
from postroad.database.contract import Database
from postroad.database.reading import Reader
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.secret import Secret
from postroad.mail.uidset import UIDSet
from postroad.message.header import Header
from postroad.store import names
from postroad.store.blobs import BlobStore
from postroad.store.keys import Keys
from postroad.store.mailboxes import MailStore
from postroad.store.rows import message_row
from postroad.store.values import Mailbox, MessageRow, Want

ALL = UIDSet(((1, 0xFFFFFFFF),))
PAGE_ROWS = 200
_REMOVED = (
    "SELECT r.uid, 0, r.flags, r.keywords, r.internal_date, r.size, r.heap, r.saved,"
    " c.envelope, NULL, NULL, c.header, c.blob, c.head, c.structure FROM removed AS r"
    " CROSS JOIN content AS c ON c.heap = r.heap WHERE r.account = ? AND r.mailbox = ?"
    " AND r.removed_at > ? AND r.uid > ? ORDER BY r.uid LIMIT ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to give back. at: unix seconds, 0: as in the backup. mailbox, message: only these;
    message is a UID or a Message-ID. copies: also what is still there."""

    at: int = 0
    mailbox: str = ""
    message: str = ""
    copies: bool = False


@dataclass(frozen=True, slots=True)
class Shelf:
    """A backup that is open for reading."""

    reader: Reader
    blobs: BlobStore
    store: MailStore

    def account(self, address: str) -> int:
        """Raises: StateError(NONEXISTENT)."""
        row = self.reader.first("SELECT account FROM account WHERE address = ?", (address,))
        if row is None:
            raise StateError(Fault.NONEXISTENT, f"there is no account {address} in the backup")
        return int(row[0])


@contextmanager
def opened(view: Path, master: Secret | None) -> Iterator[Shelf]:
    """view: of `repository.view_of`. master: opens mail of encrypted accounts."""
    reader = Reader(view)
    keys = None if master is None else Keys(master, reader)
    blobs = BlobStore(view, keys=keys)
    try:
        # A reader reads as a database does; nothing of it writes.
        yield Shelf(reader, blobs, MailStore(cast("Database", reader), blobs, keys))
    finally:
        blobs.close()
        reader.close()


class BackupSource:
    def __init__(
        self, shelf: Shelf, backup: Backup, address: str, wanted: Wanted, live: Database, here: int
    ) -> None:
        """live: the running server's database; here: the account's number in it."""
        self.name = f"backup:{backup.name}:{int(backup.manifest.made)}:{address}"
        self._shelf = shelf
        self._account = shelf.account(address)
        self._wanted = wanted
        self._live = live
        self._here = here

    async def folders(self) -> list[Folder]:
        found = [
            Folder(
                name=mailbox.name,
                place=mailbox,
                count=-1 if self._wanted.at or self._wanted.message else mailbox.messages,
                special_use=mailbox.special_use,
                subscribed=mailbox.subscribed,
            )
            for mailbox in [*self._shelf.store.mailboxes(self._account), *self._deleted()]
            if not self._wanted.mailbox or mailbox.name == names.canonical(self._wanted.mailbox)
        ]
        if self._wanted.mailbox and not found:
            raise StateError(
                Fault.NONEXISTENT, f"there is no mailbox {self._wanted.mailbox} in the backup"
            )
        return found

    def _deleted(self) -> list[Mailbox]:
        """Mailboxes that were there at that moment, and deleted before the backup."""
        if not self._wanted.at:
            return []
        rows = self._shelf.reader.execute(
            "SELECT mailbox, name, special_use, subscribed FROM removed_mailbox"
            " WHERE account = ? AND removed_at > ?",
            (self._account, self._wanted.at),
        )
        return [
            Mailbox(
                account=self._account,
                mailbox=row[0],
                name=row[1],
                uidvalidity=0,
                uidnext=1,
                highestmodseq=0,
                messages=0,
                unseen=0,
                deleted=0,
                size=0,
                first_recent=1,
                special_use=row[2],
                subscribed=bool(row[3]),
            )
            for row in rows
        ]

    async def messages(self, folder: Folder, desk: Desk) -> AsyncIterator[Item]:
        mailbox = folder.place
        assert isinstance(mailbox, Mailbox)
        for row in self._rows(mailbox):
            if not self._is_wanted(row, mailbox):
                continue
            identity = b"%d/%d" % (mailbox.mailbox, row.uid)
            if not self._wanted.copies and self._is_there(row, mailbox):
                yield Still()
            elif desk.known(identity):
                yield Seen(identity=identity, flags=int(row.flags), keywords=row.keywords)
            else:
                yield self._item(row, identity, f"{mailbox.name}: UID {row.uid}", desk)

    async def close(self) -> None:
        return

    def _rows(self, mailbox: Mailbox) -> Iterator[MessageRow]:
        want = Want.OCTETS | Want.HEADER
        for rows in self._shelf.store.messages(
            self._account, mailbox.mailbox, ALL, want, PAGE_ROWS
        ):
            yield from rows
        if self._wanted.at:
            yield from self._removed(mailbox.mailbox)

    def _removed(self, mailbox: int) -> Iterator[MessageRow]:
        after = 0
        keys = self._shelf.blobs.keys
        while True:
            found: list[MessageRow] = []
            for values in self._shelf.reader.execute(
                _REMOVED, (self._account, mailbox, self._wanted.at, after, PAGE_ROWS)
            ):
                row = message_row(*values)
                if keys is not None and row.header is not None and row.head is not None:
                    row.header = keys.open(row.header, b"header")
                    row.head = keys.open(row.head, b"head")
                found.append(row)
            yield from found
            if len(found) < PAGE_ROWS:
                return
            after = found[-1].uid

    def _is_wanted(self, row: MessageRow, mailbox: Mailbox) -> bool:
        wanted = self._wanted
        if wanted.at and row.saved > wanted.at:
            return False
        if not wanted.message:
            return True
        if wanted.message.isdigit():
            return row.uid == int(wanted.message)
        value = Header(row.header or b"").value(b"message-id") or b""
        return value.decode("utf-8", "replace").strip("<> ") == wanted.message.strip("<> ")

    def _is_there(self, row: MessageRow, mailbox: Mailbox) -> bool:
        """Whether a mailbox of this name still has the message."""
        found = self._live.first(
            "SELECT 1 FROM message AS m JOIN mailbox AS b"
            " ON b.account = m.account AND b.mailbox = m.mailbox"
            " WHERE b.account = ? AND b.name = ? AND m.heap = ? AND m.size = ?"
            " AND m.internal_date = ?",
            (self._here, mailbox.name, row.heap, row.size, row.internal_date),
        )
        return found is not None and self._here == self._account

    def _item(self, row: MessageRow, identity: bytes, where: str, desk: Desk) -> Item:
        draft = desk.draft()
        if draft is not None:
            try:
                draft.write(self._shelf.store.octets(row))
            except Unavailable as error:
                draft.discard()
                return Lost(where, error.what)
        return Brought(
            identity=identity,
            flags=int(row.flags),
            keywords=row.keywords,
            internal_date=row.internal_date,
            where=where,
            draft=draft,
        )
