"""Long operations in slices: units of work of some milliseconds each.

While a unit is applied nobody else's can be, so one that touches 100,000 messages would make
every account wait. Here it becomes many, and others come between. What a session sees of a
mailbox is right at every moment; a crash or an error leaves what was done until then, except of a
COPY, which takes its copies back (RFC 3501 §6.4.7: all or none).
Knows neither sessions nor clocks. Cancelled, it stops after the slice under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from postroad.database.contract import Database, Operation
from postroad.mail.errors import Fault, StateError
from postroad.mail.uidset import UIDSet
from postroad.store import names
from postroad.store.moving import DELETED, UID_MAX
from postroad.store.operations import (
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    Move,
    RenameMailbox,
    StoreFlags,
)
from postroad.store.quota import QUOTA, quota_of
from postroad.store.values import Copied, Expunged, FlagsStored

SLICE = 4000
"""Messages in one unit: 10 to 20 ms."""
SLICE_ACROSS = 1000
"""Of those that go to another account, where each gets a content of its own: 2 KB to write."""

Ranges = Sequence[tuple[int, int]]
Progress = Callable[[int], Awaitable[None]]
"""Called between slices with the number of messages that are done."""
R = TypeVar("R")


async def _quiet(done: int) -> None:
    pass


async def submit(database: Database, operation: Operation[R], progress: Progress = _quiet) -> R:
    """The operation's result, once all of it is durable. Raises: what `Database.submit` does."""
    done: Any
    match operation:
        case StoreFlags():
            done = await _store(database, operation, progress)
        case Copy():
            done = await _copy(database, operation, progress)
        case Move():
            done = await _move(database, operation, progress)
        case Expunge():
            done = await _expunge(database, operation, progress)
        case DeleteMailbox():
            done = None
            await _delete(database, operation, progress)
        case RenameMailbox():
            done = None
            await _rename(database, operation, progress)
        case _:
            (done,) = await database.submit(operation)
    return done  # type: ignore[no-any-return]  # each case returns its operation's result


# -- cutting ------------------------------------------------------------------------------------


def cut(
    database: Database,
    account: int,
    mailbox: int,
    uids: Ranges,
    size: int,
    *,
    only_deleted: bool = False,
) -> Iterator[list[tuple[int, int]]]:
    """The ranges in pieces of at most `size` messages each, ascending. Reads: use a thread."""
    chosen = f" AND flags & {DELETED} <> 0" if only_deleted else ""
    sql = (
        "SELECT uid FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
        f"{chosen} ORDER BY uid LIMIT 1 OFFSET ?"
    )
    piece: list[tuple[int, int]] = []
    room = size
    for low, high in UIDSet.of_ranges(uids).ranges:
        while high - low >= room:
            row = database.first(sql, (account, mailbox, low, high, room))
            if row is None:
                break  # there are fewer messages than numbers
            piece.append((low, row[0] - 1))
            yield piece
            piece, room, low = [], size, row[0]
        piece.append((low, high))
        room -= min(high - low + 1, room)
        if not room:
            yield piece
            piece, room = [], size
    if piece:
        yield piece


async def _pieces(
    database: Database,
    account: int,
    mailbox: int,
    uids: Ranges,
    size: int,
    *,
    only_deleted: bool = False,
) -> list[list[tuple[int, int]]]:
    if sum(abs(high - low) + 1 for low, high in uids) <= size:
        return [list(uids)]

    def work() -> list[list[tuple[int, int]]]:
        return list(cut(database, account, mailbox, uids, size, only_deleted=only_deleted))

    return await asyncio.to_thread(work)


# -- flags --------------------------------------------------------------------------------------


async def _store(database: Database, whole: StoreFlags, progress: Progress) -> FlagsStored:
    parts: list[FlagsStored] = []
    count = 0
    for uids in await _pieces(database, whole.account, whole.mailbox, whole.uids, SLICE):
        (part,) = await database.submit(replace(whole, uids=uids))
        parts.append(part)
        count += len(part.changed)
        await progress(count)
    if len(parts) == 1:
        return parts[0]
    return FlagsStored(
        changed=[item for part in parts for item in part.changed],
        modified=_joined(part.modified for part in parts),
        modseq=parts[-1].modseq,
        modseqs=tuple(modseq for part in parts for modseq in part.modseqs),
    )


