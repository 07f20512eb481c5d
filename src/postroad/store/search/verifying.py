"""Whether the index is whole, and doing away with it where it is not.

Nothing is lost by that: searches read what no block holds, and whoever serves builds it anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from postroad.database.contract import Database
from postroad.mail.errors import Unavailable
from postroad.store.search.blocks import (
    DamagedBlock,
    Section,
    unpack_addresses,
    unpack_block,
)
from postroad.store.search.building import sorted_addresses
from postroad.store.search.operations import DropIndex
from postroad.store.search.reading import SEALED, BlockReader, Ciphers, Rows, opened_section

LEFT_OUT_HEADER_OCTETS = 64 << 10
"""A message with a longer header may have been left out on purpose."""
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class IndexProblem:
    account: int
    text: str


def check_index(rows: Rows, ciphers: Ciphers | None = None) -> Iterator[IndexProblem]:
    """What is wrong, one account after another. ciphers: None: sealed blocks are passed over.

    Reads every block, each statement of one commit; what is rewritten meanwhile is no problem.
    Raises: Unavailable.
    """
    accounts = [
        account
        for (account,) in rows.execute(
            "SELECT account FROM search_account UNION SELECT account FROM search_mark"
            " UNION SELECT DISTINCT account FROM search_block"
        )
    ]
    for account in accounts:
        if not list(rows.execute("SELECT 1 FROM account WHERE account = ?", (account,))):
            if not list(rows.execute("SELECT 1 FROM leaving WHERE account = ?", (account,))):
                yield IndexProblem(account, "an index is left of an account that is gone")
            continue
        yield from _blocks(rows, ciphers, account)
        yield from _marks(rows, account)
        yield from _left_out(rows, ciphers, account)


def _blocks(rows: Rows, ciphers: Ciphers | None, account: int) -> Iterator[IndexProblem]:
    """Each block: whole, and of this account's contents."""
    listed = "SELECT DISTINCT block FROM search_block WHERE account = ? ORDER BY block"
    for (block,) in list(rows.execute(listed, (account,))):
        stored = list(
            rows.execute(
                "SELECT section, octets FROM search_block WHERE account = ? AND block = ?",
                (account, block),
            )
        )
        if not stored:
            continue  # it was replaced
        try:
            fault = _fault(rows, ciphers, account, stored)
        except (DamagedBlock, ValueError) as error:
            fault = str(error)
        if fault:
            yield IndexProblem(account, f"block {block}: {fault}")


def _fault(
    rows: Rows, ciphers: Ciphers | None, account: int, stored: list[tuple[int, bytes]]
) -> str:
    """Raises: DamagedBlock, ValueError (a section of no known number)."""
    sections: dict[Section, bytes] = {}
    for number, octets in stored:
        section = Section(number)
        if octets[:1] == SEALED and ciphers is None:
            return ""
        try:
            sections[section] = opened_section(ciphers, account, section, octets)
        except Unavailable as error:
            return str(error)
    unpack_block(sections)
    heaps = unpack_addresses(sections[Section.HEAPS])
    named = "[" + ",".join(map(str, heaps)) + "]"
    foreign = list(
        rows.execute(
            "SELECT heap FROM content WHERE heap IN (SELECT value FROM json_each(?))"
            " AND account <> ? LIMIT 1",
            (named, account),
        )
    )
    return f"content {foreign[0][0]} is another account's" if foreign else ""


def _marks(rows: Rows, account: int) -> Iterator[IndexProblem]:
    """No mailbox was looked at further than it goes."""
    found = rows.execute(
        "SELECT s.mailbox, s.uid FROM search_mark AS s LEFT JOIN mailbox AS m"
        " ON m.account = s.account AND m.mailbox = s.mailbox"
        " WHERE s.account = ? AND (m.uidnext IS NULL OR s.uid >= m.uidnext)",
        (account,),
    )
    for mailbox, uid in found:
        yield IndexProblem(account, f"mailbox {mailbox} has no UID {uid}, and it was looked at")


def _left_out(rows: Rows, ciphers: Ciphers | None, account: int) -> Iterator[IndexProblem]:
    """Messages that were looked at and are in no block, though nothing speaks against it."""
    marks = list(rows.execute("SELECT mailbox, uid FROM search_mark WHERE account = ?", (account,)))
    if not marks:
        return
    known = set(sorted_addresses(BlockReader(rows, ciphers).layout(account)))
    if ciphers is None and _is_sealed(rows, account):
        return
    for mailbox, mark in marks:
        count = 0
        after = 0
        while after < mark:
            page = list(
                rows.execute(
                    "SELECT uid, heap FROM message WHERE account = ? AND mailbox = ?"
                    " AND uid > ? AND uid <= ? ORDER BY uid LIMIT ?",
                    (account, mailbox, after, mark, _PAGE),
                )
            )
            if not page:
                break
            after = page[-1][0]
            missing = array("Q", [heap for _, heap in page if heap not in known])
            count += _indexable(rows, missing)
        if count:
            yield IndexProblem(account, f"mailbox {mailbox}: {count} messages are in no block")


def _is_sealed(rows: Rows, account: int) -> bool:
    sealed = "SELECT 1 FROM search_block WHERE account = ? AND substr(octets, 1, 1) = ? LIMIT 1"
    return bool(list(rows.execute(sealed, (account, SEALED))))


def _indexable(rows: Rows, heaps: array[int]) -> int:
    """How many of these contents have no long header, which would be a reason to leave them."""
    if not heaps:
        return 0
    named = "[" + ",".join(map(str, heaps)) + "]"
    found = list(
        rows.execute(
            "SELECT count(*) FROM content WHERE heap IN (SELECT value FROM json_each(?))"
            " AND length(header) <= ?",
            (named, LEFT_OUT_HEADER_OCTETS),
        )
    )
    return int(found[0][0])


async def drop_index(database: Database, account: int) -> None:
    """Removes all of an account's index, some blocks at a time. Raises: StateError, Unavailable."""
    while True:
        (done,) = await database.submit(DropIndex(account=account))
        if done:
            return
