"""What one FETCH reads, and how its responses look: columns of items for slices of messages.

Source: RFC 3501 §7.4.2; RFC 7162 §3.1.4, §3.2; RFC 8474 §5.3; RFC 8514 §4.2; RFC 8970 §3; RFC 9586.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.fetch import Fetch, Item, Text
from postroad.service.imapd.objectid import email_id, thread_id
from postroad.service.imapd.personal import as_read, digest_as_read
from postroad.service.imapd.session import Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import Manner, View
from postroad.store.keywords import unpack
from postroad.store.selected import WORDED, Digest
from postroad.store.values import MessageRow, Want

TABLE_SLICE = 500
PLAIN_SLICE = 1000

_PLAIN = frozenset((Item.UID, Item.FLAGS, Item.MODSEQ))
FROM_HEADER = frozenset((Text.HEADER, Text.FIELDS, Text.FIELDS_NOT))


class Reader:
    """One FETCH on its way."""

    __slots__ = (
        "changedsince", "command", "flags", "head", "items", "manner", "session", "view", "want",
    )  # fmt: skip

    def __init__(self, session: Session, view: View, command: Fetch) -> None:
        self.session = session
        self.view = view
        self.command = command
        self.manner: Manner = session.manner
        self.changedsince = command.changedsince
        items = command.items
        if session.condstore and Item.FLAGS in items and Item.MODSEQ not in items:
            items = (*items, Item.MODSEQ)  # RFC 7162 §3.2, with every FLAGS
        if self.manner.uid_only and not command.names_uid:
            items = tuple(item for item in items if item is not Item.UID)
        self.items = items
        self.head = b"* %d UIDFETCH (" if self.manner.uid_only else b"* %d FETCH ("
        self.flags = view.flag_renderer(self.manner)
        self.want = _want(command)

    def slices(self, uids: UIDSet, size: int) -> Iterator[list[MessageRow]]:
        view = self.view
        store = self.session.site.store
        for rows in store.messages(view.account, view.mailbox, uids, self.want, size):
            if self.changedsince >= 0:
                rows = [row for row in rows if row.modseq > self.changedsince]
            yield as_read(store, view, rows)

    def note(self, modseq: int) -> None:
        """A mod-sequence that the client is told: with a newer one than the view's it would miss
        what changed in between, were it not told of that too (RFC 7162 §3.2)."""
        if modseq > self.view.modseq:
            self.session.dirty = True

    def numbers(self, uids: list[int]) -> Sequence[int]:
        """What the responses call the messages."""
        return uids if self.manner.uid_only else self.view.numbers(uids)

    def columns(self, items: Sequence[Item], rows: Sequence[MessageRow]) -> list[list[object]]:
        """The values of each item for all rows: one tight loop per item."""
        return [self._column(item, rows) for item in items]

    def _column(self, item: Item, rows: Sequence[MessageRow]) -> list[object]:
        match item:
            case Item.UID:
                return [row.uid for row in rows]
            case Item.FLAGS:
                return [*self.flags.column(rows)]
            case Item.INTERNALDATE:
                return [render.date_time(row.internal_date) for row in rows]
            case Item.SAVEDATE:
                return [render.date_time(row.saved or row.internal_date) for row in rows]
            case Item.RFC822_SIZE:
                return [row.size for row in rows]
            case Item.ENVELOPE:
                return [row.envelope for row in rows]
            case Item.BODY:
                return [row.body for row in rows]
            case Item.BODYSTRUCTURE:
                return [row.bodystructure for row in rows]
            case Item.MODSEQ:
                self.note(max(row.modseq for row in rows))
                return [row.modseq for row in rows]
            case Item.EMAILID:
                return [email_id(row) for row in rows]
            case Item.THREADID:
                return [thread_id(row) for row in rows]
            case Item.PREVIEW:
                return [render.string((row.preview or "").encode()) for row in rows]

    @property
    def is_plain(self) -> bool:
        """Whether only that is asked which clients ask of all messages at once."""
        return self.changedsince < 0 and bool(self.items) and _PLAIN.issuperset(self.items)

    async def plain(self, uids: UIDSet) -> None:
        """UID, FLAGS and MODSEQ alone: columns as the store reads them, no rows."""
        session, view = self.session, self.view
        store = session.site.store
        modseqs = Item.MODSEQ in self.items
        for digest in store.digests(
            view.account, view.mailbox, uids, modseqs=modseqs, slice=PLAIN_SLICE
        ):
            if modseqs:
                self.note(max(digest.modseqs))
            session.put(self._plain_lines(digest_as_read(store, view, digest)))
            if session.is_full:
                await session.flush()
            await turn()

    def _plain_lines(self, digest: Digest) -> bytes:
        found = [value >> 6 for value in digest.packed]
        columns: list[Sequence[object]] = []
        for item in self.items:
            match item:
                case Item.UID:
                    columns.append(found)
                case Item.FLAGS:
                    columns.append(self._plain_flags(digest, found))
                case _:
                    columns.append(digest.modseqs)
        line = self.line
        numbers = self.numbers(found)
        return b"".join([line % row for row in zip(numbers, *columns, strict=True)])

    def _plain_flags(self, digest: Digest, found: list[int]) -> list[bytes]:
        flags = self.flags
        packed = digest.packed
        if flags.is_mixed(found[0], found[-1]):
            table = (flags.table(False), flags.table(True))
            texts = [table[flags.is_recent(value >> 6)][value & 31] for value in packed]
        else:
            plain = flags.table(found[0] >= flags.first_recent)
            texts = [plain[value & 31] for value in packed]
        if digest.words:
            told = {packed: unpack(packed) for packed in set(digest.words.values())}
            words = {word for keywords in told.values() for word in keywords}
            self.session.put(*self.view.new_words(words))
            for at, value in enumerate(packed):
                if value & WORDED and (uid := value >> 6) in digest.words:
                    keywords = told[digest.words[uid]]
                    texts[at] = flags.worded(value & 31, keywords, flags.is_recent(uid))
        return texts

    @property
    def line(self) -> bytes:
        """What a message's response is rendered with."""
        return self.head + b" ".join(FORMATS[item] for item in self.items) + b")\r\n"

    async def table(self, uids: UIDSet) -> None:
        """No section is wanted: one line per message."""
        session, view = self.session, self.view
        line = self.line
        done = 0
        for rows in self.slices(uids, TABLE_SLICE):
            if rows:
                if Item.FLAGS in self.items:
                    session.put(*view.new_keywords(rows))
                columns = self.columns(self.items, rows)
                numbers = self.numbers([row.uid for row in rows])
                session.put(b"".join([line % row for row in zip(numbers, *columns, strict=True)]))
                if session.is_full:
                    await session.flush()
                done += len(rows)
                await session.progress(done)
            await turn()


