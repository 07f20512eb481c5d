"""Every change to mailboxes and messages, as operations for the one writer.

Flags are `mail.flags.Flag` bits; keywords are sorted, distinct octet strings in the case of their
first use. All operations refuse with StateError(NONEXISTENT) for an unknown mailbox or account.
"""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Operation, Transaction
from postroad.mail.rights import FLAG_RIGHTS, flags_allowed
from postroad.store import changing, moving, tree
from postroad.store.quota import SetQuota, SetQuotaDefaults
from postroad.store.removed import ForgetRemoved
from postroad.store.undelete import Undelete
from postroad.store.values import (
    Appended,
    Content,
    Copied,
    Expunged,
    FlagsStored,
    Mailbox,
)

MESSAGES_SHORT = 50
"""More of them, and the operation is applied on a thread."""


def _is_long(uids: list[tuple[int, int]] | None) -> bool:
    if uids is None:
        return True
    return sum(abs(high - low) + 1 for low, high in uids) > MESSAGES_SHORT


class CreateMailbox(Operation[Mailbox], frozen=True, kw_only=True):
    """Creates `name` and its missing parents.

    StateError: ALREADYEXISTS, LIMIT, CANNOT, OVERQUOTA (unless not enforced).
    """

    Result: ClassVar[type] = Mailbox
    account: int
    name: str
    special_use: str = ""
    now: int
    enforce_quota: bool = True

    def apply(self, tx: Transaction) -> Mailbox:
        return tree.create(
            tx,
            self.account,
            self.name,
            self.special_use,
            self.now,
            enforce_quota=self.enforce_quota,
        )


class DeleteMailbox(Operation[None], frozen=True, kw_only=True):
    """Deletes the mailbox and its messages, not its children. INBOX: CANNOT.

    The UIDVALIDITY of a mailbox that is created again under this name is higher.
    """

    account: int
    name: str
    now: int

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        tree.delete(tx, self.account, self.name, self.now)


class RenameMailbox(Operation[None], frozen=True, kw_only=True):
    """Renames the mailbox and its children; INBOX: moves its messages (RFC 3501 §6.3.5)."""

    account: int
    name: str
    to: str
    now: int

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        made = tree.rename(tx, self.account, self.name, self.to, self.now)
        if made is not None:
            inbox = changing.delivery_mailbox(tx, self.account, "")
            account = self.account
            moving.move(tx, account, inbox, None, made, account, self.now, enforce_quota=False)


class Subscribe(Operation[None], frozen=True, kw_only=True):
    """Subscribes or unsubscribes a name; the mailbox need not exist (RFC 3501 §6.3.6)."""

    account: int
    name: str
    subscribed: bool

    def apply(self, tx: Transaction) -> None:
        tree.subscribe(tx, self.account, self.name, self.subscribed)


class Append(Operation[Appended], frozen=True, kw_only=True):
    """Adds a message. mailbox 0: the one with `special_use`, else INBOX (delivery).

    expected_uidvalidity: refuses with NONEXISTENT when the mailbox was created anew since.
    """

    Result: ClassVar[type] = Appended
    account: int
    mailbox: int
    content: Content
    flags: int = 0
    keywords: tuple[bytes, ...] = ()
    internal_date: int
    now: int = 0
    """When it is saved (RFC 8514); 0: internal_date."""
    special_use: str = ""
    expected_uidvalidity: int = 0
    delivery_id: str = ""
    """Message id of the delivery: a second Append with the same one, account and recipient
    answers with the first's result (a retry after a lost answer delivers once)."""
    enforce_quota: bool = False
    """Refuses with OVERQUOTA what goes beyond the account's limits. Deliveries do not."""
    reader: int = 0
    """Who does it, where that is not the owner: \\Seen is his own. 0: the owner."""
    rights: str = FLAG_RIGHTS
    """Which flags are set (RFC 4314 §4): `s` \\Seen, `t` \\Deleted, `w` all others."""

    def apply(self, tx: Transaction) -> Appended:
        if self.delivery_id:
            before = changing.delivered_before(tx, self.delivery_id, self.account)
            if before is not None:
                return before
        mailbox = self.mailbox or changing.delivery_mailbox(tx, self.account, self.special_use)
        if self.expected_uidvalidity:
            changing.check_validity(tx, self.account, mailbox, self.expected_uidvalidity)
        done = changing.add(
            tx,
            self.account,
            mailbox,
            self.content,
            self.flags & flags_allowed(self.rights),
            self.keywords if "w" in self.rights else (),
            self.internal_date,
            self.now or self.internal_date,
            self.enforce_quota,
            self.reader,
        )
        if self.delivery_id:
            tx.execute(
                "INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?)",
                (self.delivery_id, self.account, mailbox, done.uidvalidity, done.uid, done.modseq),
            )
        return done


