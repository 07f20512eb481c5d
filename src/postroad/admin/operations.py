"""Every administrative verb on domains, accounts and aliases, once; whoever calls only renders.

Knows no terminal and no configuration. Trusts its caller to be the operator; still refuses what
would lose mail. `now` is an aware moment.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime

from postroad.admin.books import Books
from postroad.directory.leaving import clear_leaving
from postroad.directory.operations import (
    AddAccount,
    AddAlias,
    AddDomain,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    SetPassword,
)
from postroad.directory.passwords import SALT_OCTETS, Verifiers, hash_password
from postroad.directory.values import Account, Alias, Domain
from postroad.mail.address import Address, domain_key, is_domain, parse_address
from postroad.mail.errors import Fault, StateError
from postroad.mail.ids import ACCOUNT_ID_BITS
from postroad.mail.secret import Secret
from postroad.mailauth.dkim.keys import generate_key
from postroad.store.quota import QUOTA, Quota, SetQuota
from postroad.store.quota import quota_of as quota_of_row

_PASSWORD_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: they look alike
_ACCOUNT_ID_TRIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSummary:
    name: str
    accounts: int
    aliases: int
    selectors: tuple[str, ...]
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """password: only when it was made here; nobody can read it again."""

    account: Account
    password: Secret | None


def checked_domain(name: str) -> str:
    """The key form. Raises: ValueError in words for the operator."""
    if not is_domain(name) or "." not in name.strip("."):
        raise ValueError(f"{name!r} is not a full domain name like example.org")
    return domain_key(name)


def checked_address(text: str) -> Address:
    """Raises: ValueError in words for the operator."""
    address = parse_address(text)
    if address.is_literal:
        raise ValueError(f"{text!r} must be in a domain, not at an IP address")
    return address


# -- domains ----------------------------------------------------------------------------------


async def add_domain(books: Books, name: str, *, now: datetime) -> Domain:
    """Adds the domain with fresh DKIM keys of both algorithms (RFC 8463 §3: sign with both).

    Raises: ValueError, StateError(ALREADYEXISTS).
    """
    key = checked_domain(name)
    if any(domain.name == key for domain in books.directory.domains()):
        raise StateError(Fault.ALREADYEXISTS, f"the domain {key} is already here")
    keys = await asyncio.to_thread(new_signing_keys, now)
    await books.database.submit(AddDomain(name=key, keys=keys, now=int(now.timestamp())))
    return Domain(name=key, tenant="default", created=int(now.timestamp()))


def new_signing_keys(now: datetime) -> tuple[tuple[str, str, bytes, str], ...]:
    """(selector, algorithm, PEM, public) of each algorithm; the selector tells the month, so that
    the next ones fit beside them. Takes half a second."""
    month = now.strftime("%Y%m")
    made = []
    for prefix, algorithm in (("ed", "ed25519-sha256"), ("rsa", "rsa-sha256")):
        pem, public = generate_key(algorithm)
        made.append((f"{prefix}-{month}", algorithm, pem, public))
    return tuple(made)


def list_domains(books: Books) -> list[DomainSummary]:
    return [
        DomainSummary(
            name=domain.name,
            accounts=len(books.directory.accounts(domain.name)),
            aliases=len(books.directory.aliases(domain.name)),
            selectors=tuple(key.selector for key in books.directory.signing_keys(domain.name)),
            created=domain.created,
        )
        for domain in books.directory.domains()
    ]


def find_domain(books: Books, name: str) -> Domain:
    """Raises: ValueError, StateError(NONEXISTENT)."""
    key = checked_domain(name)
    for domain in books.directory.domains():
        if domain.name == key:
            return domain
    raise StateError(Fault.NONEXISTENT, f"the domain {key} is not here. Add it: domain add {key}")


async def remove_domain(books: Books, name: str) -> Domain:
    """Raises: ValueError, StateError (NONEXISTENT, INUSE)."""
    domain = find_domain(books, name)
    await books.database.submit(RemoveDomain(name=domain.name))
    return domain


# -- accounts ---------------------------------------------------------------------------------


async def add_account(
    books: Books, address: str, password: Secret | None, *, name: str = "", now: datetime
) -> NewAccount:
    """password: None makes one. Raises: ValueError, StateError."""
    key = checked_address(address).key
    made = None
    if password is None:
        password = made = new_password()
    verifiers = await _verifiers(password)
    for attempt in range(_ACCOUNT_ID_TRIES):
        number = secrets.randbits(ACCOUNT_ID_BITS) or 1
        operation = AddAccount(
            account=number,
            address=key,
            name=name,
            argon2=verifiers.argon2,
            scram_sha_256=verifiers.scram_sha_256,
            scram_sha_1=verifiers.scram_sha_1,
            now=int(now.timestamp()),
        )
        try:
            await books.database.submit(operation)
        except StateError as error:
            if error.fault is not Fault.CONFLICT or attempt + 1 == _ACCOUNT_ID_TRIES:
                raise
        else:
            break
    account = Account(account=number, address=key, name=name, created=int(now.timestamp()))
    return NewAccount(account=account, password=made)


def find_account(books: Books, address: str) -> Account:
    """Raises: StateError(NONEXISTENT)."""
    account = books.directory.account(address)
    if account is None:
        raise StateError(Fault.NONEXISTENT, f"there is no account {address}")
    return account


def list_accounts(books: Books, domain: str | None = None) -> list[Account]:
    """Raises: StateError(NONEXISTENT) for a domain that is not here."""
    if domain is not None:
        domain = find_domain(books, domain).name
    return books.directory.accounts(domain)


async def set_password(books: Books, address: str, password: Secret | None) -> NewAccount:
    """password: None makes one. Raises: ValueError, StateError."""
    account = find_account(books, address)
    made = None
    if password is None:
        password = made = new_password()
    verifiers = await _verifiers(password)
    await books.database.submit(
        SetPassword(
            account=account.account,
            argon2=verifiers.argon2,
            scram_sha_256=verifiers.scram_sha_256,
            scram_sha_1=verifiers.scram_sha_1,
        )
    )
    return NewAccount(account=account, password=made)


async def remove_account(books: Books, address: str) -> tuple[Account, int]:
    """With all its mail; returns how many messages went. Raises: StateError."""
    account = find_account(books, address)
    (messages,) = await books.database.submit(RemoveAccount(account=account.account))
    await clear_leaving(books.database)
    return account, messages


def quota_of(books: Books, address: str) -> Quota:
    """Raises: StateError(NONEXISTENT)."""
    row = books.database.first(QUOTA, (find_account(books, address).account,))
    assert row is not None, "every account has its counters"
    return quota_of_row(row)


async def set_quota(
    books: Books,
    address: str,
    octets_max: int | None,
    messages_max: int | None,
    mailboxes_max: int | None,
) -> None:
    """None: the server's default; -1: no limit. Raises: StateError (NONEXISTENT, CANNOT)."""
    await books.database.submit(
        SetQuota(
            account=find_account(books, address).account,
            octets_max=octets_max,
            messages_max=messages_max,
            mailboxes_max=mailboxes_max,
        )
    )


