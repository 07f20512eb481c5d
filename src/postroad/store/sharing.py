"""Who may use a mailbox: access control lists, public accounts, and who administers quotas.

The owner of a mailbox has every right on it, always; entries are only for others. An entry names
an account of the owner's tenant, or everybody of it. Operations, and what other operations call.
Source: RFC 4314 §2 (identifiers, negative rights), §3.1-2, §4 (CREATE inherits, DELETE forgets).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from postroad.database.contract import Notice, Operation, Topic, Transaction
from postroad.database.reading import Reader
from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.mail.rights import ALL, ALL_RIGHTS, order_rights
from postroad.store import names, seen
from postroad.store.quota import next_modseq
from postroad.store.values import FlagMode

ANYONE = 0
"""The grantee that stands for every account of the owner's tenant."""
_TENANT = (
    "SELECT d.tenant FROM account AS a JOIN domain AS d ON d.name = a.domain WHERE a.account = ?"
)
_SPLIT = "/"


def tenant_of(tx: Transaction, account: int) -> str:
    row = tx.first(_TENANT, (account,))
    if row is None:
        raise StateError(Fault.NONEXISTENT, "there is no such account")
    return str(row[0])


def _changed_rights(old: frozenset[str], mode: int, rights: frozenset[str]) -> frozenset[str]:
    match mode:
        case FlagMode.ADD:
            return old | rights
        case FlagMode.REMOVE:
            return old - rights
        case FlagMode.REPLACE:
            return rights
    raise StateError(Fault.CANNOT, f"{mode} is no way to change rights")


class SetRights(Operation[int], frozen=True, kw_only=True):
    """Changes one entry of a mailbox's list; one that is left empty goes. Returns the modseq.

    grantee: an account, or ANYONE. negative: the entry takes rights away. mode: FlagMode.
    StateError: NONEXISTENT (mailbox; grantee, also of another tenant), CANNOT (the owner loses a
    right), LIMIT.
    """

    Result: ClassVar[type] = int
    account: int
    mailbox: int
    grantee: int
    negative: bool = False
    mode: int = int(FlagMode.REPLACE)
    rights: str

    def apply(self, tx: Transaction) -> int:
        given = frozenset(self.rights)
        if not given <= ALL_RIGHTS:
            raise StateError(Fault.CANNOT, f"rights are letters of {ALL}")
        _require(tx, self.account, self.mailbox)
        tenant = tenant_of(tx, self.account)
        if self.grantee == self.account:
            _check_owner(self.mode, given, negative=self.negative)
            return _current_modseq(tx, self.account)
        if self.grantee != ANYONE and _tenant_or_none(tx, self.grantee) != tenant:
            raise StateError(Fault.NONEXISTENT, "there is no such account")
        key = (self.account, self.mailbox, self.grantee, int(self.negative))
        row = tx.first(
            "SELECT rights FROM access WHERE account = ? AND mailbox = ? AND grantee = ?"
            " AND negative = ?",
            key,
        )
        before = frozenset(row[0]) if row is not None else frozenset()
        after = _changed_rights(before, self.mode, given)
        if after == before:
            return _current_modseq(tx, self.account)
        _put(tx, key, tenant if self.grantee == ANYONE else "", after)
        return _tell(tx, self.account, self.mailbox, self.grantee)


def _put(
    tx: Transaction, key: tuple[int, int, int, int], tenant: str, rights: frozenset[str]
) -> None:
    tx.execute(
        "DELETE FROM access WHERE account = ? AND mailbox = ? AND grantee = ? AND negative = ?", key
    )
    if not rights:
        return
    counted = tx.first("SELECT count(*) FROM access WHERE account = ? AND mailbox = ?", key[:2])
    assert counted is not None
    if counted[0] >= limits.ACCESS_ENTRIES_PER_MAILBOX_MAX:
        raise StateError(
            Fault.LIMIT,
            f"a mailbox is shared with at most {limits.ACCESS_ENTRIES_PER_MAILBOX_MAX} accounts",
        )
    tx.execute("INSERT INTO access VALUES (?, ?, ?, ?, ?, ?)", (*key, tenant, order_rights(rights)))


def _tell(tx: Transaction, account: int, mailbox: int, grantee: int) -> int:
    modseq = next_modseq(tx, account)
    tx.notify(Notice(Topic.RIGHTS, account, mailbox, modseq))
    if grantee != ANYONE:
        tx.notify(Notice(Topic.MAILBOXES, grantee))
    return modseq


def _require(tx: Transaction, account: int, mailbox: int) -> None:
    key = (account, mailbox)
    if tx.first("SELECT 1 FROM mailbox WHERE account = ? AND mailbox = ?", key) is None:
        raise StateError(Fault.NONEXISTENT, "there is no such mailbox")


def _tenant_or_none(tx: Transaction, account: int) -> str | None:
    row = tx.first(_TENANT, (account,))
    return None if row is None else str(row[0])


def _current_modseq(tx: Transaction, account: int) -> int:
    row = tx.first("SELECT modseq FROM counter WHERE account = ?", (account,))
    assert row is not None
    return int(row[0])


