"""Reading mailboxes, messages and changes. Implements `store.contract.Store`.

Point reads and slices on the caller's thread; nothing is held open between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap

from postroad.database.contract import Database, Row
from postroad.mail.uidset import UIDSet
from postroad.store.contract import Blobs
from postroad.store.intervals import IntervalReads
from postroad.store.keys import Keys
from postroad.store.metadata import MetadataReading
from postroad.store.names import canonical
from postroad.store.quota import QUOTA, Quota, quota_of
from postroad.store.rows import message_row
from postroad.store.sealing import opened_rows
from postroad.store.search.digests import MailDigests
from postroad.store.search.index import MailIndex
from postroad.store.selected import SelectedReads, as_json, windows
from postroad.store.shared_reading import SharedReading
from postroad.store.values import BlobRef, Changes, Mailbox, MessageRow, Vanished, Want

_MAILBOX = (
    "SELECT m.account, m.mailbox, m.name, m.uidvalidity, m.uidnext, m.highestmodseq, m.messages,"
    " m.unseen, m.deleted, m.size, m.first_recent, m.special_use,"
    " EXISTS (SELECT 1 FROM subscription AS s WHERE s.account = m.account AND s.name = m.name)"
    " FROM mailbox AS m WHERE m.account = ?"
)
_COLUMNS: dict[Want, tuple[str, ...]] = {
    Want.ENVELOPE: ("envelope",),
    Want.BODY: ("body",),
    Want.BODYSTRUCTURE: ("bodystructure",),
    Want.HEADER: ("header",),
    Want.OCTETS: ("blob", "head", "structure"),
    Want.PREVIEW: ("preview",),
    Want.SENT: ("sent",),
    Want.ORIGIN: ("origin",),
}
_HEAP_COLUMNS = (
    "envelope",
    "body",
    "bodystructure",
    "header",
    "blob",
    "head",
    "structure",
    "preview",
    "sent",
    "origin",
)
"""In the order of `MessageRow`'s fields."""


_SPAN = "BETWEEN ? AND ? ORDER BY m.uid LIMIT ?"
_LIST = "IN (SELECT value FROM json_each(?)) ORDER BY m.uid"


def _select(want: Want, which: str) -> str:
    """The statement that reads what is wanted of some messages."""
    base = "SELECT m.uid, m.modseq, m.flags, m.keywords, m.internal_date, m.size, m.heap, m.saved"
    where = " WHERE m.account = ? AND m.mailbox = ? AND m.uid " + which
    if not want:
        return f"{base} FROM message AS m{where}"
    wanted = {name for bit, names in _COLUMNS.items() if want & bit for name in names}
    last = max(_HEAP_COLUMNS.index(name) for name in wanted)
    columns = ", ".join(
        f"c.{name}" if name in wanted else "NULL" for name in _HEAP_COLUMNS[: last + 1]
    )
    return f"{base}, {columns} FROM message AS m CROSS JOIN content AS c ON c.heap = m.heap{where}"


_SELECT = tuple(_select(Want(bits), _SPAN) for bits in range(256))
_LISTED = tuple(_select(Want(bits), _LIST) for bits in range(256))


def _mailbox(row: Row) -> Mailbox:
    return Mailbox(
        account=row[0],
        mailbox=row[1],
        name=row[2],
        uidvalidity=row[3],
        uidnext=row[4],
        highestmodseq=row[5],
        messages=row[6],
        unseen=row[7],
        deleted=row[8],
        size=row[9],
        first_recent=row[10],
        special_use=row[11],
        subscribed=bool(row[12]),
    )