def new_password() -> Secret:
    """80 bits of chance in four groups that can be read aloud."""
    letters = "".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(16))
    return Secret("-".join(letters[at : at + 4] for at in range(0, 16, 4)))


async def _verifiers(password: Secret) -> Verifiers:
    """Raises: ValueError."""
    salts = secrets.token_bytes(SALT_OCTETS), secrets.token_bytes(SALT_OCTETS)
    return await asyncio.to_thread(
        hash_password, password, argon2_salt=salts[0], scram_salt=salts[1]
    )


# -- aliases ----------------------------------------------------------------------------------


async def add_alias(books: Books, address: str, targets: tuple[str, ...]) -> Alias:
    """Raises: ValueError, StateError (NONEXISTENT: the domain; ALREADYEXISTS)."""
    wanted = checked_address(address)
    if wanted.local == "*":
        raise ValueError(f"{address}: there is no alias for every address; name each one")
    led_to = [checked_address(target) for target in targets]
    if any(target.key == wanted.key for target in led_to):
        raise ValueError(f"{address} would lead to itself, and its mail to nobody")
    alias = Alias(address=wanted.key, targets=tuple(str(target) for target in led_to))
    await books.database.submit(AddAlias(address=alias.address, targets=alias.targets))
    return alias


def list_aliases(books: Books, domain: str | None = None) -> list[Alias]:
    """Raises: StateError(NONEXISTENT) for a domain that is not here."""
    if domain is not None:
        domain = find_domain(books, domain).name
    return books.directory.aliases(domain)


async def remove_alias(books: Books, address: str) -> None:
    """Raises: ValueError, StateError(NONEXISTENT)."""
    await books.database.submit(RemoveAlias(address=checked_address(address).key))
