"""Applying changes to mailboxes themselves: create, delete, rename, subscribe.

Runs on the writer, inside a transaction; trusts its callers' account ids to be authorised.
"""

from __future__ import annotations

from postroad.database.contract import Notice, Topic, Transaction
from postroad.database.schema import MAILBOX_TABLES
from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.store import names, quota, sharing
from postroad.store.quota import next_modseq
from postroad.store.values import Mailbox

UIDVALIDITY_MAX = 0xFFFFFFFF


def no_mailbox(name: str | int) -> StateError:
    text = f"there is no mailbox {name}" if isinstance(name, str) else "the mailbox is gone"
    return StateError(Fault.NONEXISTENT, text)


def current_modseq(tx: Transaction, account: int) -> int:
    row = tx.first("SELECT modseq FROM counter WHERE account = ?", (account,))
    assert row is not None
    return int(row[0])


def require(tx: Transaction, account: int, mailbox: int) -> tuple[int, int]:
    """(uidvalidity, uidnext). Raises: StateError(NONEXISTENT)."""
    row = tx.first(
        "SELECT uidvalidity, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
        (account, mailbox),
    )
    if row is None:
        raise no_mailbox(mailbox)
    return row[0], row[1]


def mailbox_id(tx: Transaction, account: int, name: str) -> int | None:
    row = tx.first("SELECT mailbox FROM mailbox WHERE account = ? AND name = ?", (account, name))
    return None if row is None else int(row[0])


def create(
    tx: Transaction,
    account: int,
    name: str,
    special_use: str,
    now: int,
    *,
    enforce_quota: bool = True,
) -> Mailbox:
    """Source: RFC 3501 §6.3.3 (superior names are made), RFC 6154 §3."""
    name = names.check_name(name)
    missing = _missing_parents(tx, account, name)
    modseq = next_modseq(tx, account, mailboxes=len(missing) + 1)
    if mailbox_id(tx, account, name) is not None:
        raise StateError(Fault.ALREADYEXISTS, f"there is a mailbox {name} already")
    if enforce_quota:
        quota.check(tx, account, "mailboxes")
    for parent in missing:
        _insert(tx, account, parent, "", modseq, now)
    return _insert(tx, account, name, special_use, modseq, now)


def _missing_parents(tx: Transaction, account: int, name: str) -> list[str]:
    """The names above it that are no mailboxes, from the top."""
    return [parent for parent in names.parents(name) if mailbox_id(tx, account, parent) is None]


def _insert(
    tx: Transaction, account: int, name: str, special_use: str, modseq: int, now: int
) -> Mailbox:
    counted = tx.first("SELECT count(*) FROM mailbox WHERE account = ?", (account,))
    assert counted is not None
    if counted[0] >= limits.MAILBOXES_PER_ACCOUNT_MAX:
        raise StateError(
            Fault.LIMIT, f"an account has at most {limits.MAILBOXES_PER_ACCOUNT_MAX} mailboxes"
        )
    row = tx.first(
        "UPDATE counter SET mailbox = mailbox + 1, uidvalidity = max(uidvalidity + 1, ?)"
        " WHERE account = ? RETURNING mailbox, uidvalidity",
        (now, account),
    )
    assert row is not None
    number, uidvalidity = row
    if uidvalidity > UIDVALIDITY_MAX:
        raise StateError(Fault.LIMIT, "this account has no UIDVALIDITY left")
    tx.execute(
        "INSERT INTO mailbox VALUES (?, ?, ?, ?, 1, ?, 0, 0, 0, 0, 1, ?)",
        (account, number, name, uidvalidity, modseq, special_use),
    )
    sharing.inherit(tx, account, number, name)
    tx.notify(Notice(Topic.MAILBOXES, account, 0, modseq))
    subscribed = tx.first(
        "SELECT 1 FROM subscription WHERE account = ? AND name = ?", (account, name)
    )
    return Mailbox(
        account=account,
        mailbox=number,
        name=name,
        uidvalidity=uidvalidity,
        uidnext=1,
        highestmodseq=modseq,
        messages=0,
        unseen=0,
        deleted=0,
        size=0,
        first_recent=1,
        special_use=special_use,
        subscribed=subscribed is not None,
    )


def delete(tx: Transaction, account: int, name: str, now: int) -> None:
    """What was in it can be brought back, and so can it. Inferior names stay.

    Source: RFC 3501 §6.3.4.
    """
    name = names.canonical(name.removesuffix(names.SEPARATOR))
    if name == "INBOX":
        raise StateError(Fault.CANNOT, "INBOX cannot be deleted")
    mailbox = mailbox_id(tx, account, name)
    if mailbox is None:
        if _with_inferiors(tx, account, name):
            raise StateError(Fault.HASCHILDREN, f"{name} only has mailboxes below it")
        raise no_mailbox(name)
    key = (account, mailbox)
    sums = tx.first(
        "SELECT count(*), coalesce(sum(size), 0) FROM message WHERE account = ? AND mailbox = ?",
        key,
    )
    assert sums is not None
    modseq = next_modseq(
        tx,
        account,
        octets=-sums[1],
        messages=-sums[0],
        mailboxes=-1,
        removed_octets=sums[1],
        removed_messages=sums[0],
    )
    tx.execute(
        "INSERT INTO removed (account, removed_at, mailbox, uid, flags, keywords, internal_date,"
        " size, heap, saved) SELECT account, ?, mailbox, uid, flags, keywords, internal_date, size,"
        " heap, saved FROM message WHERE account = ? AND mailbox = ?",
        (now, *key),
    )
    tx.execute(
        "INSERT INTO removed_mailbox (account, mailbox, removed_at, name, special_use, subscribed)"
        " SELECT m.account, m.mailbox, ?, m.name, m.special_use, EXISTS (SELECT 1"
        "  FROM subscription AS s WHERE s.account = m.account AND s.name = m.name)"
        " FROM mailbox AS m WHERE m.account = ? AND m.mailbox = ?",
        (now, *key),
    )
    for table in MAILBOX_TABLES:
        tx.execute(f"DELETE FROM {table} WHERE account = ? AND mailbox = ?", key)
    tx.notify(Notice(Topic.MAILBOXES, account, mailbox, modseq))
    tx.notify(Notice(Topic.MESSAGES, account, mailbox, modseq))


