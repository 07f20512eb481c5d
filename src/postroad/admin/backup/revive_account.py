"""An account that was removed, made again as a backup has it: name, password, limits."""

from __future__ import annotations

import secrets

from postroad.admin.backup.source import Shelf
from postroad.admin.books import Books
from postroad.directory.operations import AddAccount
from postroad.mail.errors import Fault, StateError
from postroad.mail.ids import ACCOUNT_ID_BITS
from postroad.store.quota import SetQuota
from postroad.store.upkeep import Encrypt


async def revive_account(books: Books, shelf: Shelf, address: str, *, now: int) -> bool:
    """Whether it was made; false when it is there. Aliases, and what others shared with it, are not
    given back. Raises: StateError (NONEXISTENT: its domain; CANNOT: it was encrypted, no key)."""
    if books.directory.account(address) is not None:
        return False
    old = shelf.account(address)
    row = shelf.reader.first(
        "SELECT a.name, c.argon2, c.scram_sha_256, c.scram_sha_1, n.octets_max, n.messages_max,"
        " n.mailboxes_max, coalesce((SELECT k.sealed FROM account_key AS k"
        " WHERE k.account = a.account), 0) FROM account AS a"
        " JOIN credential AS c ON c.account = a.account JOIN counter AS n ON n.account = a.account"
        " WHERE a.account = ?",
        (old,),
    )
    if row is None:
        raise StateError(Fault.CANNOT, f"{address} is not whole in the backup")
    name, argon2, scram_sha_256, scram_sha_1, octets, messages, mailboxes, sealed = row
    if sealed and books.keys is None:
        raise StateError(
            Fault.CANNOT, f"{address} was encrypted: name the master key, [storage] master_key"
        )
    number = secrets.randbits(ACCOUNT_ID_BITS) or 1
    await books.database.submit(
        AddAccount(
            account=number,
            address=address,
            name=name,
            argon2=argon2,
            scram_sha_256=scram_sha_256,
            scram_sha_1=scram_sha_1,
            now=now,
        ),
        SetQuota(account=number, octets_max=octets, messages_max=messages, mailboxes_max=mailboxes),
    )
    if sealed and books.keys is not None:
        wrapped = books.keys.new_key(number)
        await books.database.submit(Encrypt(account=number, sealed=True, wrapped=wrapped, now=now))
    return True
