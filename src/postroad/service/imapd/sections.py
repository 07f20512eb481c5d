"""The sections of FETCH: BODY[...], BINARY[...] and the RFC822 items, message by message.

Large ones are written piece by piece with backpressure. From the head of a literal on, a response
must be brought to its end: what fails then ends the connection.
Source: RFC 3501 §6.4.5, §7.4.2; RFC 3516 §4.2-4.3; RFC 7162 §3.2.4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from postroad.mail.errors import Unavailable
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.message.section import header_filter, locate
from postroad.protocol.imap.fetch import Item, Section, Text
from postroad.service.imapd.binary import KEPT_OCTETS_MAX, Decoded, UnknownEncoding
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.service.imapd.reading import FORMATS, FROM_HEADER, Reader
from postroad.service.imapd.session import Session
from postroad.service.imapd.turns import turn
from postroad.store import operations
from postroad.store.values import FlagMode, FlagsStored, MessageRow, Want

HEADER_SLICE = 250
SECTION_SLICE = 50
"""Messages whose bodies are read between two looks at the loop; also how many become \\Seen in one
unit of work, so that a client that goes away has not marked what it never got."""
WHOLE_OCTETS_MAX = 256 << 10
"""A message up to here is read at once; a greater one in pieces."""
PIECE_OCTETS = 128 << 10


async def write_sections(reader: Reader, uids: UIDSet) -> str:
    """The code of what went wrong with a message, the others are told; "": nothing."""
    session, view = reader.session, reader.view
    failed = ""
    marks = reader.command.marks_seen and not view.read_only and view.may("s")
    size = SECTION_SLICE if reader.want & Want.OCTETS else HEADER_SLICE
    done = 0
    for rows in reader.slices(uids, size):
        unseen = {row.uid for row in rows if not row.flags & Flag.SEEN} if marks else set()
        if unseen:
            await _mark_seen(reader, rows, unseen)
        if Item.FLAGS in reader.items or unseen:
            session.put(*view.new_keywords(rows))
        heads = _heads(reader, rows, unseen)
        if not reader.want & Want.OCTETS:
            session.put(_short(reader, rows, heads))
            if session.is_full:
                await session.flush()
        else:
            for row, head in zip(rows, heads, strict=True):
                try:
                    await _message(reader, row, head)
                except UnknownEncoding:
                    failed = failed or "UNKNOWN-CTE"
                    if row.uid in unseen:
                        view.forget(row.uid)
                except Unavailable as error:
                    if session.partial:
                        raise
                    failed = "UNAVAILABLE"
                    if row.uid in unseen:
                        view.forget(row.uid)
                    session.site.trace(
                        IMAPCommandDeferred(session=session.id, command="Fetch", what=error.what)
                    )
        done += len(rows)
        await session.progress(done)
        await turn()
    return failed


async def _mark_seen(reader: Reader, rows: list[MessageRow], unseen: set[int]) -> None:
    """Sets \\Seen and brings the rows up to it."""
    view = reader.view
    [stored] = await reader.session.site.database.submit(
        operations.StoreFlags(
            account=view.account,
            mailbox=view.mailbox,
            uids=list(UIDSet.of(unseen).ranges),
            mode=int(FlagMode.ADD),
            flags=int(Flag.SEEN),
            reader=view.reader,
            rights="s",
        )
    )
    assert isinstance(stored, FlagsStored), "the operation says so"
    reader.session.dirty = True
    changes = {change.uid: change for change in stored.changed}
    if changes:
        view.remember(stored.modseq)
    for row in rows:
        change = changes.get(row.uid)
        if change is not None:
            row.flags = Flag(change.flags)
            row.keywords = tuple(change.keywords)
            row.modseq = change.modseq


def _heads(reader: Reader, rows: list[MessageRow], unseen: set[int]) -> list[bytes]:
    """Each response up to its first section; new \\Seen flags are told unasked."""
    numbers = reader.numbers([row.uid for row in rows])
    text = reader.head + b"".join([FORMATS[item] + b" " for item in reader.items])
    columns = reader.columns(reader.items, rows)
    heads = [text % values for values in zip(numbers, *columns, strict=True)]
    if not unseen:
        return heads
    extra = [] if Item.FLAGS in reader.items else [Item.FLAGS]
    if reader.manner.modseqs:  # RFC 7162 §3.2.4
        extra += [item for item in (Item.UID, Item.MODSEQ) if item not in reader.items]
    if reader.manner.uid_only:
        extra = [item for item in extra if item is not Item.UID]
    if not extra:
        return heads
    told = b"".join([FORMATS[item] + b" " for item in extra])
    extras = zip(*reader.columns(extra, rows), strict=True)
    return [
        head + told % values if row.uid in unseen else head
        for head, row, values in zip(heads, rows, extras, strict=True)
    ]


def _short(reader: Reader, rows: list[MessageRow], heads: list[bytes]) -> bytes:
    """Responses whose sections are all cut from the header that the table holds."""
    text = b"%b"
    columns: list[Sequence[object]] = [heads]
    headers = [row.header for row in rows if row.header is not None]
    for number, section in enumerate(reader.command.sections):
        cut = _cutter(section)
        found = [*map(cut, headers)]
        label = section.label.replace(b"%", b"%%")
        text += (b" " if number else b"") + label + b" {%d}\r\n%b"
        columns += ([*map(len, found)], found)
    text += b")\r\n"
    return b"".join([text % values for values in zip(*columns, strict=True)])


async def _message(reader: Reader, row: MessageRow, head: bytes) -> None:
    """One FETCH response with sections."""
    session = reader.session
    source = _Source(session, row)
    for section in reader.command.sections:
        if section.decoded:
            source.decoded(section)  # an unknown encoding is found before anything is said
    pieces: list[bytes] = [head]
    for number, section in enumerate(reader.command.sections):
        label = (b" " if number else b"") + section.label
        if section.decoded:
            pieces = await _binary(session, source, section, label, pieces)
            continue
        found = source.find(section)
        if found is None:
            pieces.append(label + b" NIL")
        elif isinstance(found, bytes):
            pieces += (b"%b {%d}\r\n" % (label, len(found)), found)
        else:
            begin, stop = found
            pieces.append(b"%b {%d}\r\n" % (label, stop - begin))
            await _stream(session, pieces, source.pieces(begin, stop))
            pieces = []
    pieces.append(b")\r\n")
    session.put(*pieces)
    session.partial = False
    if session.is_full:
        await session.flush()


async def _binary(
    session: Session, source: _Source, section: Section, label: bytes, pieces: list[bytes]
) -> list[bytes]:
    """BINARY and BINARY.SIZE, put behind `pieces`; returns what is still to be put."""
    part = source.decoded(section)
    if part is None:
        return [*pieces, label + (b" 0" if section.size else b" NIL")]
    measure = await part.measure()
    if section.size:
        return [*pieces, b"%b %d" % (label, measure.octets)]
    start, stop = 0, measure.octets
    if section.start >= 0:
        start = min(section.start, stop)
        stop = min(section.start + section.length, stop)
    # RFC 3516 §4.3: a literal8 says that there may be NULs
    kind = b"~" if measure.has_nul else b""
    announced = b"%b %b{%d}\r\n" % (label, kind, stop - start)
    if measure.octets <= KEPT_OCTETS_MAX:
        return [*pieces, announced, *[piece async for piece in part.pieces(start, stop)]]
    await _stream(session, [*pieces, announced], part.pieces(start, stop))
    return []


async def _stream(session: Session, pieces: list[bytes], octets: AsyncIterator[bytes]) -> None:
    """Writes a literal piece by piece, behind what announces it."""
    session.put(*pieces)
    session.partial = True
    async for piece in octets:
        session.put(piece)
        if session.is_full:
            await session.flush()


class _Source:
    """Where the octets of one message's sections come from; read once, when first needed."""

    __slots__ = ("_decoded", "_octets", "_row", "_session")

    def __init__(self, session: Session, row: MessageRow) -> None:
        self._session = session
        self._row = row
        self._octets: bytes | None = None
        self._decoded: dict[tuple[int, ...], Decoded | None] = {}

    def find(self, section: Section) -> bytes | tuple[int, int] | None:
        """The section's octets, or their range when they are many; None: there is no such."""
        row = self._row
        if not section.path and section.text in FROM_HEADER:
            assert row.header is not None, "the row was read with Want.HEADER"
            return _cutter(section)(row.header)
        span = self.locate(section)
        if span is None:
            return None
        start, stop = span
        if section.text in (Text.FIELDS, Text.FIELDS_NOT):
            return _cutter(section)(self.read(start, stop))
        if section.start >= 0:
            start, stop = (
                min(start + section.start, stop),
                min(start + section.start + section.length, stop),
            )
        if stop - start > WHOLE_OCTETS_MAX:
            return start, stop
        return self.read(start, stop)

    def decoded(self, section: Section) -> Decoded | None:
        """None: there is no such part. Raises: UnknownEncoding."""
        if section.path not in self._decoded:
            self._decoded[section.path] = Decoded.of(
                self._session.site.store, self._row, section.path, self.read
            )
        return self._decoded[section.path]

    def locate(self, section: Section) -> tuple[int, int] | None:
        row = self._row
        if not section.path and section.text is Text.ALL:
            return 0, row.size
        assert row.structure is not None, "the row was read with Want.OCTETS"
        what = "HEADER" if section.text in FROM_HEADER else section.text.value.decode()
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

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        while start < stop:
            end = min(start + PIECE_OCTETS, stop)
            yield self.read(start, end)
            start = end


def _cutter(section: Section) -> Callable[[bytes], bytes]:
    """What makes of a header section what this section asks of it."""
    whole: Callable[[bytes], bytes] = _whole
    if section.text is not Text.HEADER:
        whole = header_filter(section.fields, section.text is Text.FIELDS_NOT)
    if section.start < 0:
        return whole
    part = slice(section.start, section.start + section.length)
    return lambda header: whole(header)[part]


def _whole(header: bytes) -> bytes:
    return header
