"""Point reads of the directory. Implements `directory.contract.Directory`.

Every call asks the database anew (some 10 us), so that a change is seen by the next call in
every process, and no cache can be stale.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroad.database.contract import Database, Row
from postroad.directory.values import (
    Account,
    Alias,
    Credentials,
    Domain,
    Forward,
    LocalMailbox,
    NotHere,
    Resolution,
    SigningKey,
    Unknown,
)
from postroad.mail.address import Address, domain_key, parse_address
from postroad.mail.errors import Unavailable
from postroad.mail.secret import Secret

ALIAS_DEPTH_MAX = 10
"""Aliases that lead to aliases; what is deeper is a loop or a mistake."""
ALIAS_TARGETS_MAX = 10_000
"""Addresses looked at for one recipient."""
SUBADDRESS_SEPARATOR = "+"

_ACCOUNT = "SELECT account, address, name, created FROM account"


def _account(row: Row) -> Account:
    return Account(account=row[0], address=row[1], name=row[2], created=row[3])


def _key(domain: str) -> str:
    """The key of a domain; what IDNA cannot carry is no domain of ours."""
    try:
        return domain_key(domain)
    except ValueError:
        return ""


class MailDirectory:
    """hostname: mail for `postmaster` there is accepted even if it is no domain of ours."""

    def __init__(self, database: Database, hostname: str = "") -> None:
        self._database = database
        self._hostname = _key(hostname)

    def domains(self) -> list[Domain]:
        rows = self._database.execute("SELECT name, tenant, created FROM domain ORDER BY name")
        return [Domain(name=row[0], tenant=row[1], created=row[2]) for row in rows]

    def is_local(self, domain: str) -> bool:
        key = _key(domain)
        return self._database.first("SELECT 1 FROM domain WHERE name = ?", (key,)) is not None

    def accounts(self, domain: str | None = None) -> list[Account]:
        if domain is None:
            rows = self._database.execute(_ACCOUNT + " ORDER BY domain, address")
        else:
            rows = self._database.execute(
                _ACCOUNT + " WHERE domain = ? ORDER BY address", (_key(domain),)
            )
        return [_account(row) for row in rows]

    def account(self, login: str) -> Account | None:
        try:
            key = parse_address(login.strip()).key
        except ValueError:
            return None
        return self._account_by_key(key)

    def _account_by_key(self, key: str) -> Account | None:
        row = self._database.first(_ACCOUNT + " WHERE address = ?", (key,))
        return None if row is None else _account(row)

    def account_by_id(self, account: int) -> Account | None:
        row = self._database.first(_ACCOUNT + " WHERE account = ?", (account,))
        return None if row is None else _account(row)

    def aliases(self, domain: str | None = None) -> list[Alias]:
        sql = "SELECT address, targets FROM alias"
        rows = (
            self._database.execute(sql + " ORDER BY domain, address")
            if domain is None
            else self._database.execute(sql + " WHERE domain = ? ORDER BY address", (_key(domain),))
        )
        return [Alias(address=row[0], targets=tuple(row[1].split("\n"))) for row in rows]

    def credentials(self, account: int) -> Credentials | None:
        row = self._database.first(
            "SELECT argon2, scram_sha_256, scram_sha_1 FROM credential WHERE account = ?",
            (account,),
        )
        return None if row is None else Credentials(account, *map(Secret, row))

    def signing_keys(self, domain: str) -> list[SigningKey]:
        rows = self._database.execute(
            "SELECT domain, selector, algorithm, pem, public, created FROM signing_key"
            " WHERE domain = ? ORDER BY algorithm, selector",
            (_key(domain),),
        )
        return [
            SigningKey(
                domain=row[0],
                selector=row[1],
                algorithm=row[2],
                pem=Secret(row[3]),
                public=row[4],
                created=row[5],
            )
            for row in rows
        ]

    # -- where mail goes ----------------------------------------------------------------------

    def resolve(self, address: Address) -> Resolution:
        try:
            domain = address.domain_key
        except ValueError:
            return NotHere()
        if not self.is_local(domain):
            if domain == self._hostname and address.local.casefold() == "postmaster":
                return self._postmaster(address, None)
            return NotHere()
        found = self._follow(address)
        if not found and address.local.casefold() == "postmaster":
            return self._postmaster(address, domain)
        return tuple(found) or Unknown()

    def _postmaster(self, address: Address, domain: str | None) -> Resolution:
        """RFC 5321 §4.5.1: there is always somebody: the first account of the domain, or of all."""
        row = self._database.first(
            _ACCOUNT
            + " WHERE domain = coalesce(?, (SELECT d.name FROM domain AS d JOIN account AS a"
            " ON a.domain = d.name ORDER BY d.created, d.name)) ORDER BY created, account",
            (domain,),
        )
        return Unknown() if row is None else (LocalMailbox(_account(row), address),)

    def _follow(self, address: Address) -> list[LocalMailbox | Forward]:
        """The account with this address, or where its alias leads; each target once.

        Raises: Unavailable when aliases lead in a ring to nobody, too deep or to too many: mail
        is deferred until somebody mends them, rather than lost for those past the bound.
        """
        found: list[LocalMailbox | Forward] = []
        seen: set[str] = set()
        level: list[Address] = [address]
        for depth in range(ALIAS_DEPTH_MAX + 1):
            below: list[Address] = []
            for target in level:
                below += self._one(target, seen, found, is_target=depth > 0)
                if len(seen) > ALIAS_TARGETS_MAX:
                    raise Unavailable(f"aliases of {address} lead to too many addresses")
            if not found and below and all(_seen(target, seen) for target in below):
                raise Unavailable(f"aliases of {address} lead in a ring")
            level = below
        if any(not _seen(target, seen) for target in level):
            raise Unavailable(f"aliases of {address} are more than {ALIAS_DEPTH_MAX} deep")
        return found

    def _one(
        self,
        address: Address,
        seen: set[str],
        found: list[LocalMailbox | Forward],
        *,
        is_target: bool,
    ) -> Iterable[Address]:
        """Adds what the address is to `found`; returns the targets when it is an alias."""
        try:
            key = address.key
            domain = address.domain_key
        except ValueError:
            return ()
        if key in seen:
            return ()
        seen.add(key)
        for candidate in _candidates(key):
            account = self._account_by_key(candidate)
            if account is not None:
                mark = f"account {account.account}"
                if mark not in seen:
                    seen.add(mark)
                    found.append(LocalMailbox(account, address))
                return ()
            row = self._database.first("SELECT targets FROM alias WHERE address = ?", (candidate,))
            if row is not None:
                return _targets(row[0])
        if is_target and not self.is_local(domain):
            found.append(Forward(address))
        return ()

    def may_send_as(self, account: int, address: Address) -> bool:
        try:
            if not self.is_local(address.domain_key):
                return False
        except ValueError:
            return False
        return any(
            isinstance(target, LocalMailbox) and target.account.account == account
            for target in self._follow(address)
        )


def _candidates(key: str) -> tuple[str, ...]:
    """The address itself, then without its sub-address (`bob+lists@` is `bob@`)."""
    local, _, domain = key.rpartition("@")
    base, plus, _ = local.partition(SUBADDRESS_SEPARATOR)
    return (key, f"{base}@{domain}") if plus and base else (key,)


def _targets(text: str) -> list[Address]:
    out = []
    for line in text.split("\n"):
        try:
            out.append(parse_address(line))
        except ValueError:
            continue  # it was checked when it was added; one bad target does not lose the others
    return out


def _seen(address: Address, seen: set[str]) -> bool:
    try:
        return address.key in seen
    except ValueError:
        return True
