"""FETCH: stored octets, written slice by slice.

Items of the table (flags, sizes, cached envelopes...) are rendered column by column for a slice of
messages and joined; sections are written message by message, large ones piece by piece, so that a
slow reader costs one buffer.
Source: RFC 3501 §6.4.5, §7.4.2; RFC 7162 §3.1.4; RFC 5530 §3 (EXPUNGEISSUED).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postroad.mail.errors import Unavailable
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.message.section import filter_header, locate
from postroad.protocol.imap import render
from postroad.protocol.imap.fetch import Fetch, Item, Section, Text
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import FlagRenderer, View
from postroad.store import operations
from postroad.store.keywords import unpack
from postroad.store.values import FlagMode, FlagsStored, MessageRow, Want

TABLE_SLICE = 500
HEADER_SLICE = 250
SECTION_SLICE = 50
"""Messages whose bodies are read between two looks at the loop; also how many become \\Seen in one
unit of work, so that a client that goes away has not marked what it never got."""
WHOLE_OCTETS_MAX = 256 << 10
"""A message up to here is read at once; a greater one in pieces."""
PIECE_OCTETS = 128 << 10

_WANT = {Item.ENVELOPE: Want.ENVELOPE, Item.BODY: Want.BODY, Item.BODYSTRUCTURE: Want.BODYSTRUCTURE}
_PLAIN = frozenset((Item.UID, Item.FLAGS, Item.MODSEQ))
_FROM_HEADER = frozenset((Text.HEADER, Text.FIELDS, Text.FIELDS_NOT))


async def fetch(session: Session, command: Fetch) -> Answer:
    view = session.selected
    uids = view.uids_of(command.messages, uid=command.uid)
    if Item.MODSEQ in command.items:
        enable_condstore(session)
    reader = _Reader(session, view, command)
    failed = False
    if command.sections:
        failed = await reader.sections(uids)
    elif reader.is_plain:
        await reader.plain(uids)
    else:
        await reader.table(uids)
    expunges = command.uid and not session.core.has_pending
    if failed:
        return Answer("Some messages cannot be read now", b"UNAVAILABLE", b"NO", expunges)
    code = b"EXPUNGEISSUED" if not command.uid and view.misses(uids) else b""
    return Answer("Fetched", code, expunges=expunges)


class _Reader:
    """One FETCH on its way."""

    __slots__ = ("changedsince", "command", "flags", "items", "session", "view", "want")

    def __init__(self, session: Session, view: View, command: Fetch) -> None:
        self.session = session
        self.view = view
        self.command = command
        self.items = command.items
        self.changedsince = command.changedsince
        if session.condstore and Item.FLAGS in self.items and Item.MODSEQ not in self.items:
            self.items = (*self.items, Item.MODSEQ)  # RFC 7162 §3.2, with every FLAGS
        self.flags: FlagRenderer = view.flag_renderer()
        self.want = _want(command)

    def slices(self, uids: UIDSet, size: int) -> Iterable[list[MessageRow]]:
        view = self.view
        for rows in self.session.site.store.messages(
            view.account, view.mailbox, uids, self.want, size
        ):
            if self.changedsince >= 0:
                kept = [row for row in rows if row.modseq > self.changedsince]
                yield kept
            else:
                yield rows

    def columns(self, items: Sequence[Item], rows: Sequence[MessageRow]) -> list[list[object]]:
        """The values of each item for all rows: one tight loop per item."""
        out: list[list[object]] = []
        for item in items:
            match item:
                case Item.UID:
                    out.append([row.uid for row in rows])
                case Item.FLAGS:
                    out.append([*self.flags.column(rows)])
                case Item.INTERNALDATE:
                    date = render.date_time
                    out.append([date(row.internal_date) for row in rows])
                case Item.RFC822_SIZE:
                    out.append([row.size for row in rows])
                case Item.ENVELOPE:
                    out.append([row.envelope for row in rows])
                case Item.BODY:
                    out.append([row.body for row in rows])
                case Item.BODYSTRUCTURE:
                    out.append([row.bodystructure for row in rows])
                case Item.MODSEQ:
                    out.append([row.modseq for row in rows])
        return out

    @property
    def is_plain(self) -> bool:
        """Whether only that is asked which clients ask of all messages at once."""
        return self.changedsince < 0 and _PLAIN.issuperset(self.items)

    async def plain(self, uids: UIDSet) -> None:
        """UID, FLAGS and MODSEQ alone: tuples as the store reads them, no rows."""
        session, view = self.session, self.view
        line = self.line
        for rows in session.site.store.flags(view.account, view.mailbox, uids):
            found = [row[0] for row in rows]
            columns: list[Sequence[object]] = []
            for item in self.items:
                match item:
                    case Item.UID:
                        columns.append(found)
                    case Item.FLAGS:
                        words = {row[3] for row in rows}
                        told = {word for packed in words for word in unpack(packed)}
                        session.put(*view.new_words(told))
                        columns.append(self.flags.texts(rows))
                    case _:
                        columns.append([row[1] for row in rows])
            numbers = view.numbers(found)
            session.put(b"".join([line % row for row in zip(numbers, *columns, strict=True)]))
            if session.is_full:
                await session.flush()
            await turn()

    @property
    def line(self) -> bytes:
        """What a message's response is rendered with."""
        return b"* %d FETCH (" + b" ".join(_FORMATS[item] for item in self.items) + b")\r\n"

    async def table(self, uids: UIDSet) -> None:
        """No section is wanted: one line per message."""
        session, view = self.session, self.view
        line = self.line
        for rows in self.slices(uids, TABLE_SLICE):
            if rows:
                if Item.FLAGS in self.items:
                    session.put(*view.new_keywords(rows))
                columns = self.columns(self.items, rows)
                numbers = view.seqs(rows)
                session.put(b"".join([line % row for row in zip(numbers, *columns, strict=True)]))
                if session.is_full:
                    await session.flush()
            await turn()

    async def sections(self, uids: UIDSet) -> bool:
        """Whether a message could not be read."""
        session, view = self.session, self.view
        failed = False
        marks = self.command.marks_seen and not view.read_only
        size = SECTION_SLICE if self.want & Want.OCTETS else HEADER_SLICE
        for rows in self.slices(uids, size):
            unseen = {row.uid for row in rows if not row.flags & Flag.SEEN} if marks else set()
            if unseen:
                rows = await self.mark_seen(rows, unseen)
            if Item.FLAGS in self.items or unseen:
                session.put(*view.new_keywords(rows))
            heads = self.heads(rows, unseen)
            if not self.want & Want.OCTETS:
                session.put(b"".join(self.short(rows, heads)))
                if session.is_full:
                    await session.flush()
                await turn()
                continue
            for seq, row, head in zip(view.seqs(rows), rows, heads, strict=True):
                try:
                    await self.message(seq, row, head)
                except Unavailable as error:
                    if session.partial:
                        raise
                    failed = True
                    view.forget(row.uid)
                    session.site.trace(
                        IMAPCommandDeferred(session=session.id, command="Fetch", what=error.what)
                    )
            await turn()
        return failed

    async def mark_seen(self, rows: list[MessageRow], unseen: set[int]) -> list[MessageRow]:
        """Sets \\Seen and gives the rows as they are then; expunged ones are left out."""
        view = self.view
        [stored] = await self.session.site.database.submit(
            operations.StoreFlags(
                account=view.account,
                mailbox=view.mailbox,
                uids=list(UIDSet.of(unseen).ranges),
                mode=int(FlagMode.ADD),
                flags=int(Flag.SEEN),
            )
        )
        assert isinstance(stored, FlagsStored), "the operation says so"
        self.session.dirty = True
        changes = {change.uid: change for change in stored.changed}
        for row in rows:
            change = changes.get(row.uid)
            if change is not None:
                row.flags = Flag(change.flags)
                row.keywords = tuple(change.keywords)
                row.modseq = change.modseq
                view.remember(row.uid, row.modseq)
        return rows

    def heads(self, rows: list[MessageRow], unseen: set[int]) -> list[bytes]:
        """What each response says before its sections; new \\Seen flags are told unasked."""
        text = b" ".join([_FORMATS[item] for item in self.items])
        columns = self.columns(self.items, rows)
        heads = [text % row for row in zip(*columns, strict=True)] if columns else [b""] * len(rows)
        if not unseen or Item.FLAGS in self.items:
            return heads
        extra = [Item.FLAGS]
        if self.session.condstore and Item.MODSEQ not in self.items:
            extra.append(Item.MODSEQ)
        told = b" ".join([_FORMATS[item] for item in extra])
        values = zip(*self.columns(extra, rows), strict=True)
        return [
            (head + b" " + told % row_values).lstrip() if row.uid in unseen else head
            for head, row, row_values in zip(heads, rows, values, strict=True)
        ]

    def short(self, rows: list[MessageRow], heads: list[bytes]) -> list[bytes]:
        """Responses whose sections are all cut from the header that the table holds."""
        sections = self.command.sections
        labels = [section.label.replace(b"%", b"%%") + b" {%d}\r\n%b" for section in sections]
        labels[1:] = [b" " + label for label in labels[1:]]
        out = []
        for seq, row, head in zip(self.view.seqs(rows), rows, heads, strict=True):
            assert row.header is not None, "the row was read with Want.HEADER"
            out.append(b"* %d FETCH (%b" % (seq, head + b" " if head else b""))
            for label, section in zip(labels, sections, strict=True):
                found = _cut(section, _fields(section, row.header))
                out.append(label % (len(found), found))
            out.append(b")\r\n")
        return out

    async def message(self, seq: int, row: MessageRow, head: bytes) -> None:
        """One FETCH response with sections."""
        session = self.session
        source = _Source(session, row)
        pieces: list[bytes] = [b"* %d FETCH (%b" % (seq, head)]
        for number, section in enumerate(self.command.sections):
            lead = b" " if head or number else b""
            found = source.find(section)
            if found is None:
                pieces.append(lead + section.label + b" NIL")
            elif isinstance(found, bytes):
                pieces.append(b"%b%b {%d}\r\n" % (lead, section.label, len(found)))
                pieces.append(found)
            else:
                start, stop = found
                pieces.append(b"%b%b {%d}\r\n" % (lead, section.label, stop - start))
                session.put(*pieces)
                pieces = []
                await self.stream(row, start, stop)
        pieces.append(b")\r\n")
        session.put(*pieces)
        session.partial = False
        if session.is_full:
            await session.flush()

    async def stream(self, row: MessageRow, start: int, stop: int) -> None:
        """Writes a long range in pieces; from here on the response must be brought to its end."""
        session = self.session
        session.partial = True
        while start < stop:
            end = min(start + PIECE_OCTETS, stop)
            octets = session.site.store.octets_range(row, start, end)
            if len(octets) != end - start:
                raise Unavailable(f"message of uid {row.uid}: its octets end early")
            session.put(octets)
            await session.flush()
            start = end