def release_contents(
    tx: Transaction, account: int, heaps: str, params: tuple[int, ...] = ()
) -> None:
    """Takes one reference from each heap address that the statement `heaps` yields (as often as
    it yields it) and removes the contents that nothing names any more."""
    tx.execute("CREATE TEMP TABLE IF NOT EXISTS released (heap INTEGER PRIMARY KEY, count INTEGER)")
    tx.execute("DELETE FROM released")
    tx.execute(f"INSERT INTO released SELECT heap, count(*) FROM ({heaps}) GROUP BY heap", params)
    tx.execute(
        "DELETE FROM content WHERE heap IN (SELECT heap FROM released AS r WHERE r.count >"
        " coalesce((SELECT extra FROM shared AS s WHERE s.account = ? AND s.heap = r.heap), 0))",
        (account,),
    )
    tx.execute(
        "UPDATE shared SET extra = extra - released.count FROM released"
        " WHERE shared.account = ? AND shared.heap = released.heap",
        (account,),
    )
    tx.execute(
        "DELETE FROM shared WHERE account = ? AND extra <= 0"
        " AND heap IN (SELECT heap FROM released)",
        (account,),
    )
    tx.execute("DELETE FROM released")


def rename(tx: Transaction, account: int, name: str, to: str, now: int) -> int | None:
    """Renames with all inferior names, also a name that only has such. For INBOX: makes `to` and
    returns its id; the caller moves the messages. Source: RFC 3501 §6.3.5."""
    name = names.canonical(name.removesuffix(names.SEPARATOR))
    to = names.check_name(to)
    if name == "INBOX":
        return create(tx, account, to, "", now).mailbox
    rows = _with_inferiors(tx, account, name)
    if not rows:
        raise no_mailbox(name)
    if to == name or mailbox_id(tx, account, to) is not None:
        raise StateError(Fault.ALREADYEXISTS, f"there is a mailbox {to} already")
    if to.startswith(name + names.SEPARATOR):
        raise StateError(Fault.CANNOT, "a mailbox cannot become its own inferior")
    missing = _missing_parents(tx, account, to)
    modseq = next_modseq(tx, account, mailboxes=len(missing))
    if missing:
        quota.check(tx, account, "mailboxes")
    for parent in missing:
        _insert(tx, account, parent, "", modseq, now)
    for number, old in rows:
        new = names.check_name(to + old[len(name) :])
        if mailbox_id(tx, account, new) is not None:
            raise StateError(Fault.ALREADYEXISTS, f"there is a mailbox {new} already")
        tx.execute(
            "UPDATE mailbox SET name = ?, highestmodseq = ? WHERE account = ? AND mailbox = ?",
            (new, modseq, account, number),
        )
    tx.notify(Notice(Topic.MAILBOXES, account, rows[0][0], modseq))
    return None


def _with_inferiors(tx: Transaction, account: int, name: str) -> list[tuple[int, str]]:
    """The mailbox of this name, if there is one, and all below it: (id, name), by name."""
    rows = tx.execute(
        "SELECT mailbox, name FROM mailbox WHERE account = ?1"
        " AND (name = ?2 OR (name > ?2 || '/' AND name < ?2 || '0')) ORDER BY name",
        (account, name),
    )
    return [(number, found) for number, found in rows]


def subscribe(tx: Transaction, account: int, name: str, subscribed: bool) -> None:
    """Source: RFC 3501 §6.3.6: the mailbox need not exist. Bounded like mailboxes."""
    if subscribed:
        name = names.check_name(name)
        row = tx.first("SELECT count(*) FROM subscription WHERE account = ?", (account,))
        assert row is not None
        if row[0] >= 2 * limits.MAILBOXES_PER_ACCOUNT_MAX:
            raise StateError(Fault.LIMIT, "there are too many subscriptions: remove some")
        tx.execute("INSERT OR IGNORE INTO subscription VALUES (?, ?)", (account, name))
    else:
        name = names.canonical(name.removesuffix(names.SEPARATOR))
        tx.execute("DELETE FROM subscription WHERE account = ? AND name = ?", (account, name))
    if tx.changes():
        modseq = next_modseq(tx, account)
        tx.notify(Notice(Topic.MAILBOXES, account, 0, modseq))
