"""Administrative verbs on the search index: what there is of it, removing it, building it anew.

Trusts its caller to be the operator. Nothing here changes what a search answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from postroad.admin.books import Books
from postroad.admin.operations import find_account, list_accounts
from postroad.database.contract import Database
from postroad.directory.values import Account
from postroad.mail.errors import StateError
from postroad.store.search.building import lag_of
from postroad.store.search.index import MailIndex
from postroad.store.search.reading import BlockReader
from postroad.store.search.verifying import drop_index

REFUSALS_MAX = 20
"""In a row, when the server builds the same account at the same time."""
Progress = Callable[[str, int, int], None]
"""Address, messages done, messages of the account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """messages: of the account. waiting: of those, not looked at yet, at most. indexed: contents
    in blocks: fewer than messages where some are copies, more where some were removed. octets: on
    disk."""

    address: str
    messages: int
    indexed: int
    waiting: int
    blocks: int
    octets: int


def chosen_accounts(books: Books, address: str | None) -> list[Account]:
    """One, or all. Raises: StateError(NONEXISTENT)."""
    return list_accounts(books) if address is None else [find_account(books, address)]


def index_status(books: Books, address: str | None = None) -> list[IndexStatus]:
    """Raises: StateError(NONEXISTENT), Unavailable."""
    return [_status(books.database, account) for account in chosen_accounts(books, address)]


def _status(database: Database, account: Account) -> IndexStatus:
    number = account.account
    row = database.first("SELECT messages FROM counter WHERE account = ?", (number,))
    octets = database.first(
        "SELECT coalesce(sum(length(octets)), 0) FROM search_block WHERE account = ?", (number,)
    )
    layout = BlockReader(database, None).layout(number)
    return IndexStatus(
        address=account.address,
        messages=0 if row is None else row[0],
        indexed=sum(len(heaps) for _, heaps in layout),
        waiting=lag_of(database, number),
        blocks=len(layout),
        octets=0 if octets is None else octets[0],
    )


async def drop_indexes(books: Books, address: str | None = None) -> int:
    """Removes the index of one account, or of all; returns of how many.

    Raises: StateError(NONEXISTENT), Unavailable.
    """
    accounts = chosen_accounts(books, address)
    for account in accounts:
        await drop_index(books.database, account.account)
    return len(accounts)


async def rebuild_indexes(
    books: Books, index: MailIndex, address: str | None, progress: Progress
) -> int:
    """Removes and builds anew; returns how many messages were indexed. May be broken off at any
    moment: what is missing is built by the server.

    Raises: StateError(NONEXISTENT), Unavailable.
    """
    count = 0
    for account in chosen_accounts(books, address):
        await drop_index(books.database, account.account)
        waiting = lag_of(books.database, account.account)
        count += await _build(books.database, index, account, waiting, progress)
    return count


async def _build(
    database: Database, index: MailIndex, account: Account, waiting: int, progress: Progress
) -> int:
    done = refusals = 0
    builder = await asyncio.to_thread(index.builder, account.account)
    while True:
        before = builder.messages
        builder.passes_over = True
        operation = await asyncio.to_thread(builder.step)
        if operation is None:
            return done
        try:
            await database.submit(operation)
        except StateError:
            refusals += 1
            if refusals > REFUSALS_MAX:
                raise
            builder = await asyncio.to_thread(index.builder, account.account)
            continue
        refusals = 0
        done += builder.messages - before
        progress(account.address, min(done, waiting), waiting)