class _Source:
    """Where the octets of one message's sections come from; read once, when first needed."""

    __slots__ = ("_octets", "_row", "_session")

    def __init__(self, session: Session, row: MessageRow) -> None:
        self._session = session
        self._row = row
        self._octets: bytes | None = None

    def find(self, section: Section) -> bytes | tuple[int, int] | None:
        """The section's octets, or their range when they are many; None: there is no such."""
        row = self._row
        if not section.path and section.text in _FROM_HEADER:
            assert row.header is not None, "the row was read with Want.HEADER"
            return _cut(section, _fields(section, row.header))
        span = self.locate(section)
        if span is None:
            return None
        start, stop = span
        if section.text in (Text.FIELDS, Text.FIELDS_NOT):
            return _cut(section, _fields(section, self.read(start, stop)))
        if section.start >= 0:
            start = min(start + section.start, stop)
            stop = min(start + section.length, stop)
        if stop - start > WHOLE_OCTETS_MAX:
            return start, stop
        return self.read(start, stop)

    def locate(self, section: Section) -> tuple[int, int] | None:
        row = self._row
        if not section.path and section.text is Text.ALL:
            return 0, row.size
        assert row.structure is not None, "the row was read with Want.OCTETS"
        what = "HEADER" if section.text in _FROM_HEADER else section.text.value.decode()
        return locate(row.structure, section.path, what)

    def read(self, start: int, stop: int) -> bytes:
        row = self._row
        store = self._session.site.store
        if row.size > WHOLE_OCTETS_MAX:
            octets = store.octets_range(row, start, stop)
        else:
            if self._octets is None:
                self._octets = store.octets(row)
            whole = start == 0 and stop == len(self._octets)
            octets = self._octets if whole else self._octets[start:stop]
        if len(octets) != stop - start:
            raise Unavailable(f"message of uid {row.uid}: its octets end early")
        return octets


def _fields(section: Section, header: bytes) -> bytes:
    if section.text is Text.HEADER:
        return header
    return filter_header(header, section.fields, section.text is Text.FIELDS_NOT)


def _cut(section: Section, octets: bytes) -> bytes:
    if section.start < 0:
        return octets
    return octets[section.start : section.start + section.length]


def _want(command: Fetch) -> Want:
    want = Want.BASE
    for item in command.items:
        want |= _WANT.get(item, Want.BASE)
    for section in command.sections:
        plain = not section.path and section.text in _FROM_HEADER
        want |= Want.HEADER if plain else Want.OCTETS
    return want


_FORMATS = {
    Item.UID: b"UID %d",
    Item.FLAGS: b"FLAGS (%b)",
    Item.INTERNALDATE: b"INTERNALDATE %b",
    Item.RFC822_SIZE: b"RFC822.SIZE %d",
    Item.ENVELOPE: b"ENVELOPE %b",
    Item.BODY: b"BODY %b",
    Item.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    Item.MODSEQ: b"MODSEQ (%d)",
}
