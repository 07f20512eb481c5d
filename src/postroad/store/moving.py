"""Applying changes to many messages at once: copy, move, expunge.

The messages in question are first picked into a temporary table, then each step is one statement
over it. Counters of mailbox and account are kept by sums over the same table. Runs on the writer,
inside a transaction; trusts its callers' account ids to be authorised.

An account's messages name contents of that account only: what goes to another account gets
content rows of its own there, which name the same blobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroad.database.contract import Notice, Topic, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import Flag
from postroad.mail.rights import FLAG_RIGHTS, flags_allowed
from postroad.mail.uidset import UIDSet
from postroad.store import keywords as words
from postroad.store import quota, seen
from postroad.store.quota import next_modseq
from postroad.store.tree import current_modseq, no_mailbox, release_contents, require
from postroad.store.values import Copied, Expunged

UID_MAX = 0xFFFFFFFF  # RFC 3501 §2.3.1.1
SEEN = int(Flag.SEEN)
DELETED = int(Flag.DELETED)
Ranges = Sequence[tuple[int, int]]
CONTENT_COLUMNS = "blob, head, sent, envelope, body, bodystructure, structure, preview, header"
"""What a content says, whoever owns it."""
RANGES_MAX = 1000
"""Above it one statement that looks each UID up is cheaper than one for each range."""

PICKED = (
    "CREATE TEMP TABLE IF NOT EXISTS picked (uid INTEGER PRIMARY KEY, flags INTEGER,"
    " keywords BLOB, internal_date INTEGER, size INTEGER, heap INTEGER, saved INTEGER)"
)
_PICK = (
    "INSERT INTO picked SELECT uid, flags, keywords, internal_date, size, heap, saved"
    " FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
)
_REMOVE = (
    "INSERT INTO removed (account, removed_at, mailbox, uid, flags, keywords, internal_date, size,"
    " heap, saved) SELECT ?, ?, ?, uid, flags, keywords, internal_date, size, heap, saved"
    " FROM picked"
)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the messages that are picked."""

    count: int
    unseen: int
    deleted: int
    octets: int


def pick(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges | None,
    *,
    only_deleted: bool = False,
) -> Sums:
    """Picks the messages of these UIDs (None: all)."""
    tx.execute(PICKED)
    tx.execute("DELETE FROM picked")
    ranges = ((1, UID_MAX),) if uids is None else UIDSet.of_ranges(uids).ranges
    sql = _PICK + (f" AND flags & {DELETED} <> 0" if only_deleted else "")
    for low, high in ranges:
        tx.execute(sql, (account, mailbox, low, high))
    return sums_of_picked(tx)


def sums_of_picked(tx: Transaction) -> Sums:
    row = tx.first(
        f"SELECT count(*), coalesce(sum(flags & {SEEN} = 0), 0),"
        f" coalesce(sum(flags & {DELETED} <> 0), 0), coalesce(sum(size), 0) FROM picked"
    )
    assert row is not None
    return Sums(*row)


def picked_uids(tx: Transaction) -> UIDSet:
    return UIDSet.of(uid for (uid,) in tx.execute("SELECT uid FROM picked"))


def insert_picked(
    tx: Transaction, account: int, to: int, modseq: int, sums: Sums, now: int
) -> tuple[int, int]:
    """Puts what is picked into `to` under new UIDs, in the order of the old ones; returns them."""
    _, uidnext = require(tx, account, to)
    last = uidnext + sums.count - 1
    if last > UID_MAX:
        raise StateError(Fault.LIMIT, "this mailbox has given out every UID: use another one")
    _spell_picked(tx, account, to)
    tx.execute(
        "INSERT INTO message (account, mailbox, uid, modseq, flags, keywords, internal_date, size,"
        " heap, saved) SELECT ?, ?, ? + row_number() OVER (ORDER BY uid), ?, flags, keywords,"
        " internal_date, size, heap, ? FROM picked ORDER BY uid",
        (account, to, uidnext - 1, modseq, now),
    )
    tx.execute(
        "UPDATE mailbox SET uidnext = uidnext + ?, highestmodseq = ?, messages = messages + ?,"
        " unseen = unseen + ?, deleted = deleted + ?, size = size + ?"
        " WHERE account = ? AND mailbox = ?",
        (sums.count, modseq, sums.count, sums.unseen, sums.deleted, sums.octets, account, to),
    )
    tx.notify(Notice(Topic.MESSAGES, account, to, modseq))
    return uidnext, last