class StoreFlags(Operation[FlagsStored], frozen=True, kw_only=True):
    """mode: FlagMode. unchangedsince: -1 for none (RFC 7162 §3.1.3)."""

    Result: ClassVar[type] = FlagsStored
    account: int
    mailbox: int
    uids: list[tuple[int, int]]
    mode: int
    flags: int
    keywords: tuple[bytes, ...] = ()
    unchangedsince: int = -1
    reader: int = 0
    """Who does it, where that is not the owner: \\Seen is his own. 0: the owner."""
    rights: str = FLAG_RIGHTS
    """Which flags are changed (RFC 4314 §4): `s` \\Seen, `t` \\Deleted, `w` all others."""

    def is_long(self) -> bool:
        return _is_long(self.uids)

    def apply(self, tx: Transaction) -> FlagsStored:
        return changing.store_flags(
            tx,
            self.account,
            self.mailbox,
            self.uids,
            self.mode,
            self.flags,
            self.keywords,
            self.unchangedsince,
            self.reader,
            self.rights,
        )


class Copy(Operation[Copied], frozen=True, kw_only=True):
    """All or none (RFC 3501 §6.4.7); flags and internal date are kept. StateError: OVERQUOTA."""

    Result: ClassVar[type] = Copied
    account: int
    mailbox: int
    uids: list[tuple[int, int]]
    to: int
    to_account: int = 0
    """The owner of `to`; 0: the same account."""
    now: int = 0
    """When it is saved there (RFC 8514)."""
    enforce_quota: bool = True
    reader: int = 0
    """Who does it, where that is not the owner: \\Seen is his own. 0: the owner."""
    rights: str = FLAG_RIGHTS
    """Which flags are set (RFC 4314 §4): `s` \\Seen, `t` \\Deleted, `w` all others."""

    def is_long(self) -> bool:
        return _is_long(self.uids)

    def apply(self, tx: Transaction) -> Copied:
        return moving.copy(
            tx,
            self.account,
            self.mailbox,
            self.uids,
            self.to,
            self.to_account or self.account,
            self.now,
            enforce_quota=self.enforce_quota,
            reader=self.reader,
            rights=self.rights,
        )


class Move(Operation[Copied], frozen=True, kw_only=True):
    """Copy and expunge in one unit (RFC 6851). What is moved is not kept where it was.

    StateError: OVERQUOTA, of another account that it goes to.
    """

    Result: ClassVar[type] = Copied
    account: int
    mailbox: int
    uids: list[tuple[int, int]]
    to: int
    to_account: int = 0
    """The owner of `to`; 0: the same account."""
    now: int = 0
    """When it is saved there (RFC 8514)."""
    enforce_quota: bool = True
    reader: int = 0
    """Who does it, where that is not the owner: \\Seen is his own. 0: the owner."""
    rights: str = FLAG_RIGHTS
    """Which flags are set (RFC 4314 §4): `s` \\Seen, `t` \\Deleted, `w` all others."""

    def is_long(self) -> bool:
        return _is_long(self.uids)

    def apply(self, tx: Transaction) -> Copied:
        return moving.move(
            tx,
            self.account,
            self.mailbox,
            self.uids,
            self.to,
            self.to_account or self.account,
            self.now,
            enforce_quota=self.enforce_quota,
            reader=self.reader,
            rights=self.rights,
        )


class Expunge(Operation[Expunged], frozen=True, kw_only=True):
    """Removes the messages among `uids` (None: all) that are \\Deleted, or all of them.

    They can be brought back until the sweep takes them, some time after `now`; not when `keep` is
    false, which is for what nobody was told of.
    """

    Result: ClassVar[type] = Expunged
    account: int
    mailbox: int
    uids: list[tuple[int, int]] | None = None
    only_deleted: bool = True
    now: int
    keep: bool = True

    def is_long(self) -> bool:
        return _is_long(self.uids)

    def apply(self, tx: Transaction) -> Expunged:
        return moving.expunge(
            tx,
            self.account,
            self.mailbox,
            self.uids,
            self.only_deleted,
            self.now,
            keep=self.keep,
        )


class ClaimRecent(Operation[int], frozen=True, kw_only=True):
    """Returns the first \\Recent UID and moves the mark to UIDNEXT (RFC 3501 §2.3.2)."""

    Result: ClassVar[type] = int
    account: int
    mailbox: int

    def apply(self, tx: Transaction) -> int:
        row = tx.first(
            "SELECT first_recent, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
            (self.account, self.mailbox),
        )
        if row is None:
            raise tree.no_mailbox(self.mailbox)
        if row[0] != row[1]:
            tx.execute(
                "UPDATE mailbox SET first_recent = uidnext WHERE account = ? AND mailbox = ?",
                (self.account, self.mailbox),
            )
        return int(row[0])


__all__ = [
    "Append",
    "ClaimRecent",
    "Copy",
    "CreateMailbox",
    "DeleteMailbox",
    "Expunge",
    "ForgetRemoved",
    "Move",
    "RenameMailbox",
    "SetQuota",
    "SetQuotaDefaults",
    "StoreFlags",
    "Subscribe",
    "Transaction",
    "Undelete",
]
