"""Administrative verbs on what is shared: access lists, public accounts, administrators, and what
is noted of the server.

Trusts its caller to be the operator, who may set what an owner may.
Source: RFC 4314 §2 (identifiers), RFC 5464 §3.2.1.1 (entries of the server).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from postroad.admin.books import Books
from postroad.admin.operations import find_account
from postroad.database.contract import Database
from postroad.directory.values import Account
from postroad.mail.errors import Fault, StateError
from postroad.mail.rights import order_rights, parse_rights
from postroad.store.metadata import SITE, Annotate, MetadataReading
from postroad.store.names import canonical
from postroad.store.shared_reading import SharedReading
from postroad.store.sharing import ANYONE, SetAdministrator, SetPublic, SetRights, UnsetPublic
from postroad.store.values import FlagMode

EVERYONE = "anyone"
READING = "lrs"
"""What everybody may do in public mailboxes unless told otherwise: see, read, mark as read."""
_SERVER_ENTRY = re.compile(r"/shared/[^*%\x00-\x19\x7f-\U0010ffff]*[^*%/\x00-\x19\x7f-\U0010ffff]")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntry:
    """who: an address or "anyone". negative: these rights are taken away."""

    mailbox: str
    who: str
    negative: bool
    rights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicAccount:
    address: str
    name: str
    rights: str


class _Reading(SharedReading, MetadataReading):
    def __init__(self, database: Database) -> None:
        self._database = database


def _mailbox(books: Books, account: Account, name: str) -> int:
    row = books.database.first(
        "SELECT mailbox FROM mailbox WHERE account = ? AND name = ?",
        (account.account, canonical(name)),
    )
    if row is None:
        raise StateError(Fault.NONEXISTENT, f"{account.address} has no mailbox {name}")
    return int(row[0])


# -- access lists -------------------------------------------------------------------------------


def list_access(books: Books, owner: str, name: str | None = None) -> list[AccessEntry]:
    """Of one mailbox, or of all. Raises: StateError(NONEXISTENT)."""
    account = find_account(books, owner)
    if name is not None:
        chosen = [(_mailbox(books, account, name), canonical(name))]
    else:
        rows = books.database.execute(
            "SELECT mailbox, name FROM mailbox WHERE account = ? ORDER BY name <> 'INBOX', name",
            (account.account,),
        )
        chosen = [(int(mailbox), str(found)) for mailbox, found in rows]
    reading = _Reading(books.database)
    return [
        AccessEntry(
            mailbox=found,
            who=grant.address or EVERYONE,
            negative=grant.negative,
            rights=order_rights(grant.rights),
        )
        for mailbox, found in chosen
        for grant in reading.access(account.account, mailbox)
    ]


async def set_access(
    books: Books,
    owner: str,
    name: str,
    who: str,
    rights: str,
    *,
    mode: FlagMode = FlagMode.REPLACE,
    negative: bool = False,
) -> None:
    """rights: letters, c and d too. Raises: ValueError, StateError."""
    account = find_account(books, owner)
    letters = order_rights(parse_rights(rights))
    grantee = ANYONE if who.lower() == EVERYONE else find_account(books, who).account
    await books.database.submit(
        SetRights(
            account=account.account,
            mailbox=_mailbox(books, account, name),
            grantee=grantee,
            negative=negative,
            mode=int(mode),
            rights=letters,
        )
    )


# -- public accounts ----------------------------------------------------------------------------


def list_public(books: Books) -> list[PublicAccount]:
    return [
        PublicAccount(
            address=public.owner.address,
            name=public.owner.label,
            rights=order_rights(public.rights),
        )
        for public in _Reading(books.database).public_accounts()
    ]


async def add_public(
    books: Books, address: str, *, name: str | None = None, rights: str = READING
) -> PublicAccount:
    """name: its level below `Shared/`; None: the local part. Raises: ValueError, StateError."""
    account = find_account(books, address)
    label = unicodedata.normalize("NFC", name or account.address.rpartition("@")[0])
    if "*" in label or "%" in label:
        raise ValueError(f"{label!r}: a name cannot hold * or %")
    letters = order_rights(parse_rights(rights))
    await books.database.submit(SetPublic(account=account.account, label=label, rights=letters))
    return PublicAccount(address=account.address, name=label, rights=letters)


async def remove_public(books: Books, address: str) -> Account:
    """The mailboxes stay, for their owner and those he shares them with. Raises: StateError."""
    account = find_account(books, address)
    await books.database.submit(UnsetPublic(account=account.account))
    return account


# -- administrators -----------------------------------------------------------------------------


def list_administrators(books: Books) -> list[str]:
    return _Reading(books.database).administrators()


async def set_administrators(books: Books, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """All or none. Raises: StateError(NONEXISTENT)."""
    changes = [(address, True) for address in add] + [(address, False) for address in remove]
    operations = [
        SetAdministrator(account=find_account(books, address).account, administrator=administrator)
        for address, administrator in changes
    ]
    if operations:
        await books.database.submit(*operations)


# -- what is noted of the server ----------------------------------------------------------------


def list_annotations(books: Books) -> dict[str, str]:
    found = _Reading(books.database).annotations(SITE, 0, SITE)
    return {entry: value.decode("utf-8", "replace") for entry, value in found.items()}


async def set_annotation(books: Books, entry: str, value: str | None) -> None:
    """None removes it. Raises: ValueError, StateError(LIMIT)."""
    name = entry.lower()
    if _SERVER_ENTRY.fullmatch(name) is None or "//" in name:
        raise ValueError(f"{entry!r} is no entry of the server: say /shared/comment")
    if name == "/shared/admin" and value is not None and _URI.fullmatch(value) is None:
        raise ValueError(f"/shared/admin is a URI like mailto:admin@example.org, not {value!r}")
    encoded = None if value is None else value.encode()
    await books.database.submit(
        Annotate(account=SITE, mailbox=0, reader=SITE, entries=[(name, encoded)])
    )
