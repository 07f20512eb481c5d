"""Building the index of one account, a block at a time.

Each step reads some messages that no block holds, packs their text and hands back one operation;
nothing is lost when the process dies between two steps, since the operation that writes a block
also notes how far its mailboxes were looked at. A block that is not full is replaced by a fuller
one. Blocking: steps run in a thread.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass

from postroad.database.contract import Database
from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.store.contract import Store
from postroad.store.search.blocks import (
    BLOCK_MESSAGES_MAX,
    BLOCK_OCTETS_MAX,
    HEADER_OCTETS_MAX,
    DamagedBlock,
    Entry,
    entry,
    pack_block,
)
from postroad.store.search.digesting import keys_of
from postroad.store.search.operations import Advance, WriteBlock
from postroad.store.search.reading import UID_MAX, BlockReader, Ciphers, seal_sections
from postroad.store.search.text import SearchText, body_texts, header_lines, text_octets
from postroad.store.values import MessageRow, Want

READ_AT_ONCE = 16
BODY_READ_OCTETS_MAX = 4 << 20
"""Octets of text parts, as they are in the message: with more, the body is left out."""
ROWS_AT_ONCE = 4096
"""Looked at in one step, most of them copies of what is indexed already."""
_WANT = Want.HEADER | Want.OCTETS | Want.SENT
_LAST_BLOCK = (
    "SELECT block, length(octets) FROM search_block WHERE account = ? AND section = 0"
    " ORDER BY block DESC LIMIT 1"
)
_FULL_LIST_OCTETS = 8 * BLOCK_MESSAGES_MAX
"""A shorter list is one of a block with room for more."""
_BEHIND = (
    "SELECT m.mailbox, coalesce(s.uid, 0), m.uidnext - 1 FROM mailbox AS m"
    " LEFT JOIN search_mark AS s ON s.account = m.account AND s.mailbox = m.mailbox"
    " WHERE m.account = ? AND m.messages > 0 AND m.uidnext - 1 > coalesce(s.uid, 0)"
    " ORDER BY m.mailbox"
)


@dataclass(frozen=True, slots=True)
class Lag:
    """messages: at most so many of the account have not been looked at."""

    account: int
    messages: int


_LAG = (
    "SELECT m.account, sum(min(m.messages, m.uidnext - 1 - coalesce(s.uid, 0)))"
    " FROM mailbox AS m LEFT JOIN search_mark AS s"
    " ON s.account = m.account AND s.mailbox = m.mailbox"
    " WHERE m.messages > 0 AND m.uidnext - 1 > coalesce(s.uid, 0)"
)


def lags(database: Database) -> list[Lag]:
    """Accounts with messages that were not looked at. Raises: Unavailable."""
    return [Lag(*row) for row in database.execute(f"{_LAG} GROUP BY m.account")]


def lag_of(database: Database, account: int) -> int:
    row = database.first(f"{_LAG} AND m.account = ? GROUP BY m.account", (account,))
    return 0 if row is None else int(row[1])


class _Octets:
    """A message of which only what is asked for is read."""

    __slots__ = ("_row", "_store")

    def __init__(self, store: Store, row: MessageRow) -> None:
        self._store = store
        self._row = row

    def __getitem__(self, part: slice, /) -> bytes:
        return self._store.octets_range(self._row, part.start, part.stop)


def entry_of(store: Store, row: MessageRow) -> Entry | None:
    """A message as a block holds it; None when it is left out, and read at each search.

    row: with Want.HEADER, OCTETS and SENT. Raises: Unavailable.
    """
    assert row.header is not None and row.structure is not None
    if len(row.header) > HEADER_OCTETS_MAX:
        return None
    header = header_lines(row.header)
    has_body = text_octets(row.structure) <= BODY_READ_OCTETS_MAX
    body = tuple(body_texts(row.structure, _Octets(store, row))) if has_body else ()
    keys = keys_of(row.header, row.sent or 0)
    return entry(row.heap, SearchText(header, body), keys, has_body=has_body)


class Draft:
    """A block that is being filled."""

    __slots__ = ("advances", "entries", "fresh", "octets", "replaces")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.octets = 0
        self.fresh = 0
        self.replaces: list[int] = []
        self.advances: list[Advance] = []

    def add(self, item: Entry) -> None:
        self.entries.append(item)
        self.octets += item.octets

    def has_room_for(self, item: Entry) -> bool:
        """An empty one takes any."""
        return not self.entries or (
            len(self.entries) < BLOCK_MESSAGES_MAX and self.octets + item.octets <= BLOCK_OCTETS_MAX
        )

    def begin_anew(self) -> None:
        """Leaves the block that was to be filled up as it is."""
        self.entries, self.octets, self.replaces = [], 0, []


class Builder:
    """One account. Steps come one after another, never at once; each is blocking.

    passes_over: leaves out what cannot be read, instead of raising Unavailable: whoever searches
    will try to read it, and say so.
    """

    def __init__(
        self, database: Database, store: Store, ciphers: Ciphers | None, account: int
    ) -> None:
        self.account = account
        self.passes_over = False
        self.messages = 0
        """How many were put into blocks."""
        self._database = database
        self._store = store
        self._ciphers = ciphers
        self._blocks = BlockReader(database, ciphers)
        self._before = sorted_addresses(self._blocks.layout(account))
        self._since: set[int] = set()

    def step(self) -> WriteBlock | None:
        """What is to be submitted before the next step; None when all has been looked at.

        After it was refused, a new Builder goes on. Raises: Unavailable.
        """
        behind = list(self._database.execute(_BEHIND, (self.account,)))
        if not behind:
            return None
        draft = Draft()
        self._take_last_block(draft)
        rows_left = ROWS_AT_ONCE
        for mailbox, since, newest in behind:
            rows_left = self._take(draft, mailbox, since, newest, rows_left)
            if not rows_left:
                break
        if not draft.fresh:
            return WriteBlock(account=self.account, advances=draft.advances)
        self.messages += draft.fresh
        return write_block(self._ciphers, self.account, draft)

    def _take_last_block(self, draft: Draft) -> None:
        """The last block, if it has room, to be filled up."""
        row = self._database.first(_LAST_BLOCK, (self.account,))
        if row is None or row[1] >= _FULL_LIST_OCTETS:
            return
        try:
            entries = self._blocks.entries(self.account, row[0])
        except DamagedBlock:
            return
        if len(entries) < BLOCK_MESSAGES_MAX:
            draft.replaces.append(row[0])
            for item in entries:
                draft.add(item)

    def _take(self, draft: Draft, mailbox: int, since: int, newest: int, rows_left: int) -> int:
        """Messages of one mailbox; returns how many rows may still be looked at, 0 when the block
        is full."""
        looked = since
        span = UIDSet(((since + 1, UID_MAX),))
        for rows in self._store.messages(self.account, mailbox, span, Want.BASE, READ_AT_ONCE):
            if not rows_left:
                break
            fresh = UIDSet.of(row.uid for row in rows if not self._is_known(row.heap))
            full = self._take_rows(draft, mailbox, fresh)
            if full:
                looked, rows_left = full - 1, 0
                break
            looked = rows[-1].uid
            rows_left = max(0, rows_left - len(rows))
        else:
            looked = max(looked, newest)
        if looked > since:
            draft.advances.append(Advance(mailbox, since, looked))
        return rows_left

    def _take_rows(self, draft: Draft, mailbox: int, uids: UIDSet) -> int:
        """Returns the first UID for which there is no room, or 0."""
        if not uids:
            return 0
        for rows in self._store.messages(self.account, mailbox, uids, _WANT, READ_AT_ONCE):
            for row in rows:
                if self._is_known(row.heap):
                    continue  # twice in these rows
                try:
                    item = entry_of(self._store, row)
                except ValueError:
                    continue  # its structure is damaged, which `postroad verify` tells
                except Unavailable:
                    if not self.passes_over:
                        raise
                    continue
                if item is None:
                    continue
                if not draft.has_room_for(item):
                    if draft.fresh:
                        return row.uid
                    draft.begin_anew()
                draft.add(item)
                draft.fresh += 1
                self._since.add(item.heap)
        return 0

    def _is_known(self, heap: int) -> bool:
        if heap in self._since:
            return True
        at = bisect_left(self._before, heap)
        return at < len(self._before) and self._before[at] == heap


def write_block(ciphers: Ciphers | None, account: int, draft: Draft) -> WriteBlock:
    """The draft as an operation; one without entries only removes and advances."""
    cipher = None if ciphers is None else ciphers.sealing(account)
    sections = pack_block(draft.entries) if draft.entries else {}
    return WriteBlock(
        account=account,
        sections=seal_sections(sections, cipher),
        sealed=cipher is not None,
        replaces=draft.replaces,
        advances=draft.advances,
    )


def sorted_addresses(layout: list[tuple[int, array[int]]]) -> array[int]:
    """8 octets each: a set would take ten times as much."""
    everything = array("Q")
    for _, heaps in layout:
        everything.extend(heaps)
    return array("Q", sorted(everything))
