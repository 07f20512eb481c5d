"""Taking out of the index what is no longer in the mailboxes.

A block that has lost a good part of its messages is written anew without them, together with
others that have shrunk: never more than a few at a time. Until then what was expunged stays in
the blocks, where nothing finds it: it is found through the messages that are there.
Blocking: steps run in a thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from postroad.database.contract import Database
from postroad.store.search.blocks import BLOCK_MESSAGES_MAX, BLOCK_OCTETS_MAX, DamagedBlock
from postroad.store.search.building import Draft, write_block
from postroad.store.search.operations import WriteBlock
from postroad.store.search.reading import BlockReader, Ciphers

LIVE_MIN = 0.75
"""Of a block's messages; with fewer it is written anew."""
DEAD_MIN = 64
"""Of an account's messages: fewer are not worth looking for."""
BLOCKS_AT_ONCE = 256
"""Looked at in one step."""


class Tidier:
    """One account, its blocks in the order of their numbers."""

    def __init__(self, database: Database, ciphers: Ciphers | None, account: int) -> None:
        self.account = account
        self.is_done = False
        self._database = database
        self._ciphers = ciphers
        self._blocks = BlockReader(database, ciphers)
        self._layout = iter(self._blocks.layout(account))
        self._held: tuple[int, list[int] | None] | None = None

    def is_worth_it(self) -> bool:
        """Whether the index holds many more contents than the account has messages."""
        row = self._database.first(
            "SELECT (SELECT coalesce(sum(length(octets)), 0) FROM search_block"
            "  WHERE account = ?1 AND section = 0),"
            " (SELECT messages + removed_messages FROM counter WHERE account = ?1)",
            (self.account,),
        )
        if row is None or row[1] is None:
            return False
        indexed, messages = row[0] // 8, row[1]
        return bool(indexed > messages / LIVE_MIN + DEAD_MIN)

    def step(self) -> WriteBlock | None:
        """What is to be submitted, if anything; then look at `is_done`. Raises: Unavailable."""
        draft = Draft()
        for _ in range(BLOCKS_AT_ONCE):
            block, live = self._held or self._next()
            self._held = None
            if not block:
                self.is_done = True
                break
            if live is None:
                continue
            if draft.replaces and not self._add(draft, block, live):
                self._held = block, live
                break
            if not draft.replaces:
                self._add(draft, block, live)
        return write_block(self._ciphers, self.account, draft) if draft.replaces else None

    def _next(self) -> tuple[int, list[int] | None]:
        """A block and the addresses in it that are still used; None when it stays as it is.

        Block 0: there are no more.
        """
        found = next(self._layout, None)
        if found is None:
            return 0, None
        block, heaps = found
        live = self._live(heaps)
        return block, list(live) if len(live) < LIVE_MIN * len(heaps) else None

    def _live(self, heaps: array[int]) -> set[int]:
        listed = "[" + ",".join(map(str, heaps)) + "]"
        rows = self._database.execute(
            "SELECT heap FROM content WHERE heap IN (SELECT value FROM json_each(?))", (listed,)
        )
        return {heap for (heap,) in rows}

    def _add(self, draft: Draft, block: int, live: Iterable[int]) -> bool:
        """Takes the block into the draft, unless there is no room for what is left of it."""
        try:
            entries = self._blocks.entries(self.account, block)
        except DamagedBlock:
            entries = []  # it covers nothing any more: `rebuild` reads its messages again
        kept = set(live)
        entries = [item for item in entries if item.heap in kept]
        count = len(draft.entries) + len(entries)
        octets = draft.octets + sum(item.octets for item in entries)
        if draft.replaces and (count > BLOCK_MESSAGES_MAX or octets > BLOCK_OCTETS_MAX):
            return False
        for item in entries:
            draft.add(item)
        draft.replaces.append(block)
        return True
