"""The tables, as numbered migrations that are applied in order, each in one transaction.

A migration is `migrations/NNNN_name.sql`; the number of the last one applied is SQLite's
`user_version`, which is written by the same transaction: killed at any moment, a migration is
done or has not begun. What would touch every row is left to `database.backfill`. A migration that
was released is never edited.
"""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

import apsw

from postroad.database import backfill, snapshots
from postroad.database.transaction import WriteTransaction
from postroad.mail.errors import Fault, StateError

ACCOUNT_TABLES = (
    "counter",
    "mailbox",
    "subscription",
    "keyword",
    "message",
    "expunged",
    "content",
    "shared",
    "removed",
    "removed_mailbox",
    "access",
    "public_account",
    "administrator",
    "seen",
    "reader",
    "annotation",
    "url_key",
    "search_block",
    "search_mark",
    "search_account",
    "transfer",
    "transfer_folder",
    "account_key",
    "credential",
    "account",
)
"""Every table of user data: what goes when an account goes."""
LATER_TABLES = {
    "message": "mailbox, uid",
    "removed": "removed_at, mailbox, uid",
    "shared": "heap",
    "search_block": "section, block",
}
"""Of those, the great ones, with the rest of their keys: they go in steps, and with messages go
their contents. What is not named here goes at once."""
MAILBOX_TABLES = ("message", "expunged", "keyword", "mailbox") + (
    "access",
    "seen",
    "reader",
    "annotation",
    "url_key",
    "search_mark",
)
"""Those with (account, mailbox) first in their key: what goes when a mailbox goes."""
GUEST_ROWS = (
    "DELETE FROM access WHERE grantee = ?",
    "DELETE FROM seen WHERE reader = ?1"
    " AND (account, mailbox) IN (SELECT account, mailbox FROM reader WHERE reader = ?1)",
    "DELETE FROM reader WHERE reader = ?",
    "DELETE FROM annotation WHERE reader = ?",
    "DELETE FROM url_key WHERE reader = ?",
)
"""What an account has with others: goes too when the account goes."""


@functools.cache
def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, ascending and without gaps from 1. Read once: a server
    that has given up root may not be able to read them any more."""
    folder = resources.files("postroad.database") / "migrations"
    found = sorted(
        (int(item.name[:4]), item.read_text("utf-8"))
        for item in folder.iterdir()
        if item.name.endswith(".sql")
    )
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return found


def version_of(connection: apsw.Connection) -> int:
    return int(connection.pragma("user_version") or 0)


def migrate(connection: apsw.Connection, data_dir: Path) -> int:
    """Brings the database to the newest version; returns it. The caller holds the lock.

    Tables that hold something are copied before (see `database.snapshots`).
    Raises: StateError(CONFLICT) for a database of a newer Postroad: going back would lose data;
    Unavailable when there is no room for the copy; apsw.Error, OSError.
    """
    known = migrations()
    have = version_of(connection)
    if have > len(known):
        raise StateError(
            Fault.CONFLICT,
            f"the data was written by a newer Postroad (version {have} of the tables, this one "
            f"knows {len(known)}): run that one, or go back with its `postroad database rollback`",
        )
    if 0 < have < len(known):
        snapshots.take_snapshot(connection, data_dir, have)
    for number, sql in known[have:]:
        apply_migration(connection, number, sql)
    _begin_backfills(connection)
    return len(known)


def apply_migration(connection: apsw.Connection, number: int, sql: str) -> None:
    """One migration, wholly or not at all."""
    with connection:
        connection.execute(sql)
        connection.pragma("user_version", number)


def _begin_backfills(connection: apsw.Connection) -> None:
    """What is little is done at once; the rest waits until the server runs."""
    operation = backfill.ContinueBackfill()
    for _ in range(backfill.AT_OPEN_STEPS_MAX):
        with connection:
            if not operation.apply(WriteTransaction(connection)):
                return