def _joined(ranges: Iterator[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    return list(UIDSet.of_ranges(pair for pairs in ranges for pair in pairs).ranges)


# -- copy and move ------------------------------------------------------------------------------


def _size_of(whole: Copy | Move) -> int:
    return SLICE if whole.to_account in (0, whole.account) else SLICE_ACROSS


async def _copy(database: Database, whole: Copy, progress: Progress) -> Copied:
    pieces = await _pieces(database, whole.account, whole.mailbox, whole.uids, _size_of(whole))
    if len(pieces) == 1:
        (copied,) = await database.submit(whole)
        return copied  # type: ignore[no-any-return]  # its Result
    parts: list[Copied] = []
    try:
        for uids in pieces:
            (part,) = await database.submit(replace(whole, uids=uids))
            _check_same(parts, part)
            parts.append(part)
            await progress(_count(parts))
    except BaseException:
        await _take_back(database, whole, parts)
        raise
    return _whole(parts)


async def _take_back(database: Database, whole: Copy, parts: list[Copied]) -> None:
    owner = whole.to_account or whole.account
    for part in parts:
        if part.target:
            undo = Expunge(
                account=owner,
                mailbox=whole.to,
                uids=part.target,
                only_deleted=False,
                now=whole.now,
                keep=False,
            )
            try:
                await database.submit(undo)
            except StateError as error:
                if error.fault is not Fault.NONEXISTENT:
                    raise
                return  # the mailbox was deleted meanwhile, and they with it


async def _move(database: Database, whole: Move, progress: Progress) -> Copied:
    pieces = await _pieces(database, whole.account, whole.mailbox, whole.uids, _size_of(whole))
    if len(pieces) > 1 and whole.enforce_quota and whole.to_account not in (0, whole.account):
        await asyncio.to_thread(_check_room, database, whole)
    parts: list[Copied] = []
    for uids in pieces:
        (part,) = await database.submit(replace(whole, uids=uids))
        _check_same(parts, part)
        parts.append(part)
        await progress(_count(parts))
    return parts[0] if len(parts) == 1 else _whole(parts)


def _check_room(database: Database, whole: Move) -> None:
    """Whether all of it fits, so that a move does not stop half-way. Raises: StateError."""
    count = octets = 0
    for low, high in UIDSet.of_ranges(whole.uids).ranges:
        row = database.first(
            "SELECT count(*), coalesce(sum(size), 0) FROM message"
            " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?",
            (whole.account, whole.mailbox, low, high),
        )
        assert row is not None
        count += row[0]
        octets += row[1]
    row = database.first(QUOTA, (whole.to_account,))
    if row is None:
        return  # the operation says it
    quota = quota_of(row)
    if (quota.octets_max is not None and quota.octets + octets > quota.octets_max) or (
        quota.messages_max is not None and quota.messages + count > quota.messages_max
    ):
        raise StateError(
            Fault.OVERQUOTA, f"there is no room for {count} messages of {octets} octets"
        )


def _check_same(parts: list[Copied], part: Copied) -> None:
    if parts and part.uidvalidity != parts[0].uidvalidity:
        raise StateError(Fault.NONEXISTENT, "the mailbox was made anew meanwhile")


def _count(parts: list[Copied]) -> int:
    return sum(high - low + 1 for part in parts for low, high in part.source)


def _whole(parts: list[Copied]) -> Copied:
    """Both sets ascend, so joined ranges still name the same messages in the same order."""
    return Copied(
        uidvalidity=parts[0].uidvalidity,
        source=_joined(part.source for part in parts),
        target=_joined(part.target for part in parts),
        modseq=parts[-1].modseq,
    )


# -- removing -----------------------------------------------------------------------------------


async def _expunge(database: Database, whole: Expunge, progress: Progress) -> Expunged:
    uids = [(1, UID_MAX)] if whole.uids is None else whole.uids
    pieces = await _pieces(
        database,
        whole.account,
        whole.mailbox,
        uids,
        SLICE,
        only_deleted=whole.only_deleted,
    )
    parts: list[Expunged] = []
    for piece in pieces:
        (part,) = await database.submit(replace(whole, uids=piece))
        parts.append(part)
        await progress(sum(high - low + 1 for item in parts for low, high in item.uids))
    return Expunged(uids=_joined(part.uids for part in parts), modseq=parts[-1].modseq)


def _mailbox(database: Database, account: int, name: str) -> tuple[int, int] | None:
    """(number, messages)"""
    name = names.canonical(name.removesuffix(names.SEPARATOR))
    row = database.first(
        "SELECT mailbox, messages FROM mailbox WHERE account = ? AND name = ?", (account, name)
    )
    return None if row is None else (row[0], row[1])


async def _delete(database: Database, whole: DeleteMailbox, progress: Progress) -> None:
    """A large mailbox is emptied first; what was in it can be brought back, as always."""
    found = _mailbox(database, whole.account, whole.name)
    if found is not None and found[1] > SLICE and names.canonical(whole.name) != "INBOX":
        emptying = Expunge(
            account=whole.account, mailbox=found[0], only_deleted=False, now=whole.now
        )
        await _expunge(database, emptying, progress)
    await database.submit(whole)


async def _rename(database: Database, whole: RenameMailbox, progress: Progress) -> None:
    """INBOX stays, and its messages move (RFC 3501 §6.3.5)."""
    found = _mailbox(database, whole.account, whole.name)
    is_inbox = names.canonical(whole.name.removesuffix(names.SEPARATOR)) == "INBOX"
    if found is None or found[1] <= SLICE or not is_inbox:
        await database.submit(whole)
        return
    (made,) = await database.submit(
        CreateMailbox(account=whole.account, name=whole.to, now=whole.now)
    )
    moving = Move(
        account=whole.account,
        mailbox=found[0],
        uids=[(1, UID_MAX)],
        to=made.mailbox,
        now=whole.now,
    )
    await _move(database, moving, progress)
