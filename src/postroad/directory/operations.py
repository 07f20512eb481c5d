"""Every change to the directory, as operations for the one writer."""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Notice, Operation, Topic, Transaction
from postroad.database.schema import ACCOUNT_TABLES, GUEST_ROWS, LATER_TABLES
from postroad.directory.leaving import ClearAccount as ClearAccount
from postroad.directory.leaving import clear_step
from postroad.mail.errors import Fault, StateError

FIRST_MAILBOXES = (
    ("INBOX", ""),
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Junk", "\\Junk"),
    ("Trash", "\\Trash"),
    ("Archive", "\\Archive"),
)
"""Names and special uses (RFC 6154 §2) of what every account begins with."""
TARGETS_MAX = 1000
"""Of one alias; a mailing list with more is not an alias."""


def _domain_of(address: str) -> str:
    local, at, domain = address.rpartition("@")
    if not local or not at or not domain:
        raise StateError(Fault.CANNOT, f"{address!r} is not an address: say local@domain")
    return domain


def _check_free(tx: Transaction, address: str) -> str:
    """The domain, which is ours, of an address that nobody has."""
    domain = _domain_of(address)
    if tx.first("SELECT 1 FROM domain WHERE name = ?", (domain,)) is None:
        raise StateError(Fault.NONEXISTENT, f"{domain} is not a domain of ours: add it first")
    if tx.first("SELECT 1 FROM account WHERE address = ?", (address,)) is not None:
        raise StateError(Fault.ALREADYEXISTS, f"there is an account {address} already")
    if tx.first("SELECT 1 FROM alias WHERE address = ?", (address,)) is not None:
        raise StateError(Fault.ALREADYEXISTS, f"there is an alias {address} already")
    return domain


class AddDomain(Operation[None], frozen=True, kw_only=True):
    """keys: (selector, algorithm, PKCS#8 PEM, public base64). StateError: ALREADYEXISTS."""

    name: str
    tenant: str = "default"
    keys: tuple[tuple[str, str, bytes, str], ...]
    now: int

    def apply(self, tx: Transaction) -> None:
        if tx.first("SELECT 1 FROM domain WHERE name = ?", (self.name,)) is not None:
            raise StateError(Fault.ALREADYEXISTS, f"{self.name} is a domain of ours already")
        tx.execute("INSERT INTO domain VALUES (?, ?, ?)", (self.name, self.tenant, self.now))
        for selector, algorithm, pem, public in self.keys:
            tx.execute(
                "INSERT INTO signing_key VALUES (?, ?, ?, ?, ?, ?)",
                (self.name, selector, algorithm, pem, public, self.now),
            )


class RemoveDomain(Operation[None], frozen=True, kw_only=True):
    """StateError: NONEXISTENT, INUSE while it has accounts or aliases."""

    name: str

    def apply(self, tx: Transaction) -> None:
        if tx.first("SELECT 1 FROM domain WHERE name = ?", (self.name,)) is None:
            raise StateError(Fault.NONEXISTENT, f"{self.name} is not a domain of ours")
        for kind in ("account", "alias"):
            row = tx.first(f"SELECT address FROM {kind} WHERE domain = ?", (self.name,))
            if row is not None:
                raise StateError(
                    Fault.INUSE, f"{self.name} still has the {kind} {row[0]}: remove it first"
                )
        tx.execute("DELETE FROM signing_key WHERE domain = ?", (self.name,))
        tx.execute("DELETE FROM domain WHERE name = ?", (self.name,))


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
    scram_sha_1: str = ""
    now: int

    def apply(self, tx: Transaction) -> None:
        domain = _check_free(tx, self.address)
        account = self.account
        if not 0 < account < 1 << 62:
            raise StateError(Fault.CANNOT, "an account id is a positive number")
        if tx.first(
            "SELECT 1 FROM account WHERE account = ?1"
            " UNION ALL SELECT 1 FROM leaving WHERE account = ?1",
            (account,),
        ):
            raise StateError(Fault.CONFLICT, "this account id is taken: choose another")
        tx.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?)",
            (account, self.address, domain, self.name, self.now),
        )
        tx.execute(
            "INSERT INTO credential (account, argon2, scram_sha_256, scram_sha_1)"
            " VALUES (?, ?, ?, ?)",
            (account, self.argon2, self.scram_sha_256, self.scram_sha_1),
        )
        former = tx.first(
            "SELECT uidvalidity FROM former_account WHERE address = ?", (self.address,)
        )
        base = self.now if former is None else max(self.now, former[0])
        count = len(FIRST_MAILBOXES)
        tx.execute(
            "INSERT INTO counter (account, modseq, mailbox, uidvalidity, mailboxes)"
            " VALUES (?, 1, ?, ?, ?)",
            (account, count, base + count, count),
        )
        for number, (name, special_use) in enumerate(FIRST_MAILBOXES, 1):
            tx.execute(
                "INSERT INTO mailbox VALUES (?, ?, ?, ?, 1, 1, 0, 0, 0, 0, 1, ?)",
                (account, number, name, base + number, special_use),
            )
            tx.execute("INSERT INTO subscription VALUES (?, ?)", (account, name))
        tx.notify(Notice(Topic.ACCOUNT, account, 0, 1))


