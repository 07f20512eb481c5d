"""Rows of the index: which block holds what, and sections of blocks, some at a time.

A row that is damaged, or whose key is not here, is as good as missing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from postroad.database.contract import Row, SQLValue
from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.store.search.blocks import (
    DamagedBlock,
    Entry,
    Section,
    unpack_addresses,
    unpack_block,
)

READ_AT_ONCE = 16
"""Blocks of one statement: some 2 MB at most of what is real mail."""
MEMBERS_AT_ONCE = 10_000
_MEMBERS = (
    "SELECT json_group_array(uid), json_group_array(heap) FROM (SELECT uid, heap FROM message"
    " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid LIMIT ?)"
)
"""As texts: a third of the time of so many rows of two numbers."""
_ROWS = (
    "SELECT json_group_array(uid), json_group_array(internal_date), json_group_array(size),"
    " json_group_array(heap) FROM (SELECT uid, internal_date, size, heap FROM message"
    " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid LIMIT ?)"
)
_numbers = msgspec.json.Decoder(list[int])
UID_MAX = 0xFFFF_FFFF
PLAIN, SEALED = b"\0", b"\1"
"""How a section begins as it is stored."""


class Rows(Protocol):
    """What of a database is needed."""

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]: ...


class Cipher(Protocol):
    """Seals an account's blocks. Raises: Unavailable, for what another key has sealed."""

    def seal_search(self, octets: bytes, where: bytes) -> bytes: ...

    def open_search(self, octets: bytes, where: bytes) -> bytes: ...


class Ciphers(Protocol):
    """Whose index is sealed. `sealing`: to seal what is new; `cipher`: to open what is there."""

    def sealing(self, account: int) -> Cipher | None: ...

    def cipher(self, account: int) -> Cipher | None: ...


def seal_sections(sections: dict[Section, bytes], cipher: Cipher | None) -> dict[int, bytes]:
    """A block as it is stored."""
    if cipher is None:
        return {int(section): PLAIN + octets for section, octets in sections.items()}
    return {
        int(section): SEALED + cipher.seal_search(octets, section.name.encode())
        for section, octets in sections.items()
    }


def opened_section(ciphers: Ciphers | None, account: int, section: Section, octets: bytes) -> bytes:
    """A section as `pack_block` made it. Raises: Unavailable when its key is not here."""
    if octets[:1] != SEALED:
        return octets[1:]
    cipher = None if ciphers is None else ciphers.cipher(account)
    if cipher is None:
        raise Unavailable(f"the key of account {account} is not here")
    return cipher.open_search(octets[1:], section.name.encode())


class BlockReader:
    """Safe to use from several threads. ciphers: None where no account is sealed."""

    def __init__(self, rows: Rows, ciphers: Ciphers | None) -> None:
        self._rows = rows
        self._ciphers = ciphers

    def _opened(
        self, account: int, section: Section, rows: Iterable[Row]
    ) -> Iterator[tuple[int, bytes]]:
        """(block, octets) of what can be opened."""
        for block, octets in rows:
            try:
                opened = opened_section(self._ciphers, account, section, octets)
            except Unavailable:
                continue
            yield block, opened

    def layout(self, account: int) -> list[tuple[int, array[int]]]:
        """Every block and the addresses in it, by number. Raises: Unavailable."""
        return list(self._lists(account, Section.HEAPS))

    def layout_of(self, account: int, heaps: array[int]) -> dict[int, array[int]]:
        """Of the blocks that hold any of these. Raises: Unavailable."""
        mine: set[int] = set()
        for at in range(0, len(heaps), MEMBERS_AT_ONCE):
            mine.update(heaps[at : at + MEMBERS_AT_ONCE])
        return {
            block: held
            for block, held in self._lists(account, Section.HEAPS)
            if not mine.isdisjoint(held)
        }

    def bodyless(self, account: int) -> set[int]:
        """Addresses of contents whose body is in no block. Raises: Unavailable."""
        return {heap for _, heaps in self._lists(account, Section.BODYLESS) for heap in heaps}

    def _lists(self, account: int, section: Section) -> Iterator[tuple[int, array[int]]]:
        rows = self._rows.execute(
            "SELECT block, octets FROM search_block WHERE account = ? AND section = ?"
            " ORDER BY block",
            (account, section),
        )
        for block, octets in self._opened(account, section, rows):
            try:
                yield block, unpack_addresses(octets)
            except DamagedBlock:
                continue

    def sections(
        self, account: int, section: Section, blocks: Iterable[int]
    ) -> Iterator[tuple[int, bytes]]:
        """(block, octets) of one section of these blocks (ascending), of those that are there.

        Some are read at a time, and nothing is held in between. Raises: Unavailable.
        """
        for low, high in UIDSet.of(blocks).ranges:
            for start in range(low, high + 1, READ_AT_ONCE):
                rows = self._rows.execute(
                    "SELECT block, octets FROM search_block WHERE account = ? AND section = ?"
                    " AND block BETWEEN ? AND ? ORDER BY block",
                    (account, section, start, min(high, start + READ_AT_ONCE - 1)),
                )
                yield from self._opened(account, section, rows)

    def entries(self, account: int, block: int) -> list[Entry]:
        """Everything in one block. Raises: DamagedBlock (or it is gone), Unavailable."""
        found: dict[Section, bytes] = {}
        for section in Section:
            for _, octets in self.sections(account, section, (block,)):
                found[section] = octets
        return unpack_block(found)

    def members(
        self, account: int, mailbox: int, among: UIDSet | None = None
    ) -> tuple[array[int], array[int]]:
        """UIDs of the mailbox and the addresses of their contents. Raises: Unavailable."""
        uids, heaps = array("L"), array("Q")
        if among is not None and not among:
            return uids, heaps
        start, high = 1, UID_MAX
        if among is not None:
            start, high = among.ranges[0][0], among.ranges[-1][1]
        while start <= high:
            params = (account, mailbox, start, high, MEMBERS_AT_ONCE)
            found = [_numbers.decode(text) for text in next(self._rows.execute(_MEMBERS, params))]
            uids.extend(found[0])
            heaps.extend(found[1])
            if len(found[0]) < MEMBERS_AT_ONCE:
                break
            start = found[0][-1] + 1
        if among is not None and len(among.ranges) > 1:
            return _within(uids, heaps, among)
        return uids, heaps

    def rows(self, account: int, mailbox: int, uids: tuple[int, int]) -> Iterator[list[list[int]]]:
        """UIDs from the first to the last, arrivals, sizes and addresses, some at a time.

        Raises: Unavailable.
        """
        start, high = uids
        while start <= high:
            params = (account, mailbox, start, high, MEMBERS_AT_ONCE)
            found = [_numbers.decode(text) for text in next(self._rows.execute(_ROWS, params))]
            if found[0]:
                yield found
            if len(found[0]) < MEMBERS_AT_ONCE:
                break
            start = found[0][-1] + 1


def _within(uids: array[int], heaps: array[int], among: UIDSet) -> tuple[array[int], array[int]]:
    kept, addresses = array("L"), array("Q")
    ranges = iter(among.ranges)
    low, high = next(ranges)
    for uid, heap in zip(uids, heaps, strict=True):
        while uid > high:
            low, high = next(ranges, (UID_MAX + 1, UID_MAX + 1))
        if uid >= low:
            kept.append(uid)
            addresses.append(heap)
    return kept, addresses
