"""Applying changes to messages where they are: append, flags.

Runs on the writer, inside a transaction; trusts its callers' account ids to be authorised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from postroad.database.contract import Notice, SQLValue, Topic, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import Flag
from postroad.mail.rights import FLAG_RIGHTS, flags_allowed
from postroad.mail.uidset import UIDSet
from postroad.store import keywords as words
from postroad.store import quota, seen
from postroad.store.quota import next_modseq
from postroad.store.tree import current_modseq, no_mailbox, require
from postroad.store.values import (
    Added,
    Appended,
    Content,
    FlagChange,
    FlagMode,
    FlagsStored,
    NewMessage,
)

UID_MAX = 0xFFFFFFFF  # RFC 3501 §2.3.1.1
SEEN = int(Flag.SEEN)
DELETED = int(Flag.DELETED)
ALL_FLAGS = int(Flag.SEEN | Flag.ANSWERED | Flag.FLAGGED | Flag.DELETED | Flag.DRAFT)
Ranges = Sequence[tuple[int, int]]

_GROW = (
    "UPDATE mailbox SET uidnext = uidnext + ?, highestmodseq = ?, messages = messages + ?,"
    " unseen = unseen + ?, deleted = deleted + ?, size = size + ?"
    " WHERE account = ? AND mailbox = ? RETURNING uidnext, uidvalidity"
)
_ADD_CONTENT = (
    "INSERT INTO content (account, blob, head, sent, envelope, body, bodystructure, structure,"
    " preview, header) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING heap"
)
_ADD_MESSAGE = (
    "INSERT INTO message (account, mailbox, uid, modseq, flags, keywords, internal_date, size,"
    " heap, saved) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FLAGS_OF = (
    "SELECT uid, modseq, flags, keywords FROM message"
    " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
)
_SET_FLAGS = (
    "UPDATE message SET modseq = ?, flags = flags & ? | ?"
    " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
)
_SET_FLAGS_AND_WORDS = (
    "UPDATE message SET modseq = ?, flags = flags & ? | ?, keywords = ?"
    " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
)


def delivered_before(tx: Transaction, message: str, account: int) -> Appended | None:
    row = tx.first(
        "SELECT mailbox, uidvalidity, uid, modseq FROM delivery WHERE message = ? AND account = ?",
        (message, account),
    )
    if row is None:
        return None
    return Appended(mailbox=row[0], uidvalidity=row[1], uid=row[2], modseq=row[3])


def delivery_mailbox(tx: Transaction, account: int, special_use: str) -> int:
    """Where a delivery goes: the mailbox with this use, else INBOX."""
    row = None
    if special_use:
        row = tx.first(
            "SELECT mailbox FROM mailbox WHERE account = ? AND special_use = ? ORDER BY mailbox",
            (account, special_use),
        )
    if row is None:
        row = tx.first(
            "SELECT mailbox FROM mailbox WHERE account = ? AND name = 'INBOX'", (account,)
        )
    if row is None:
        raise StateError(Fault.NONEXISTENT, "there is no such account")
    return int(row[0])


def _content_row(account: int, content: Content) -> tuple[SQLValue, ...]:
    return (
        account,
        content.blob,
        content.head,
        content.sent,
        content.envelope,
        content.body,
        content.bodystructure,
        content.structure,
        content.preview,
        content.header,
    )


def add(
    tx: Transaction,
    account: int,
    mailbox: int,
    content: Content,
    flags: int,
    keywords: tuple[bytes, ...],
    internal_date: int,
    saved: int,
    enforce_quota: bool = False,
    reader: int = 0,
) -> Appended:
    """One new message, under the next UID. reader: whose \\Seen it has; 0: the owner's."""
    message = NewMessage(
        content=content, flags=flags, keywords=keywords, internal_date=internal_date
    )
    done = add_all(
        tx, account, mailbox, (message,), saved, enforce_quota=enforce_quota, reader=reader
    )
    return Appended(mailbox=mailbox, uidvalidity=done.uidvalidity, uid=done.uid, modseq=done.modseq)