class SetPassword(Operation[None], frozen=True, kw_only=True):
    account: int
    argon2: str
    scram_sha_256: str
    scram_sha_1: str = ""

    def apply(self, tx: Transaction) -> None:
        tx.execute(
            "UPDATE credential SET argon2 = ?, scram_sha_256 = ?, scram_sha_1 = ?"
            " WHERE account = ?",
            (self.argon2, self.scram_sha_256, self.scram_sha_1, self.account),
        )
        if not tx.changes():
            raise StateError(Fault.NONEXISTENT, "there is no such account")
        tx.notify(Notice(Topic.ACCOUNT, self.account))


class AddVerifier(Operation[None], frozen=True, kw_only=True):
    """Adds the SCRAM-SHA-1 verifier of the password that `argon2` belongs to, when there is none.

    Changes nothing when the password was changed meanwhile.
    """

    account: int
    argon2: str
    scram_sha_1: str

    def apply(self, tx: Transaction) -> None:
        tx.execute(
            "UPDATE credential SET scram_sha_1 = ?"
            " WHERE account = ? AND argon2 = ? AND scram_sha_1 = ''",
            (self.scram_sha_1, self.account, self.argon2),
        )


class RemoveAccount(Operation[int], frozen=True, kw_only=True):
    """Removes the account; returns how many messages it had.

    Of a large one messages go later (`directory.leaving`), but nobody can reach them any more.
    """

    Result: ClassVar[type] = int
    account: int

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> int:
        if tx.first("SELECT 1 FROM account WHERE account = ?", (self.account,)) is None:
            raise StateError(Fault.NONEXISTENT, "there is no such account")
        tx.execute(
            "INSERT INTO former_account SELECT address, uidvalidity FROM account"
            " JOIN counter USING (account) WHERE account = ?"
            " ON CONFLICT DO UPDATE SET uidvalidity = excluded.uidvalidity",
            (self.account,),
        )
        # The key first, and over itself: whatever else is left of the account cannot be read.
        tx.execute(
            "UPDATE account_key SET wrapped = zeroblob(length(wrapped)) WHERE account = ?",
            (self.account,),
        )
        messages = tx.first("SELECT count(*) FROM message WHERE account = ?", (self.account,))
        assert messages is not None
        tx.execute("INSERT INTO leaving VALUES (?)", (self.account,))
        for table in ACCOUNT_TABLES:
            if table not in LATER_TABLES and table != "content":
                tx.execute(f"DELETE FROM {table} WHERE account = ?", (self.account,))
        for _ in LATER_TABLES:
            if not clear_step(tx, self.account):
                break
        for sql in GUEST_ROWS:
            tx.execute(sql, (self.account,))
        tx.notify(Notice(Topic.ACCOUNT, self.account))
        return int(messages[0])


class AddAlias(Operation[None], frozen=True, kw_only=True):
    """address: in a domain of ours. Replaces nothing: StateError ALREADYEXISTS."""

    address: str
    targets: tuple[str, ...]

    def apply(self, tx: Transaction) -> None:
        domain = _check_free(tx, self.address)
        if not 0 < len(self.targets) <= TARGETS_MAX:
            raise StateError(Fault.LIMIT, f"an alias has 1 to {TARGETS_MAX} targets")
        for target in self.targets:
            _domain_of(target)
            if "\n" in target:
                raise StateError(Fault.CANNOT, "a target cannot hold a line end")
        tx.execute(
            "INSERT INTO alias VALUES (?, ?, ?)", (self.address, domain, "\n".join(self.targets))
        )


class RemoveAlias(Operation[None], frozen=True, kw_only=True):
    address: str

    def apply(self, tx: Transaction) -> None:
        tx.execute("DELETE FROM alias WHERE address = ?", (self.address,))
        if not tx.changes():
            raise StateError(Fault.NONEXISTENT, f"there is no alias {self.address}")