def _check_owner(mode: int, rights: frozenset[str], *, negative: bool) -> None:
    """The owner keeps all rights, so nobody can be locked out of his own mailbox."""
    before = frozenset[str]() if negative else ALL_RIGHTS
    if _changed_rights(before, mode, rights) != before:
        raise StateError(Fault.CANNOT, "the owner of a mailbox keeps every right on it")


# -- called by what makes and removes mailboxes -------------------------------------------------


def inherit(tx: Transaction, account: int, mailbox: int, name: str) -> None:
    """A new mailbox has the list of the nearest one above it; at the top of a public account,
    what everybody has there. Source: RFC 4314 §4 (CREATE)."""
    for parent in reversed(names.parents(name)):
        row = tx.first(
            "SELECT mailbox FROM mailbox WHERE account = ? AND name = ?", (account, parent)
        )
        if row is not None:
            tx.execute(
                "INSERT INTO access SELECT account, ?, grantee, negative, tenant, rights"
                " FROM access WHERE account = ? AND mailbox = ?",
                (mailbox, account, row[0]),
            )
            return
    row = tx.first("SELECT tenant, rights FROM public_account WHERE account = ?", (account,))
    if row is not None and row[1]:
        tx.execute("INSERT INTO access VALUES (?, ?, ?, 0, ?, ?)", (account, mailbox, ANYONE, *row))


class MendSeen(Operation[None], frozen=True, kw_only=True):
    """Makes what readers have seen of a mailbox agree with its messages."""

    account: int
    mailbox: int

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        seen.mend(tx, self.account, self.mailbox)


def left_behind(reader: Reader) -> Iterator[tuple[int, int, str]]:
    """(account, mailbox, what is wrong): rows of mailboxes that are not there."""
    for table in ("access", "seen", "reader", "annotation"):
        for account, mailbox in reader.execute(
            f"SELECT DISTINCT account, mailbox FROM {table} AS t WHERE mailbox <> 0 AND NOT EXISTS"
            " (SELECT 1 FROM mailbox AS m WHERE m.account = t.account AND m.mailbox = t.mailbox)"
        ):
            yield account, mailbox, f"rows of {table} for a mailbox that is not there"


# -- public accounts and administrators ---------------------------------------------------------


class SetPublic(Operation[None], frozen=True, kw_only=True):
    """Puts an account's mailboxes where all of its tenant find them, or changes how.

    label: its level in the public namespace. rights: what everybody gets on each mailbox that is
    there and on those that will be made at the top. StateError: NONEXISTENT, ALREADYEXISTS (the
    label), CANNOT.
    """

    account: int
    label: str
    rights: str

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        label = names.check_name(self.label)
        if _SPLIT in label or not frozenset(self.rights) <= ALL_RIGHTS:
            raise StateError(Fault.CANNOT, "a public name is one level, rights are letters")
        tenant = tenant_of(tx, self.account)
        row = tx.first(
            "SELECT account FROM public_account WHERE tenant = ? AND label = ?", (tenant, label)
        )
        if row is not None and row[0] != self.account:
            raise StateError(Fault.ALREADYEXISTS, f"another account is public as {label}")
        rights = order_rights(self.rights)
        tx.execute("DELETE FROM public_account WHERE account = ?", (self.account,))
        tx.execute(
            "INSERT INTO public_account VALUES (?, ?, ?, ?)", (self.account, tenant, label, rights)
        )
        tx.execute(
            "DELETE FROM access WHERE account = ? AND grantee = ? AND negative = 0",
            (self.account, ANYONE),
        )
        if rights:
            tx.execute(
                "INSERT INTO access SELECT account, mailbox, ?, 0, ?, ? FROM mailbox"
                " WHERE account = ?",
                (ANYONE, tenant, rights, self.account),
            )
        tx.notify(Notice(Topic.RIGHTS, self.account, 0, next_modseq(tx, self.account)))


class UnsetPublic(Operation[None], frozen=True, kw_only=True):
    """The account is a person's again; what everybody had goes. StateError: NONEXISTENT."""

    account: int

    def apply(self, tx: Transaction) -> None:
        tx.execute("DELETE FROM public_account WHERE account = ?", (self.account,))
        if not tx.changes():
            raise StateError(Fault.NONEXISTENT, "the account is not public")
        tx.execute(
            "DELETE FROM access WHERE account = ? AND grantee = ? AND negative = 0",
            (self.account, ANYONE),
        )
        tx.notify(Notice(Topic.RIGHTS, self.account, 0, next_modseq(tx, self.account)))


class SetAdministrator(Operation[None], frozen=True, kw_only=True):
    """Whether the account may set quotas of its tenant (RFC 9208 §4.1.3)."""

    account: int
    administrator: bool

    def apply(self, tx: Transaction) -> None:
        tenant_of(tx, self.account)
        if self.administrator:
            tx.execute("INSERT OR IGNORE INTO administrator VALUES (?)", (self.account,))
        else:
            tx.execute("DELETE FROM administrator WHERE account = ?", (self.account,))