def add_all(
    tx: Transaction,
    account: int,
    mailbox: int,
    messages: Sequence[NewMessage],
    saved: int,
    *,
    enforce_quota: bool = False,
    reader: int = 0,
    rights: str = FLAG_RIGHTS,
) -> Added:
    """New messages, under the next UIDs. reader: whose \\Seen they have; 0: the owner's.

    rights: which flags are set (RFC 4314 §4). Few statements for each, however many they are: one
    MULTIAPPEND may bring thousands.
    """
    count = len(messages)
    octets = sum(message.content.size for message in messages)
    modseq = next_modseq(tx, account, octets=octets, messages=count)
    if enforce_quota:
        quota.check(tx, account, "octets", "messages")
    personal = seen.is_personal(account, reader)
    allowed = ALL_FLAGS & flags_allowed(rights)
    flags = [message.flags & allowed for message in messages]
    kept = [item & ~SEEN for item in flags] if personal else flags
    unseen = sum(not item & SEEN for item in kept)
    deleted = sum(bool(item & DELETED) for item in kept)
    row = tx.first(_GROW, (count, modseq, count, unseen, deleted, octets, account, mailbox))
    if row is None:
        raise no_mailbox(mailbox)
    uidnext, uidvalidity = row
    if uidnext - 1 > UID_MAX:
        raise StateError(Fault.LIMIT, "this mailbox has given out every UID: use another one")
    spelt = _spelt(tx, account, mailbox, messages) if "w" in rights else {}
    heaps = tx.execute_many(
        _ADD_CONTENT, [_content_row(account, message.content) for message in messages]
    )
    first = uidnext - count
    tx.execute_many(
        _ADD_MESSAGE,
        [
            (account, mailbox, uid, modseq, stored, spelt.get(message.keywords, b""),
             message.internal_date, message.content.size, heap, saved or message.internal_date)
            for uid, (message, stored, (heap,)) in enumerate(
                zip(messages, kept, heaps, strict=True), first
            )
        ],
    )  # fmt: skip
    if personal and (mine := [uid for uid, item in enumerate(flags, first) if item & SEEN]):
        seen.mark(tx, account, mailbox, reader, mine)
    for message in messages:
        tx.sync_blob(message.content.blob)
    tx.notify(Notice(Topic.MESSAGES, account, mailbox, modseq))
    return Added(mailbox=mailbox, uidvalidity=uidvalidity, uid=first, count=count, modseq=modseq)


def _spelt(
    tx: Transaction, account: int, mailbox: int, messages: Sequence[NewMessage]
) -> dict[tuple[bytes, ...], bytes]:
    """The keywords of each, packed, as the mailbox spells them."""
    return {
        keywords: words.pack(words.spell(tx, account, mailbox, keywords))
        for keywords in {message.keywords: None for message in messages}
        if keywords
    }


def check_validity(tx: Transaction, account: int, mailbox: int, expected: int) -> None:
    row = tx.first(
        "SELECT uidvalidity FROM mailbox WHERE account = ? AND mailbox = ?", (account, mailbox)
    )
    if row is None or row[0] != expected:
        raise no_mailbox(mailbox)


# -- flags --------------------------------------------------------------------------------------


class _Personal:
    """Flags as their reader has them: the owner's are the message's, another's \\Seen is his."""

    __slots__ = ("_changes", "_key", "_seen", "_tx")

    def __init__(
        self, tx: Transaction, account: int, mailbox: int, reader: int, uids: Ranges
    ) -> None:
        self._tx = tx
        self._key = (account, mailbox, reader)
        self._seen: UIDSet | None = None
        self._changes = seen.Changes()
        if seen.is_personal(account, reader):
            self._seen = seen.seen_of(tx, account, mailbox, reader, uids)

    def begin(self) -> None:
        """What comes next does not follow what came before."""
        self._changes.pause()

    def flags(self, uid: int, stored: int) -> int:
        if self._seen is None:
            return stored
        return stored & ~SEEN | (SEEN if uid in self._seen else 0)

    def meet(self, uid: int, old: int, new: int) -> None:
        if self._seen is not None:
            self._changes.meet(uid, bool(old & SEEN), bool(new & SEEN))

    @property
    def is_others(self) -> bool:
        """Whether the reader is not the owner, so that the message's \\Seen stays as it is."""
        return self._seen is not None

    def apply(self) -> None:
        account, mailbox, reader = self._key
        if self._seen is not None:
            self._changes.apply(self._tx, account, mailbox, reader)


class _Runs:
    """Neighbours that change alike: one statement for each run of them.

    A run names all messages between its ends, so what lies between two messages of a run must
    have been met and changed too.
    """

    __slots__ = ("_runs", "_whole")

    def __init__(self) -> None:
        self._runs: list[list[Any]] = []
        self._whole = False

    def begin(self) -> None:
        """What was met last does not change, or what comes next does not follow it."""
        self._whole = False

    def meet(self, uid: int, new_words: bytes | None) -> None:
        """new_words: None when they stay."""
        if self._whole and self._runs[-1][2] == new_words:
            self._runs[-1][1] = uid
        else:
            self._runs.append([uid, uid, new_words])
            self._whole = True

    def apply(
        self, tx: Transaction, account: int, mailbox: int, modseq: int, masks: tuple[int, int]
    ) -> None:
        for low, high, new_words in self._runs:
            if new_words is None:
                tx.execute(_SET_FLAGS, (modseq, *masks, account, mailbox, low, high))
            else:
                tx.execute(
                    _SET_FLAGS_AND_WORDS,
                    (modseq, *masks, new_words, account, mailbox, low, high),
                )