_WANT = {
    Item.ENVELOPE: Want.ENVELOPE,
    Item.BODY: Want.BODY,
    Item.BODYSTRUCTURE: Want.BODYSTRUCTURE,
    Item.EMAILID: Want.ORIGIN,
    Item.THREADID: Want.HEADER | Want.ORIGIN,
    Item.PREVIEW: Want.PREVIEW,
}


def _want(command: Fetch) -> Want:
    want = Want.BASE
    for item in command.items:
        want |= _WANT.get(item, Want.BASE)
    for section in command.sections:
        plain = not section.path and section.text in FROM_HEADER
        want |= Want.HEADER if plain else Want.OCTETS
    return want


FORMATS = {
    Item.UID: b"UID %d",
    Item.FLAGS: b"FLAGS (%b)",
    Item.INTERNALDATE: b"INTERNALDATE %b",
    Item.SAVEDATE: b"SAVEDATE %b",
    Item.RFC822_SIZE: b"RFC822.SIZE %d",
    Item.ENVELOPE: b"ENVELOPE %b",
    Item.BODY: b"BODY %b",
    Item.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    Item.MODSEQ: b"MODSEQ (%d)",
    Item.EMAILID: b"EMAILID (%b)",
    Item.THREADID: b"THREADID (%b)",
    Item.PREVIEW: b"PREVIEW %b",
}
