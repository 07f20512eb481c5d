"""Every change to the directory, as operations for the one writer."""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Operation


class AddDomain(Operation[None], frozen=True, kw_only=True):
    """keys: (selector, algorithm, PKCS#8 PEM, public base64). StateError: ALREADYEXISTS."""

    name: str
    tenant: str = "default"
    keys: tuple[tuple[str, str, bytes, str], ...]
    now: int


class RemoveDomain(Operation[None], frozen=True, kw_only=True):
    """StateError: NONEXISTENT, INUSE while it has accounts or aliases."""

    name: str


class AddAccount(Operation[None], frozen=True, kw_only=True):
    """Creates the account and its first mailboxes: INBOX, Drafts, Sent, Junk, Trash, Archive.

    account: a fresh random id (`mail.ids.ACCOUNT_ID_BITS`). StateError: ALREADYEXISTS (also as
    an alias), NONEXISTENT (the domain), CONFLICT (the id is taken: choose another).
    """

    account: int
    address: str
    name: str = ""
    argon2: str
    scram_sha_256: str
    now: int


class SetPassword(Operation[None], frozen=True, kw_only=True):
    account: int
    argon2: str
    scram_sha_256: str


class RemoveAccount(Operation[int], frozen=True, kw_only=True):
    """Removes the account with all its mail; returns how many messages went."""

    Result: ClassVar[type] = int
    account: int


class AddAlias(Operation[None], frozen=True, kw_only=True):
    """address: in a domain of ours. Replaces nothing: StateError ALREADYEXISTS."""

    address: str
    targets: tuple[str, ...]


class RemoveAlias(Operation[None], frozen=True, kw_only=True):
    address: str