def _masks(mode: int, flags: int, allowed: int) -> tuple[int, int]:
    """(kept bits, set bits) of the change."""
    flags &= allowed
    if mode == FlagMode.ADD:
        return ALL_FLAGS, flags
    if mode == FlagMode.REMOVE:
        return ALL_FLAGS & ~flags, 0
    return ALL_FLAGS & ~allowed, flags


def _new_keywords(old: bytes, mode: int, change: frozenset[bytes]) -> bytes:
    have = frozenset(words.unpack(old))
    if mode == FlagMode.ADD:
        have |= change
    elif mode == FlagMode.REMOVE:
        have -= change
    else:
        have = change
    words.check_count(have)
    return words.pack(have)


class _Work:
    """What one command changes, worked out message by message before anything is written."""

    __slots__ = ("changes", "deleted", "mine", "modified", "runs", "unseen")

    def __init__(self, mine: _Personal) -> None:
        self.mine = mine
        self.runs = _Runs()
        self.modified: list[int] = []
        self.changes: list[tuple[int, int, bytes]] = []
        self.unseen = self.deleted = 0

    def pause(self) -> None:
        """What comes next does not follow what came before."""
        self.mine.begin()
        self.runs.begin()

    def meet(self, uid: int, flags: tuple[int, int], keywords: tuple[bytes, bytes]) -> None:
        """The next message; flags, keywords: as they are and as they become."""
        old, new = flags
        self.mine.meet(uid, old, new)
        if old == new and keywords[0] == keywords[1]:
            self.runs.begin()
            return
        self.unseen += (old & SEEN) - (new & SEEN)
        self.deleted += bool(new & DELETED) - bool(old & DELETED)
        self.changes.append((uid, new, keywords[1]))
        self.runs.meet(uid, None if keywords[0] == keywords[1] else keywords[1])


def store_flags(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges,
    mode: int,
    flags: int,
    keywords: tuple[bytes, ...],
    unchangedsince: int,
    reader: int = 0,
    rights: str = FLAG_RIGHTS,
) -> FlagsStored:
    """reader: whose \\Seen is meant; 0: the owner's. rights: what is changed (RFC 4314 §4).

    Source: RFC 3501 §6.4.6, RFC 7162 §3.1.3 (one modseq for all that one command changed).
    """
    require(tx, account, mailbox)
    if mode not in (FlagMode.ADD, FlagMode.REMOVE, FlagMode.REPLACE):
        raise StateError(Fault.CANNOT, f"{mode} is no way to change flags")
    worded = "w" in rights
    change = words.spell(tx, account, mailbox, keywords) if keywords and worded else frozenset()
    keep, put = _masks(mode, flags & ALL_FLAGS, flags_allowed(rights))
    spelt: dict[bytes, bytes] = {}
    wanted = UIDSet.of_ranges(uids).ranges
    mine = _Personal(tx, account, mailbox, reader, wanted)
    work = _Work(mine)
    for low, high in wanted:
        work.pause()
        for uid, was, stored, old_words in tx.execute(_FLAGS_OF, (account, mailbox, low, high)):
            if 0 <= unchangedsince < was:
                work.modified.append(uid)
                work.pause()
                continue
            old = mine.flags(uid, stored)
            new_words = spelt.get(old_words) if worded else old_words
            if new_words is None:
                new_words = spelt[old_words] = _new_keywords(old_words, mode, change)
            work.meet(uid, (old, old & keep | put), (old_words, new_words))
    modseq = _write_flags(tx, account, mailbox, work, keep, put)
    changes = work.changes
    unpacked = {packed: words.unpack(packed) for packed in {kept for _, _, kept in changes}}
    return FlagsStored(
        changed=[FlagChange(uid, modseq, new, unpacked[kept]) for uid, new, kept in changes],
        modified=list(UIDSet.of(work.modified).ranges),
        modseq=modseq,
        modseqs=(modseq,) if changes else (),
    )


def _write_flags(
    tx: Transaction, account: int, mailbox: int, work: _Work, keep: int, put: int
) -> int:
    """Writes what was worked out; returns the modseq."""
    if not work.changes:
        return current_modseq(tx, account)
    modseq = next_modseq(tx, account)
    unseen = work.unseen
    if work.mine.is_others:
        keep, put, unseen = keep | SEEN, put & ~SEEN, 0
    work.runs.apply(tx, account, mailbox, modseq, (keep, put))
    work.mine.apply()
    tx.execute(
        "UPDATE mailbox SET highestmodseq = ?, unseen = unseen + ?, deleted = deleted + ?"
        " WHERE account = ? AND mailbox = ?",
        (modseq, unseen, work.deleted, account, mailbox),
    )
    tx.notify(Notice(Topic.MESSAGES, account, mailbox, modseq))
    return modseq
