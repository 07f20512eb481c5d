"""Annotations: short notes on a mailbox or the server, shared or one reader's own.

An annotation of a mailbox belongs to the mailbox's owner and goes with it; /private ones are each
reader's. Entry names come checked and in lower case. The use of a mailbox (RFC 6154 §4) is no row
here but the mailbox's own; it is set by the same operation.
Source: RFC 5464 §3.2 (entries), §4.1 (bounds), §4.3 (all or none); RFC 6154 §4, §5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from postroad.database.contract import Database, Notice, Operation, Topic, Transaction
from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.store.quota import next_modseq

SITE = 0
"""The account of what is noted of the server as a whole."""
SHARED = 0
"""The reader of /shared entries."""
SPECIAL_USE = "/private/specialuse"
EVERYBODY = -1
"""The account of notices that concern every session (`Database.subscribe`)."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What a notice of Topic.METADATA says. owner, mailbox: of what; 0: the server."""

    owner: int
    mailbox: int
    entries: tuple[str, ...]


def noted(notice: Notice) -> Noted:
    owner, *entries = notice.subject.split("\n")
    return Noted(int(owner), notice.mailbox, tuple(entries))


def _tell(
    tx: Transaction, to: int, owner: int, mailbox: int, modseq: int, entries: list[str]
) -> None:
    if entries:
        subject = "\n".join((str(owner), *entries))
        tx.notify(Notice(Topic.METADATA, to, mailbox, modseq, subject))


class Annotated(msgspec.Struct, frozen=True, kw_only=True):
    """modseq: of the notices. lost: the name of the mailbox that had the special use before."""

    modseq: int
    lost: str = ""


class Annotate(Operation[Annotated], frozen=True, kw_only=True):
    """Sets annotations of a mailbox (0: of the server), all or none. A value of None removes.

    account: the mailbox's owner; for the server SITE (its /shared entries) or the reader.
    reader: whose /private entries are meant. StateError: NONEXISTENT, LIMIT, CANNOT.
    """

    Result: ClassVar[type] = Annotated
    account: int
    mailbox: int
    reader: int
    entries: list[tuple[str, bytes | None]]

    def apply(self, tx: Transaction) -> Annotated:
        if self.mailbox:
            key = (self.account, self.mailbox)
            row = tx.first("SELECT 1 FROM mailbox WHERE account = ? AND mailbox = ?", key)
            if row is None:
                raise StateError(Fault.NONEXISTENT, "there is no such mailbox")
        modseq = 0 if self.account == SITE else next_modseq(tx, self.account)
        lost = ""
        ours: list[str] = []
        private: list[str] = []
        for entry, value in self.entries:
            if value is not None and len(value) > limits.ANNOTATION_OCTETS_MAX:
                raise StateError(Fault.LIMIT, "the value is too long")
            is_private = entry.startswith("/private/")
            if self.mailbox and entry == SPECIAL_USE:
                lost = self._use(tx, (value or b"").decode("ascii"), modseq)
            else:
                self._set(tx, self.reader if is_private else SHARED, entry, value)
            (private if is_private else ours).append(entry)
        self._check(tx)
        owner = self.account if self.mailbox else SITE
        to = EVERYBODY if self.account == SITE else self.account
        _tell(tx, to, owner, self.mailbox, modseq, ours)
        _tell(tx, self.reader, owner, self.mailbox, modseq, private)
        return Annotated(modseq=modseq, lost=lost)

    def _set(self, tx: Transaction, reader: int, entry: str, value: bytes | None) -> None:
        key = (self.account, self.mailbox, reader, entry)
        if value is None:
            tx.execute(
                "DELETE FROM annotation WHERE account = ? AND mailbox = ? AND reader = ?"
                " AND entry = ?",
                key,
            )
        else:
            tx.execute(
                "INSERT INTO annotation VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET value = excluded.value",
                (*key, value),
            )

    def _check(self, tx: Transaction) -> None:
        """The bounds, of each kind that grew."""
        kinds = {
            self.reader if entry.startswith("/private/") else SHARED
            for entry, value in self.entries
            if value is not None and entry != SPECIAL_USE
        }
        for reader in kinds:
            here = tx.first(
                "SELECT count(*) FROM annotation WHERE account = ? AND mailbox = ? AND reader = ?",
                (self.account, self.mailbox, reader),
            )
            everywhere = tx.first(
                "SELECT coalesce(sum(length(value) + length(entry)), 0) FROM annotation"
                " WHERE account = ? AND reader = ?",
                (self.account, reader),
            )
            assert here is not None and everywhere is not None
            if (
                here[0] > limits.ANNOTATIONS_PER_MAILBOX_MAX
                or everywhere[0] > limits.ANNOTATION_OCTETS_PER_ACCOUNT_MAX
            ):
                raise StateError(Fault.LIMIT, "there are too many annotations: remove some")

    def _use(self, tx: Transaction, use: str, modseq: int) -> str:
        """The mailbox gets the use; the one that had it loses it, and its name is returned."""
        if self.reader != self.account:
            raise StateError(Fault.CANNOT, "the use of a mailbox is its owner's to set")
        lost = ""
        if use:
            row = tx.first(
                "SELECT mailbox, name FROM mailbox WHERE account = ? AND special_use = ?"
                " AND mailbox <> ?",
                (self.account, use, self.mailbox),
            )
            if row is not None:
                lost = row[1]
                tx.execute(
                    "UPDATE mailbox SET special_use = '' WHERE account = ? AND mailbox = ?",
                    (self.account, row[0]),
                )
                _tell(tx, self.account, self.account, row[0], modseq, [SPECIAL_USE])
        tx.execute(
            "UPDATE mailbox SET special_use = ? WHERE account = ? AND mailbox = ?",
            (use, self.account, self.mailbox),
        )
        if tx.first(
            "SELECT 1 FROM mailbox WHERE account = ? AND mailbox = ? AND name = 'INBOX'"
            " AND special_use <> ''",
            (self.account, self.mailbox),
        ):
            raise StateError(Fault.CANNOT, "INBOX has no other use")
        tx.notify(Notice(Topic.MAILBOXES, self.account, 0, modseq))
        return lost


class MetadataReading:
    """The part of `store.contract.Store` that reads annotations."""

    _database: Database

    def annotations(self, account: int, mailbox: int, reader: int) -> dict[str, bytes]:
        """/shared annotations and the reader's /private ones, by entry. mailbox 0: the server's,
        where account is SITE or the reader's own."""
        rows = self._database.execute(
            "SELECT entry, value FROM annotation WHERE account = ? AND mailbox = ?"
            " AND reader IN (0, ?) ORDER BY entry",
            (account, mailbox, reader),
        )
        return dict(rows)
