"""What a transfer needs of the server: an account, its store, the way to the writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from postroad.admin.books import Books
from postroad.admin.operations import find_account
from postroad.database.contract import Database
from postroad.mail.errors import Fault, StateError
from postroad.store.blobs import BlobStore
from postroad.store.gate import Gate
from postroad.store.mailboxes import MailStore


@dataclass(frozen=True, slots=True)
class Access:
    account: int
    address: str
    database: Database
    blobs: BlobStore
    store: MailStore


@contextmanager
def access_to(
    books: Books, data_dir: Path, address: str, *, learnt: bool = True
) -> Iterator[Access]:
    """learnt: whether new records use the dictionary.

    Raises: StateError (NONEXISTENT: the account; CANNOT: it is encrypted and the key not here).
    """
    account = find_account(books, address)
    row = books.database.first("SELECT 1 FROM account_key WHERE account = ?", (account.account,))
    if row is not None and books.keys is None:
        raise StateError(
            Fault.CANNOT,
            f"{address} is encrypted, and the master key ([storage] master_key) cannot be read",
        )
    # A transfer reads each row once: a mapped file would only make this process grow.
    books.database.execute("PRAGMA mmap_size = 0")
    blobs = BlobStore.open(data_dir, keys=books.keys, learnt=learnt)
    try:
        yield Access(
            account.account,
            account.address,
            Gate(books.database, blobs, books.keys),
            blobs,
            MailStore(books.database, blobs, books.keys),
        )
    finally:
        blobs.close()
