"""Every change to mailboxes and messages, as operations for the one writer.

Flags are `mail.flags.Flag` bits; keywords are sorted, distinct octet strings in the case of their
first use. All operations refuse with StateError(NONEXISTENT) for an unknown mailbox or account.
"""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Operation, Transaction
from postroad.store.values import (
    Appended,
    Content,
    Copied,
    Expunged,
    FlagsStored,
    Mailbox,
)


class CreateMailbox(Operation[Mailbox], frozen=True, kw_only=True):
    """Creates `name` and its missing parents. StateError: ALREADYEXISTS, LIMIT, CANNOT."""

    Result: ClassVar[type] = Mailbox
    account: int
    name: str
    special_use: str = ""
    now: int


class DeleteMailbox(Operation[None], frozen=True, kw_only=True):
    """Deletes the mailbox and its messages, not its children. INBOX: CANNOT.

    The UIDVALIDITY of a mailbox that is created again under this name is higher.
    """

    account: int
    name: str
    now: int


class RenameMailbox(Operation[None], frozen=True, kw_only=True):
    """Renames the mailbox and its children; INBOX: moves its messages (RFC 3501 §6.3.5)."""

    account: int
    name: str
    to: str
    now: int


class Subscribe(Operation[None], frozen=True, kw_only=True):
    """Subscribes or unsubscribes a name; the mailbox need not exist (RFC 3501 §6.3.6)."""

    account: int
    name: str
    subscribed: bool


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
    special_use: str = ""
    delivery_id: str = ""
    """Message id of the delivery: a second Append with the same one, account and recipient
    answers with the first's result (a retry after a lost answer delivers once)."""


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


class Copy(Operation[Copied], frozen=True, kw_only=True):
    """All or none (RFC 3501 §6.4.7); flags and internal date are kept."""

    Result: ClassVar[type] = Copied
    account: int
    mailbox: int
    uids: list[tuple[int, int]]
    to: int


class Move(Operation[Copied], frozen=True, kw_only=True):
    """Copy and expunge in one unit (RFC 6851)."""

    Result: ClassVar[type] = Copied
    account: int
    mailbox: int
    uids: list[tuple[int, int]]
    to: int


class Expunge(Operation[Expunged], frozen=True, kw_only=True):
    """Removes the messages among `uids` (None: all) that are \\Deleted, or all of them."""

    Result: ClassVar[type] = Expunged
    account: int
    mailbox: int
    uids: list[tuple[int, int]] | None = None
    only_deleted: bool = True


class ClaimRecent(Operation[int], frozen=True, kw_only=True):
    """Returns the first \\Recent UID and moves the mark to UIDNEXT (RFC 3501 §2.3.2)."""

    Result: ClassVar[type] = int
    account: int
    mailbox: int


__all__ = [
    "Append",
    "ClaimRecent",
    "Copy",
    "CreateMailbox",
    "DeleteMailbox",
    "Expunge",
    "Move",
    "RenameMailbox",
    "StoreFlags",
    "Subscribe",
    "Transaction",
]