def _spell_picked(tx: Transaction, account: int, to: int) -> None:
    """Keywords become those of the mailbox they go to, in its spelling."""
    for (packed,) in tx.execute("SELECT DISTINCT keywords FROM picked WHERE keywords <> x''"):
        spelt = words.pack(words.spell(tx, account, to, words.unpack(packed)))
        if spelt != packed:
            tx.execute("UPDATE picked SET keywords = ? WHERE keywords = ?", (spelt, packed))


def delete_picked(tx: Transaction, account: int, mailbox: int, modseq: int, sums: Sums) -> UIDSet:
    """Takes what is picked out of the mailbox, contents apart."""
    gone = picked_uids(tx)
    if len(gone.ranges) > RANGES_MAX:
        tx.execute(
            "DELETE FROM message WHERE account = ? AND mailbox = ?"
            " AND uid IN (SELECT uid FROM picked)",
            (account, mailbox),
        )
    else:
        for low, high in gone.ranges:
            tx.execute(
                "DELETE FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?",
                (account, mailbox, low, high),
            )
    for low, high in gone.ranges:
        tx.execute(
            "INSERT INTO expunged VALUES (?, ?, ?, ?, ?)", (account, mailbox, modseq, low, high)
        )
    tx.execute(
        "UPDATE mailbox SET highestmodseq = ?, messages = messages - ?, unseen = unseen - ?,"
        " deleted = deleted - ?, size = size - ? WHERE account = ? AND mailbox = ?",
        (modseq, sums.count, sums.unseen, sums.deleted, sums.octets, account, mailbox),
    )
    seen.forget_picked(tx, account, mailbox)
    tx.notify(Notice(Topic.MESSAGES, account, mailbox, modseq))
    return gone


def _give_contents(tx: Transaction, owner: int) -> None:
    """What is picked gets contents of `owner`, one for each that it named so far."""
    tx.execute(
        "CREATE TEMP TABLE IF NOT EXISTS given"
        " (heap INTEGER PRIMARY KEY, fresh INTEGER, count INTEGER)"
    )
    tx.execute("DELETE FROM given")
    newest = tx.first("SELECT seq FROM sqlite_sequence WHERE name = 'content'")
    tx.execute(
        "INSERT INTO given SELECT heap, ? + row_number() OVER (ORDER BY heap), count(*)"
        " FROM picked GROUP BY heap",
        (newest[0] if newest else 0,),
    )
    tx.execute(
        f"INSERT INTO content (heap, account, origin, {CONTENT_COLUMNS}) SELECT g.fresh, ?,"
        " CASE c.origin WHEN 0 THEN c.heap ELSE c.origin END,"
        f" {CONTENT_COLUMNS} FROM given AS g JOIN content AS c ON c.heap = g.heap ORDER BY g.fresh",
        (owner,),
    )
    tx.execute("INSERT INTO shared SELECT ?, fresh, count - 1 FROM given WHERE count > 1", (owner,))
    tx.execute("UPDATE picked SET heap = given.fresh FROM given WHERE given.heap = picked.heap")
    tx.execute("DELETE FROM given")


def _share_contents(tx: Transaction, account: int) -> None:
    tx.execute(
        "INSERT INTO shared SELECT ?, heap, count(*) FROM picked WHERE true GROUP BY heap"
        " ON CONFLICT DO UPDATE SET extra = extra + excluded.extra",
        (account,),
    )


def _flags_for(
    tx: Transaction, account: int, mailbox: int, owner: int, reader: int, rights: str
) -> list[int]:
    """What is picked gets the flags that its copies will have: \\Seen of who copies it, and only
    what he may set there (RFC 4314 §4, COPY). Returns the places of those to be marked as seen
    by a reader who is not the owner of the copies."""
    seen.pick_as(tx, account, mailbox, reader)
    if frozenset(FLAG_RIGHTS) - frozenset(rights):
        words_too = "" if "w" in rights else ", keywords = x''"
        tx.execute(f"UPDATE picked SET flags = flags & {flags_allowed(rights)}{words_too}")
    return seen.take_seen(tx, owner, reader)


def _nothing_copied(tx: Transaction, account: int, uidvalidity: int) -> Copied:
    modseq = current_modseq(tx, account)
    return Copied(uidvalidity=uidvalidity, source=[], target=[], modseq=modseq)


