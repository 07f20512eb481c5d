"""Administrative verbs on how mail lies on the disk: packs, the dictionary, encrypted accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from postroad.admin.books import Books
from postroad.admin.operations import find_account
from postroad.mail.errors import Fault, StateError
from postroad.mail.secret import Secret
from postroad.store.blobs import BlobStore
from postroad.store.compaction import (
    Compacted,
    Compactor,
    PackStatus,
    Rules,
    pack_numbers,
    status_of,
)
from postroad.store.dictionary import FOLDER, Trained, listed, path_of
from postroad.store.keys import Keys, unwrap_key, wrap_key
from postroad.store.recoding import SETTLE_S, Converted, recode
from postroad.store.training import train_from
from postroad.store.upkeep import ACCOUNT_DONE, Encrypt, Rewrap

ALL_PACKS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDictionary:
    """in_use: new records are compressed with it, where [storage] dictionary says so."""

    number: int
    id: str
    octets: int
    in_use: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """state: "on", "off", or "sealing" and "opening" while what is there is being converted."""

    address: str
    state: str


def list_packs(books: Books, data_dir: Path, now: float) -> Iterator[PackStatus]:
    """Blocks, some 100 ms for a full pack. Raises: OSError, Unavailable."""
    for pack in pack_numbers(data_dir):
        status = status_of(books.database, data_dir, pack, now)
        if status is not None:
            yield status


def list_dictionaries(data_dir: Path) -> list[KnownDictionary]:
    folder = data_dir / FOLDER
    known = listed(folder)
    return [
        KnownDictionary(
            number=number,
            id=f"{id:08x}",
            octets=path_of(folder, number, id).stat().st_size,
            in_use=number == known[-1][0],
        )
        for number, id in known
    ]


async def compact(books: Books, data_dir: Path, rules: Rules, now: float) -> Compacted:
    """One round over all packs. What it emptied goes at once when no server runs; else the server
    removes it, once no reader can hold an old reference. Raises: Busy, Unavailable, OSError."""
    compactor = Compactor(books.database, data_dir, rules)
    try:
        done = await compactor.round(now, packs_max=ALL_PACKS)
        if not books.served:
            gone = await compactor.retire(now + rules.grace_s)
            done.removed += gone.removed
            done.freed += gone.freed
        return done
    finally:
        compactor.close()


async def train_dictionary(books: Books, data_dir: Path) -> Trained:
    """Raises: ValueError with too little mail, OSError, Unavailable."""
    return await asyncio.to_thread(train_from, books.database, data_dir)


# -- encrypted accounts -------------------------------------------------------------------------


async def encrypt_account(
    books: Books,
    data_dir: Path,
    keys: Keys,
    address: str,
    *,
    sealed: bool,
    now: int,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Seals, or opens, all of the account's mail; if it is cut short, the server or the same
    command goes on with it. Raises: StateError, Unavailable."""
    account = find_account(books, address).account
    # The key of an account that has one is tried first: with the wrong master key nothing begins.
    keys.cipher(account)
    await books.database.submit(
        Encrypt(account=account, sealed=sealed, wrapped=keys.new_key(account), now=now)
    )
    blobs = BlobStore.open(data_dir, keys=keys)
    try:
        return await recode(
            books.database, blobs, keys, account, settle_s=SETTLE_S, progress=progress
        )
    finally:
        blobs.close()


def list_encrypted(books: Books) -> list[Encryption]:
    rows = books.database.execute(
        "SELECT a.address, k.sealed, k.position FROM account_key AS k"
        " JOIN account AS a ON a.account = k.account ORDER BY a.address"
    )
    return [
        Encryption(address=address, state=_state(bool(sealed), position))
        for address, sealed, position in rows
    ]


def _state(sealed: bool, position: int) -> str:
    if position == ACCOUNT_DONE:
        return "on" if sealed else "off"
    return "sealing" if sealed else "opening"


async def change_master_key(books: Books, old: Secret, new: Secret) -> int:
    """Puts the accounts' keys under another master key; their mail stays as it is. Returns how
    many. Raises: StateError(INUSE) beside a server, which has the old one; Unavailable."""
    if books.served:
        raise StateError(
            Fault.INUSE, "the running server has the old master key: stop it, then say this again"
        )
    rows = list(books.database.execute("SELECT account, wrapped FROM account_key"))
    keys = tuple(
        (account, wrapped, wrap_key(new, account, unwrap_key(old, account, wrapped)))
        for account, wrapped in rows
    )
    (count,) = await books.database.submit(Rewrap(keys=keys))
    return int(count)


def demand_encrypted(books: Books, address: str) -> None:
    """Raises: StateError(NONEXISTENT) for an account that never was encrypted."""
    account = find_account(books, address).account
    row = books.database.first("SELECT 1 FROM account_key WHERE account = ?", (account,))
    if row is None:
        raise StateError(Fault.NONEXISTENT, f"{address} is not encrypted")
