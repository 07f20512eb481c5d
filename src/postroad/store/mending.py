"""What can be mended between rows, one kind after another, on the writer's connection.

Each function makes right what its check in `store.checks` finds, and returns what it did in words.
Nothing that can be read is removed: contents that no message names come into a mailbox of their
own; what names octets that are gone is taken out of its mailbox, its header section kept in the
report. Clients hear of both as of every change: by new UIDs and new modseqs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from postroad.database.contract import Transaction
from postroad.database.schema import migrations
from postroad.store import keywords as words
from postroad.store import seen, sharing, tree
from postroad.store.checks import expected_schema
from postroad.store.moving import PICKED, insert_picked, sums_of_picked
from postroad.store.quota import next_modseq
from postroad.store.sealing import octets_of
from postroad.store.search.verifying import check_index

RECOVERED = "Recovered"
"""The mailbox of what was found and had none."""
_MAILBOX_COLUMNS = (
    "account, mailbox, name, uidvalidity, uidnext, highestmodseq, messages, unseen, deleted, size,"
    " first_recent, special_use"
)


def mend_schema(tx: Transaction) -> Iterator[str]:
    """Tables and indexes that are missing are made, the tables empty."""
    there = {name for (name,) in tx.execute("SELECT name FROM sqlite_master")}
    wanted = expected_schema()
    for kind in ("table", "index"):
        for name, (is_a, sql) in wanted.items():
            if is_a == kind and name not in there:
                tx.execute(sql)
                yield f"{kind} {name} was made again{', empty' if kind == 'table' else ''}"
    tx.execute(f"PRAGMA user_version = {len(migrations())}")


def mend_indexes(tx: Transaction) -> Iterator[str]:
    tx.execute("REINDEX")
    yield "all indexes were made again from their tables"


# -- accounts -----------------------------------------------------------------------------------

_TOPS = (
    "SELECT max(1, coalesce((SELECT max(highestmodseq) FROM mailbox WHERE account = ?1), 0),"
    " coalesce((SELECT max(modseq) FROM message WHERE account = ?1), 0),"
    " coalesce((SELECT max(modseq) FROM expunged WHERE account = ?1), 0)),"
    " max(coalesce((SELECT max(mailbox) FROM mailbox WHERE account = ?1), 0),"
    " coalesce((SELECT max(mailbox) FROM message WHERE account = ?1), 0),"
    " coalesce((SELECT max(mailbox) FROM removed WHERE account = ?1), 0),"
    " coalesce((SELECT max(mailbox) FROM removed_mailbox WHERE account = ?1), 0)),"
    " coalesce((SELECT max(uidvalidity) FROM mailbox WHERE account = ?1), 0)"
)


def mend_counters(tx: Transaction, now: int) -> Iterator[str]:
    """Every account has its counters, and none has given out less than it has."""
    for (account,) in tx.execute("SELECT account FROM account"):
        tops = tx.first(_TOPS, (account,))
        assert tops is not None
        kept = tx.first(
            "SELECT modseq, mailbox, uidvalidity FROM counter WHERE account = ?", (account,)
        )
        if kept is None:
            tx.execute(
                "INSERT INTO counter (account, modseq, mailbox, uidvalidity)"
                " VALUES (?, ? + 1000000, ?, ?)",
                (account, tops[0], tops[1], max(tops[2], now)),
            )
            yield f"account {account}: its counters were made again; its quota is the default"
        elif any(top > have for top, have in zip(tops, kept, strict=True)):
            tx.execute(
                "UPDATE counter SET modseq = max(modseq, ?), mailbox = max(mailbox, ?),"
                " uidvalidity = max(uidvalidity, ?) WHERE account = ?",
                (*tops, account),
            )
            yield f"account {account}: its counters were behind what it has given out"


def mend_inboxes(tx: Transaction, now: int) -> Iterator[str]:
    rows = tx.execute(
        "SELECT account FROM account AS a WHERE NOT EXISTS (SELECT 1 FROM mailbox AS m"
        " WHERE m.account = a.account AND m.name = 'INBOX')"
        " AND account NOT IN (SELECT account FROM public_account)"
    )
    for (account,) in rows:
        tree.create(tx, account, "INBOX", "", now, enforce_quota=False)
        yield f"account {account}: it has an INBOX again"


# -- mailboxes ----------------------------------------------------------------------------------


def mend_lone_messages(tx: Transaction) -> Iterator[str]:
    """Messages whose mailbox row is gone get one again, under another name."""
    for account, mailbox in tx.execute(
        "SELECT DISTINCT account, mailbox FROM message AS r WHERE NOT EXISTS"
        " (SELECT 1 FROM mailbox AS m WHERE m.account = r.account AND m.mailbox = r.mailbox)"
        " AND account IN (SELECT account FROM counter)"
    ):
        name = _free_name(tx, account, f"{RECOVERED}-{mailbox}")
        row = tx.first(
            "UPDATE counter SET uidvalidity = uidvalidity + 1, modseq = modseq + 1"
            " WHERE account = ? RETURNING uidvalidity, modseq",
            (account,),
        )
        assert row is not None
        tx.execute(
            f"INSERT INTO mailbox ({_MAILBOX_COLUMNS})"
            " VALUES (?, ?, ?, ?, 1, ?, 0, 0, 0, 0, 1, '')",
            (account, mailbox, name, *row),
        )
        yield f"account {account}: mailbox {mailbox} had lost its name, and is {name} now"
    for account, mailbox in tx.execute(
        "SELECT DISTINCT account, mailbox FROM removed AS r WHERE NOT EXISTS (SELECT 1 FROM mailbox"
        " AS m WHERE m.account = r.account AND m.mailbox = r.mailbox) AND NOT EXISTS (SELECT 1"
        " FROM removed_mailbox AS g WHERE g.account = r.account AND g.mailbox = r.mailbox)"
    ):
        tx.execute(
            "INSERT INTO removed_mailbox (account, mailbox, removed_at, name, special_use,"
            " subscribed) SELECT account, mailbox, max(removed_at), ?, '', 0 FROM removed"
            " WHERE account = ? AND mailbox = ?",
            (f"{RECOVERED}-{mailbox}", account, mailbox),
        )
        yield f"account {account}: what was removed from mailbox {mailbox} can be brought back"


def _free_name(tx: Transaction, account: int, name: str) -> str:
    number = 0
    wanted = name
    while tree.mailbox_id(tx, account, wanted) is not None:
        number += 1
        wanted = f"{name}-{number}"
    return wanted


_RECOUNT = (
    "UPDATE mailbox SET"
    " messages = (SELECT count(*) FROM message AS r WHERE r.account = mailbox.account"
    "  AND r.mailbox = mailbox.mailbox),"
    " unseen = (SELECT count(*) FROM message AS r WHERE r.account = mailbox.account"
    "  AND r.mailbox = mailbox.mailbox AND r.flags & 1 = 0),"
    " deleted = (SELECT count(*) FROM message AS r WHERE r.account = mailbox.account"
    "  AND r.mailbox = mailbox.mailbox AND r.flags & 8 <> 0),"
    " size = (SELECT coalesce(sum(r.size), 0) FROM message AS r"
    "  WHERE r.account = mailbox.account AND r.mailbox = mailbox.mailbox),"
    " uidnext = max(uidnext, 1 + coalesce((SELECT max(r.uid) FROM message AS r"
    "  WHERE r.account = mailbox.account AND r.mailbox = mailbox.mailbox), 0),"
    "  1 + coalesce((SELECT max(e.high) FROM expunged AS e"
    "  WHERE e.account = mailbox.account AND e.mailbox = mailbox.mailbox), 0)),"
    " highestmodseq = max(highestmodseq, coalesce((SELECT max(r.modseq) FROM message AS r"
    "  WHERE r.account = mailbox.account AND r.mailbox = mailbox.mailbox), 0),"
    "  coalesce((SELECT max(e.modseq) FROM expunged AS e"
    "  WHERE e.account = mailbox.account AND e.mailbox = mailbox.mailbox), 0))"
    " WHERE account = ? AND mailbox = ?"
)


def mend_mailboxes(tx: Transaction) -> Iterator[str]:
    """Counters from what is there, keywords from what is used, runs of what readers have seen."""
    for account, mailbox, name in tx.execute("SELECT account, mailbox, name FROM mailbox"):
        key = (account, mailbox)
        where = f"account {account}, mailbox {mailbox} ({name})"
        before = tx.first("SELECT * FROM mailbox WHERE account = ? AND mailbox = ?", key)
        tx.execute(_RECOUNT, key)
        tx.execute(
            "UPDATE mailbox SET first_recent = uidnext WHERE account = ? AND mailbox = ?"
            " AND first_recent > uidnext",
            key,
        )
        if tx.first("SELECT * FROM mailbox WHERE account = ? AND mailbox = ?", key) != before:
            yield f"{where}: its counters were counted anew"
        yield from _mend_burnt(tx, account, mailbox, where)
        yield from _mend_keywords(tx, account, mailbox, where)


def _mend_burnt(tx: Transaction, account: int, mailbox: int, where: str) -> Iterator[str]:
    """A UID that was told as expunged cannot be there: such messages get new ones."""
    key = (account, mailbox)
    tx.execute(PICKED)
    tx.execute("DELETE FROM picked")
    tx.execute(
        "INSERT OR IGNORE INTO picked SELECT r.uid, r.flags, r.keywords, r.internal_date, r.size,"
        " r.heap, r.saved FROM expunged AS e JOIN message AS r ON r.account = e.account"
        " AND r.mailbox = e.mailbox AND r.uid BETWEEN e.low AND e.high"
        " WHERE e.account = ? AND e.mailbox = ?",
        key,
    )
    sums = sums_of_picked(tx)
    if not sums.count:
        return
    tx.execute(
        "DELETE FROM message WHERE account = ? AND mailbox = ? AND uid IN (SELECT uid FROM picked)",
        key,
    )
    insert_picked(tx, account, mailbox, next_modseq(tx, account), sums, 0)
    tx.execute(_RECOUNT, key)
    yield f"{where}: {sums.count} messages had UIDs of expunged ones, and have new ones now"


def _mend_keywords(tx: Transaction, account: int, mailbox: int, where: str) -> Iterator[str]:
    for (packed,) in tx.execute(
        "SELECT DISTINCT keywords FROM message WHERE account = ? AND mailbox = ?"
        " AND keywords <> x''",
        (account, mailbox),
    ):
        for word in words.unpack(packed):
            tx.execute(
                "INSERT OR IGNORE INTO keyword VALUES (?, ?, ?, ?)",
                (account, mailbox, word.lower(), word),
            )
            if tx.changes():
                yield f"{where}: its keyword {word.decode('ascii', 'replace')} is known again"


def mend_seen(tx: Transaction, reader: Any) -> Iterator[str]:
    """reader: reads what the transaction has written so far."""
    for account, mailbox, _ in list(sharing.left_behind(reader)):
        for table in ("access", "seen", "reader", "annotation"):
            tx.execute(f"DELETE FROM {table} WHERE account = ? AND mailbox = ?", (account, mailbox))
        yield f"account {account}: what was shared of mailbox {mailbox}, which is gone, went too"
    for account, mailbox in sorted({found[:2] for found in seen.faults(reader)}):
        seen.mend(tx, account, mailbox)
        yield f"account {account}, mailbox {mailbox}: what its readers have seen was counted anew"


def mend_quotas(tx: Transaction) -> Iterator[str]:
    for (account,) in tx.execute("SELECT account FROM counter"):
        before = tx.first("SELECT * FROM counter WHERE account = ?", (account,))
        tx.execute(
            "UPDATE counter SET (octets, messages, mailboxes) = (SELECT coalesce(sum(m.size), 0),"
            " coalesce(sum(m.messages), 0), count(*) FROM mailbox AS m WHERE m.account = ?1),"
            " (removed_octets, removed_messages) = (SELECT coalesce(sum(r.size), 0), count(*)"
            " FROM removed AS r WHERE r.account = ?1) WHERE account = ?1",
            (account,),
        )
        if tx.first("SELECT * FROM counter WHERE account = ?", (account,)) != before:
            yield f"account {account}: what it uses was counted anew"


# -- contents -----------------------------------------------------------------------------------

_REFERENCES = "(SELECT account, heap FROM message UNION ALL SELECT account, heap FROM removed)"


def mend_shared(tx: Transaction) -> Iterator[str]:
    """How often a content is named beyond the first time."""
    tx.execute("CREATE TEMP TABLE counted (account INTEGER, heap INTEGER, extra INTEGER)")
    tx.execute(
        f"INSERT INTO counted SELECT account, heap, count(*) - 1 FROM {_REFERENCES}"
        " GROUP BY account, heap HAVING count(*) > 1"
    )
    for sql in (
        "DELETE FROM shared WHERE (account, heap, extra) NOT IN"
        " (SELECT account, heap, extra FROM counted)",
        "INSERT INTO shared SELECT account, heap, extra FROM counted WHERE (account, heap) NOT IN"
        " (SELECT account, heap FROM shared)",
    ):
        tx.execute(sql)
        if tx.changes():
            yield f"{tx.changes()} counts of shared contents were made right"
    tx.execute("DROP TABLE counted")


def mend_orphans(tx: Transaction, now: int) -> Iterator[str]:
    """Contents that no message names come into the mailbox of recovered ones."""
    accounts = tx.execute(
        f"SELECT DISTINCT account FROM content WHERE heap NOT IN (SELECT heap FROM {_REFERENCES})"
        " AND account IN (SELECT account FROM counter)"
    )
    for (account,) in accounts:
        tx.execute(PICKED)
        tx.execute("DELETE FROM picked")
        tx.execute(
            "INSERT INTO picked SELECT heap, 0, x'', CASE sent WHEN 0 THEN ? ELSE sent END, 0,"
            " heap, ? FROM content WHERE account = ?"
            f" AND heap NOT IN (SELECT heap FROM {_REFERENCES})",
            (now, now, account),
        )
        for heap, head, blob in tx.execute(
            "SELECT c.heap, c.head, c.blob FROM content AS c JOIN picked AS p ON p.heap = c.heap"
        ):
            size = octets_of(head, blob)
            tx.execute("UPDATE picked SET size = ? WHERE heap = ?", (size, heap))
        sums = sums_of_picked(tx)
        to = tree.mailbox_id(tx, account, RECOVERED)
        if to is None:
            to = tree.create(tx, account, RECOVERED, "", now, enforce_quota=False).mailbox
        insert_picked(tx, account, to, next_modseq(tx, account), sums, now)
        yield f"account {account}: {sums.count} messages without a mailbox are in {RECOVERED}"


def mend_search(tx: Transaction, reader: Any) -> Iterator[str]:
    """What is wrong in an index goes; searches do without it until it has been built anew."""
    for account in sorted({problem.account for problem in check_index(reader)}):
        for table in ("search_mark", "search_block"):
            tx.execute(f"DELETE FROM {table} WHERE account = ?", (account,))
        if tx.first("SELECT 1 FROM account WHERE account = ?", (account,)) is None:
            tx.execute("DELETE FROM search_account WHERE account = ?", (account,))
        yield f"account {account}: its search index was removed, and will be built anew"