def copy(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges | None,
    to: int,
    owner: int,
    now: int,
    *,
    enforce_quota: bool,
    reader: int = 0,
    rights: str = FLAG_RIGHTS,
) -> Copied:
    """To mailbox `to` of `owner`, who may be the same account.

    reader: whose \\Seen the copies have; 0: the owner's. rights: to set flags on them.
    """
    require(tx, account, mailbox)
    uidvalidity, _ = require(tx, owner, to)
    if not pick(tx, account, mailbox, uids).count:
        return _nothing_copied(tx, account, uidvalidity)
    were_seen = _flags_for(tx, account, mailbox, owner, reader, rights)
    sums = sums_of_picked(tx)
    modseq = next_modseq(tx, owner, octets=sums.octets, messages=sums.count)
    if enforce_quota:
        quota.check(tx, owner, "octets", "messages")
    source = picked_uids(tx)
    if owner == account:
        _share_contents(tx, account)
    else:
        _give_contents(tx, owner)
    target = insert_picked(tx, owner, to, modseq, sums, now)
    seen.mark(tx, owner, to, reader, (target[0] + place for place in were_seen))
    return Copied(
        uidvalidity=uidvalidity,
        source=list(source.ranges),
        target=[target],
        modseq=modseq if owner == account else current_modseq(tx, account),
    )


def move(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges | None,
    to: int,
    owner: int,
    now: int,
    *,
    enforce_quota: bool,
    reader: int = 0,
    rights: str = FLAG_RIGHTS,
) -> Copied:
    """uids None: all. Within the account contents and use are not touched.

    reader: whose \\Seen they have then; 0: the owner's. rights: to set flags there.
    """
    require(tx, account, mailbox)
    uidvalidity, _ = require(tx, owner, to)
    sums = pick(tx, account, mailbox, uids)
    if not sums.count:
        return _nothing_copied(tx, account, uidvalidity)
    were_seen = _flags_for(tx, account, mailbox, owner, reader, rights)
    arriving = sums_of_picked(tx)
    if owner == account:
        modseq = next_modseq(tx, account)
        target = insert_picked(tx, account, to, modseq, arriving, now)
        source = delete_picked(tx, account, mailbox, modseq, sums)
    else:
        modseq = next_modseq(tx, account, octets=-sums.octets, messages=-sums.count)
        source = delete_picked(tx, account, mailbox, modseq, sums)
        theirs = next_modseq(tx, owner, octets=sums.octets, messages=sums.count)
        if enforce_quota:
            quota.check(tx, owner, "octets", "messages")
        tx.execute("CREATE TEMP TABLE IF NOT EXISTS left_behind (heap INTEGER)")
        tx.execute("DELETE FROM left_behind")
        tx.execute("INSERT INTO left_behind SELECT heap FROM picked")
        _give_contents(tx, owner)
        release_contents(tx, account, "SELECT heap FROM left_behind")
        target = insert_picked(tx, owner, to, theirs, arriving, now)
    seen.mark(tx, owner, to, reader, (target[0] + place for place in were_seen))
    return Copied(
        uidvalidity=uidvalidity, source=list(source.ranges), target=[target], modseq=modseq
    )


def expunge(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges | None,
    only_deleted: bool,
    now: int,
    *,
    keep: bool = True,
) -> Expunged:
    """What goes is kept in `removed`, contents and all, until the sweep takes it."""
    row = tx.first(
        "SELECT deleted FROM mailbox WHERE account = ? AND mailbox = ?", (account, mailbox)
    )
    if row is None:
        raise no_mailbox(mailbox)
    if only_deleted and not row[0]:
        return Expunged(uids=[], modseq=current_modseq(tx, account))
    sums = pick(tx, account, mailbox, uids, only_deleted=only_deleted)
    if not sums.count:
        return Expunged(uids=[], modseq=current_modseq(tx, account))
    modseq = next_modseq(
        tx,
        account,
        octets=-sums.octets,
        messages=-sums.count,
        removed_octets=sums.octets if keep else 0,
        removed_messages=sums.count if keep else 0,
    )
    if keep:
        tx.execute(_REMOVE, (account, now, mailbox))
    gone = delete_picked(tx, account, mailbox, modseq, sums)
    if not keep:
        release_contents(tx, account, "SELECT heap FROM picked")
    return Expunged(uids=list(gone.ranges), modseq=modseq)
