"""Converting an account's contents: sealing what was in the clear, or opening what was sealed.

Goes through the heap in small units of work; `account_key.position` says how far it has come, so
it can be stopped and taken up at any instant, by any process that has the keys. What comes in
meanwhile is sealed, or not, by `store.gate`; the end is looked at twice, some seconds apart, for
units that were under way when the account was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from postroad.database.contract import Database
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.store.blobs import BlobStore
from postroad.store.keys import Keys
from postroad.store.sealing import is_sealed, opened_content, plain_columns, sealed_content
from postroad.store.upkeep import ACCOUNT_DONE, Recode, Recoded
from postroad.store.values import Content

ROWS = 50
"""In one unit: some 5 ms of the writer's time."""
SPAN = 20_000
"""Heap addresses looked through at once: in big servers most rows are other accounts'."""
SETTLE_S = 5.0
"""Between the two looks at the end: a unit is submitted at once after it is sealed."""
_ROWS = (
    "SELECT heap, blob, head, sent, envelope, body, bodystructure, structure, preview, header"
    " FROM content WHERE heap > ? AND heap <= ? AND account = ? ORDER BY heap LIMIT ?"
)


@dataclass(slots=True)
class Converted:
    """rows: changed. unreadable: (heap address, why) of rows that stay as they are."""

    rows: int = 0
    unreadable: list[tuple[int, str]] = field(default_factory=list)


def _end(database: Database) -> int:
    row = database.first("SELECT seq FROM sqlite_sequence WHERE name = 'content'")
    return 0 if row is None else int(row[0])


def accounts_to_convert(database: Database) -> list[int]:
    rows = database.execute(
        "SELECT account FROM account_key WHERE position <> ? ORDER BY account", (ACCOUNT_DONE,)
    )
    return [account for (account,) in rows]


async def recode(
    database: Database,
    blobs: BlobStore,
    keys: Keys,
    account: int,
    *,
    settle_s: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Converts what the account's contents still need. progress: heap address, and the last one.

    Raises: Unavailable; StateError(CONFLICT) when the account is told otherwise meanwhile.
    """
    done = Converted()
    settled = False
    while True:
        row = database.first(
            "SELECT sealed, position FROM account_key WHERE account = ?", (account,)
        )
        if row is None or row[1] == ACCOUNT_DONE:
            return done
        sealed, position = bool(row[0]), int(row[1])
        end = await asyncio.to_thread(_end, database)
        if position >= end:
            if not settled and settle_s:
                await asyncio.sleep(settle_s)
                settled = True
                continue
            await _submit(database, account, sealed, (), ACCOUNT_DONE, done)
            return done
        rows, upto = await asyncio.to_thread(
            _step, database, blobs, keys, account, sealed, position, end, done
        )
        await _submit(database, account, sealed, rows, upto, done)
        if progress is not None:
            progress(upto, end)


async def _submit(
    database: Database,
    account: int,
    sealed: bool,
    rows: tuple[Recoded, ...],
    position: int,
    done: Converted,
) -> None:
    operation = Recode(account=account, sealed=sealed, rows=rows, position=position)
    (changed,) = await database.submit(operation)
    done.rows += changed
    if changed < len(rows):
        # moved by a compaction between the read and the write: they are looked at again
        again = Recode(account=account, sealed=sealed, rows=(), position=rows[0].heap - 1)
        await database.submit(again)


def _step(
    database: Database,
    blobs: BlobStore,
    keys: Keys,
    account: int,
    sealed: bool,
    position: int,
    end: int,
    done: Converted,
) -> tuple[tuple[Recoded, ...], int]:
    """The rows of the next stretch in their new form, and how far it reaches."""
    upto = min(position + SPAN, end)
    found = list(database.execute(_ROWS, (position, upto, account, ROWS)))
    if len(found) == ROWS:
        upto = found[-1][0]
    cipher = keys.cipher(account)
    if cipher is None:
        raise StateError(Fault.NONEXISTENT, "the account was removed")
    changed = []
    for heap, *columns in found:
        content = _content(columns)
        owner = account if sealed else 0
        if is_sealed(content) == sealed and blobs.owner(content.blob) == owner:
            continue
        try:
            if sealed:
                other = sealed_content(plain_columns(content, keys), cipher, blobs)
            else:
                other = opened_content(content, keys, blobs)
        except Unavailable as error:
            done.unreadable.append((heap, error.what))
            continue
        changed.append(_recoded(heap, content.blob, other))
    return tuple(changed), upto


def _content(columns: list[Any]) -> Content:
    blob, head, sent, envelope, body, bodystructure, structure, preview, header = columns
    return Content(
        blob=blob,
        head=head,
        size=0,
        envelope=envelope,
        body=body,
        bodystructure=bodystructure,
        header=header,
        structure=structure,
        preview=preview,
        sent=sent,
    )


def _recoded(heap: int, was: str, content: Content) -> Recoded:
    return Recoded(
        heap=heap,
        was=was,
        blob=content.blob,
        head=content.head,
        envelope=content.envelope,
        body=content.body,
        bodystructure=content.bodystructure,
        structure=content.structure,
        preview=content.preview,
        header=content.header,
    )