class MailStore(SelectedReads, IntervalReads, SharedReading, MetadataReading):
    def __init__(self, database: Database, blobs: Blobs, keys: Keys | None = None) -> None:
        """keys: None where no account is encrypted."""
        self._database = database
        self._keys = keys
        self.blobs = blobs
        self.index = MailIndex(database, keys, self)
        self.sort_digests = MailDigests(self.index.blocks, self)

    def mailboxes(self, account: int) -> list[Mailbox]:
        rows = self._database.execute(_MAILBOX + " ORDER BY m.name <> 'INBOX', m.name", (account,))
        return [_mailbox(row) for row in rows]

    def subscriptions(self, account: int) -> list[str]:
        rows = self._database.execute(
            "SELECT name FROM subscription WHERE account = ? ORDER BY name <> 'INBOX', name",
            (account,),
        )
        return [name for (name,) in rows]

    def mailbox(self, account: int, name: str) -> Mailbox | None:
        row = self._database.first(_MAILBOX + " AND m.name = ?", (account, canonical(name)))
        return None if row is None else _mailbox(row)

    def mailbox_by_id(self, account: int, mailbox: int) -> Mailbox | None:
        row = self._database.first(_MAILBOX + " AND m.mailbox = ?", (account, mailbox))
        return None if row is None else _mailbox(row)

    def keywords(self, account: int, mailbox: int) -> tuple[bytes, ...]:
        """Every keyword that was ever used in the mailbox, as it is spelt there."""
        rows = self._database.execute(
            "SELECT word FROM keyword WHERE account = ? AND mailbox = ?", (account, mailbox)
        )
        return tuple(word for (word,) in rows)

    def quota(self, account: int) -> Quota | None:
        row = self._database.first(QUOTA, (account,))
        return None if row is None else quota_of(row)

    def messages(
        self, account: int, mailbox: int, uids: UIDSet, want: Want = Want.BASE, slice: int = 500
    ) -> Iterator[list[MessageRow]]:
        if self._keys is None or not want or self._keys.cipher(account) is None:
            return self._messages(account, mailbox, uids, want, slice)
        # opening takes longer than reading: shorter slices, so that others come between
        return opened_rows(
            self._messages(account, mailbox, uids, want, max(slice // 3, 1)), self._keys
        )

    def _messages(
        self, account: int, mailbox: int, uids: UIDSet, want: Want, slice: int
    ) -> Iterator[list[MessageRow]]:
        sql, listed = _SELECT[want], _LISTED[want]
        execute = self._database.execute
        batch: list[MessageRow] = []
        for window in windows(uids, slice):
            if isinstance(window, list):
                if batch:
                    yield batch
                rows = execute(listed, (account, mailbox, as_json(window)))
                batch = list(starmap(message_row, rows))
                continue
            start, high = window
            if len(batch) == slice:
                yield batch
                batch = []
            while start <= high:
                room = slice - len(batch)
                found = list(
                    starmap(message_row, execute(sql, (account, mailbox, start, high, room)))
                )
                batch += found
                if len(found) < room:
                    break
                yield batch
                start = batch[-1].uid + 1
                batch = []
        if batch:
            yield batch

    def changes(self, account: int, mailbox: int, since: int) -> Changes | None:
        with self._database.snapshot():
            row = self._database.first(
                "SELECT highestmodseq, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
                (account, mailbox),
            )
            if row is None:
                return None
            if row[0] <= since:
                return Changes((), UIDSet(), row[0], row[1])
            changed = self._database.execute(
                "SELECT uid, modseq, flags, keywords, internal_date, size, heap, saved FROM message"
                " WHERE account = ? AND mailbox = ? AND modseq > ? ORDER BY uid",
                (account, mailbox, since),
            )
            vanished = self._database.execute(
                "SELECT low, high FROM expunged WHERE account = ? AND mailbox = ? AND modseq > ?",
                (account, mailbox, since),
            )
            return Changes(
                tuple(starmap(message_row, changed)), UIDSet.of_ranges(vanished), row[0], row[1]
            )

    def octets(self, row: MessageRow) -> bytes:
        assert row.blob is not None and row.head is not None, "read the row with Want.OCTETS"
        try:
            octets = self.blobs.read(row.blob)
        except Vanished:
            octets = self.blobs.read(self._blob_now(row))
        return row.head + octets if row.head else octets

    def octets_range(self, row: MessageRow, start: int, stop: int) -> bytes:
        assert row.blob is not None and row.head is not None, "read the row with Want.OCTETS"
        size = len(row.head)
        start = max(start, 0)
        if stop <= start:
            return b""
        if stop <= size:
            return row.head[start:stop]
        try:
            return row.head[start:] + self.blobs.read_range(
                row.blob, max(start - size, 0), stop - size
            )
        except Vanished:
            blob = self._blob_now(row)
        return row.head[start:] + self.blobs.read_range(blob, max(start - size, 0), stop - size)

    def _blob_now(self, row: MessageRow) -> BlobRef:
        """Compaction moved the octets since the row was read. Raises: Vanished."""
        found = self._database.first("SELECT blob FROM content WHERE heap = ?", (row.heap,))
        if found is None or found[0] == row.blob:
            raise Vanished(f"blob {row.blob} is gone")
        return str(found[0])
