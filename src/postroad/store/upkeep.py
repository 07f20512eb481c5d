"""Operations by which octets that are kept change their place or their form, never their meaning.

A row is changed only while it still names what was copied: whatever changed it meanwhile wins, and
the upkeep comes again. All of them commit after the octets they name are durable, never beside
that: the old ones are given up on the strength of it.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from postroad.database.contract import Notice, Operation, Topic, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.store.search.operations import forget_index
from postroad.store.values import BlobRef

MOVES_MAX = 200
"""Of one unit: some 5 ms, in which nobody else is served."""
ACCOUNT_DONE = -1
"""`position` of an account whose contents are all as they shall be."""


class Relocate(Operation[int], frozen=True, kw_only=True):
    """Lets every row that names an old place name the new one; returns how many rows did."""

    Result: ClassVar[type] = int
    moves: tuple[tuple[BlobRef, BlobRef], ...]

    def is_irrevocable(self) -> bool:
        return True

    def is_long(self) -> bool:
        return len(self.moves) > 10

    def apply(self, tx: Transaction) -> int:
        if len(self.moves) > MOVES_MAX:
            raise StateError(Fault.LIMIT, f"at most {MOVES_MAX} blobs move at once")
        rows = 0
        for old, new in self.moves:
            changed = 0
            for table in ("content", "queue_message"):
                tx.execute(f"UPDATE {table} SET blob = ? WHERE blob = ?", (new, old))
                changed += tx.changes()
            if changed:
                tx.sync_blob(new)
                rows += changed
        return rows


class Recoded(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A content row in another form: sealed, or opened. was: the blob it named."""

    heap: int
    was: BlobRef
    blob: BlobRef
    head: bytes
    envelope: bytes
    body: bytes
    bodystructure: bytes
    structure: bytes
    preview: str
    header: bytes


class Recode(Operation[int], frozen=True, kw_only=True):
    """Writes rows of one account in their other form; returns how many were changed.

    sealed: what the account wanted when they were made: if it wants the opposite by now, nothing
    is done. position: what `account_key.position` becomes.
    """

    Result: ClassVar[type] = int
    account: int
    sealed: bool
    rows: tuple[Recoded, ...]
    position: int

    def is_irrevocable(self) -> bool:
        return True

    def is_long(self) -> bool:
        return len(self.rows) > 10

    def apply(self, tx: Transaction) -> int:
        if len(self.rows) > MOVES_MAX:
            raise StateError(Fault.LIMIT, f"at most {MOVES_MAX} contents change at once")
        wanted = tx.first("SELECT sealed FROM account_key WHERE account = ?", (self.account,))
        if wanted is None or bool(wanted[0]) != self.sealed:
            raise StateError(Fault.CONFLICT, "the account was told otherwise meanwhile")
        changed = 0
        tx.execute("PRAGMA secure_delete = 1")  # what stood in the clear is overwritten
        try:
            for row in self.rows:
                changed += self._change(tx, row)
        finally:
            tx.execute("PRAGMA secure_delete = 0")
        tx.execute(
            "UPDATE account_key SET position = ? WHERE account = ?", (self.position, self.account)
        )
        return changed

    def _change(self, tx: Transaction, row: Recoded) -> bool:
        tx.execute(
            "UPDATE content SET blob = ?, head = ?, envelope = ?, body = ?, bodystructure = ?,"
            " structure = ?, preview = ?, header = ? WHERE heap = ? AND account = ? AND blob = ?",
            (
                row.blob,
                row.head,
                row.envelope,
                row.body,
                row.bodystructure,
                row.structure,
                row.preview,
                row.header,
                row.heap,
                self.account,
                row.was,
            ),
        )
        if not tx.changes():
            return False
        tx.sync_blob(row.blob)
        return True


class Encrypt(Operation[None], frozen=True, kw_only=True):
    """From now on the account's new mail is sealed, or is not; what is there is converted after.

    The search index goes, for it says the same in clear; it is built anew. wrapped: a fresh key;
    one that the account has already stays. StateError: NONEXISTENT.
    """

    account: int
    sealed: bool
    wrapped: bytes
    now: int

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        if tx.first("SELECT 1 FROM account WHERE account = ?", (self.account,)) is None:
            raise StateError(Fault.NONEXISTENT, "there is no such account")
        row = tx.first("SELECT sealed FROM account_key WHERE account = ?", (self.account,))
        if row is None:
            if self.sealed:
                tx.execute(
                    "INSERT INTO account_key VALUES (?, ?, 1, 0, ?)",
                    (self.account, self.wrapped, self.now),
                )
                forget_index(tx, self.account)
        elif bool(row[0]) != self.sealed:
            forget_index(tx, self.account)
            tx.execute(
                "UPDATE account_key SET sealed = ?, position = 0 WHERE account = ?",
                (int(self.sealed), self.account),
            )
        tx.notify(Notice(Topic.ACCOUNT, self.account))


class Recheck(Operation[None], frozen=True, kw_only=True):
    """Contents of the account from this heap address on are looked at again (see `Recode`).

    wrapped: the key for an account that has none; it seals nothing until it is told to.
    """

    account: int
    position: int
    wrapped: bytes

    def apply(self, tx: Transaction) -> None:
        tx.execute(
            "INSERT INTO account_key VALUES (?1, ?2, 0, ?3, 0) ON CONFLICT (account) DO UPDATE"
            " SET position = ?3 WHERE position = -1 OR position > ?3",
            (self.account, self.wrapped, self.position),
        )


class Rewrap(Operation[int], frozen=True, kw_only=True):
    """Puts every account's key under another master key, all at once; returns how many.

    keys: (account, as it is wrapped, as it shall be). StateError(CONFLICT) when they are not
    exactly the keys that are here.
    """

    Result: ClassVar[type] = int
    keys: tuple[tuple[int, bytes, bytes], ...]

    def is_long(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> int:
        (count,) = tx.first("SELECT count(*) FROM account_key") or (0,)
        changed = 0
        for account, old, new in self.keys:
            tx.execute(
                "UPDATE account_key SET wrapped = ? WHERE account = ? AND wrapped = ?",
                (new, account, old),
            )
            changed += tx.changes()
        if not changed == len(self.keys) == count:
            raise StateError(Fault.CONFLICT, "keys came or went meanwhile: say it again")
        return changed
