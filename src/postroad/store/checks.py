"""What must hold between rows: counters, references, indexes. One statement for each kind.

Reads only. Every check says what is wrong of which rows, in words for an operator; what can be
done about it is `store.repair`'s to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apsw

from postroad.database.reading import Reader
from postroad.database.schema import ACCOUNT_TABLES, migrations
from postroad.store import keywords as words
from postroad.store import seen, sharing
from postroad.store.search.verifying import check_index

Progress = Callable[[str, int], None]
"""Called with the name of the step and how many things were looked at so far."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be.

    kind: "database", "index", "mailbox", "message", "content", "removed", "blob", "queue",
    "quota", "search" or "account". is_of_file: SQLite itself cannot read what is there.
    is_missing_table: nothing that reads it can be checked.
    """

    kind: str
    where: str
    text: str
    is_of_file: bool = False
    is_missing_table: bool = False


# -- the file and its tables --------------------------------------------------------------------


def expected_schema() -> dict[str, tuple[str, str]]:
    """Name to (type, SQL) of every table and index that the migrations make."""
    connection = apsw.Connection(":memory:")
    try:
        for _, sql in migrations():
            connection.execute(sql)
        return {
            str(name): (str(kind), str(sql))
            for kind, name, sql in connection.execute(
                "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            )
        }
    finally:
        connection.close()


def check_database(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("database", 0)
    for (text,) in reader.execute("PRAGMA integrity_check"):
        if text != "ok":
            kind = "index" if "index" in str(text) else "database"
            yield Finding(kind, "postroad.db", str(text), is_of_file=kind == "database")
    there = {name for (name,) in reader.execute("SELECT name FROM sqlite_master")}
    for name, (kind, _) in expected_schema().items():
        if name not in there:
            what = "index" if kind == "index" else "database"
            is_table = kind == "table"
            yield Finding(what, name, f"the {kind} is missing", is_missing_table=is_table)


# -- accounts -----------------------------------------------------------------------------------

_ACCOUNTS = (
    (
        "it has no counters",
        "SELECT account FROM account WHERE account NOT IN (SELECT account FROM counter)",
    ),
    (
        "it has no credentials",
        "SELECT account FROM account WHERE account NOT IN (SELECT account FROM credential)"
        " AND account NOT IN (SELECT account FROM public_account)",
    ),
    (
        "it has no INBOX",
        "SELECT account FROM account AS a WHERE NOT EXISTS (SELECT 1 FROM mailbox AS m"
        " WHERE m.account = a.account AND m.name = 'INBOX')"
        " AND account NOT IN (SELECT account FROM public_account)",
    ),
    (
        "a mailbox has a number that was not given out",
        "SELECT DISTINCT m.account FROM mailbox AS m JOIN counter AS c USING (account)"
        " WHERE m.mailbox > c.mailbox OR m.uidvalidity > c.uidvalidity",
    ),
    (
        "its domain is not ours",
        "SELECT account FROM account WHERE domain NOT IN (SELECT name FROM domain)",
    ),
)


def check_accounts(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("accounts", 0)
    for text, sql in _ACCOUNTS:
        for (account,) in reader.execute(sql):
            yield Finding("account", f"account {account}", text)
    for table in ACCOUNT_TABLES:
        for (account,) in reader.execute(
            f"SELECT DISTINCT account FROM {table} WHERE account <> 0"
            " AND account NOT IN (SELECT account FROM account)"
            " AND account NOT IN (SELECT account FROM leaving)"
        ):
            text = f"rows of {table} are kept for it, but there is no such account"
            yield Finding("account", f"account {account}", text)


# -- mailboxes ----------------------------------------------------------------------------------

_MAILBOX_SUMS = (
    "SELECT m.name, m.messages, m.unseen, m.deleted, m.size, m.uidnext, m.highestmodseq, c.modseq,"
    " count(r.uid), coalesce(sum(r.flags & 1 = 0), 0), coalesce(sum(r.flags & 8 <> 0), 0),"
    " coalesce(sum(r.size), 0), coalesce(max(r.uid), 0), coalesce(max(r.modseq), 0),"
    " coalesce((SELECT max(high) FROM expunged AS e WHERE e.account = m.account"
    "  AND e.mailbox = m.mailbox), 0),"
    " coalesce((SELECT max(modseq) FROM expunged AS e WHERE e.account = m.account"
    "  AND e.mailbox = m.mailbox), 0), m.first_recent"
    " FROM mailbox AS m JOIN counter AS c ON c.account = m.account"
    " LEFT JOIN message AS r ON r.account = m.account AND r.mailbox = m.mailbox"
    " WHERE m.account = ? AND m.mailbox = ? GROUP BY m.account, m.mailbox"
)
_BURNT = (
    "SELECT r.uid FROM expunged AS e JOIN message AS r ON r.account = e.account"
    " AND r.mailbox = e.mailbox AND r.uid BETWEEN e.low AND e.high"
    " WHERE e.account = ? AND e.mailbox = ? LIMIT 1"
)
_KEYWORDS = (
    "SELECT DISTINCT keywords FROM message WHERE account = ? AND mailbox = ? AND keywords <> x''"
)


def check_mailboxes(reader: Reader, progress: Progress) -> Iterator[Finding]:
    count = 0
    for account, mailbox in reader.execute("SELECT account, mailbox FROM mailbox"):
        count += 1
        if count % 100 == 0:
            progress("mailboxes", count)
        with reader.snapshot():
            row = reader.first(_MAILBOX_SUMS, (account, mailbox))
            if row is None:
                continue  # deleted meanwhile, or without counters (reported above)
            faults = [*_mailbox_faults(row), *_row_faults(reader, account, mailbox)]
        for text in faults:
            yield Finding("mailbox", f"account {account}, mailbox {mailbox} ({row[0]})", text)
    for account, mailbox in reader.execute(
        "SELECT DISTINCT account, mailbox FROM message AS r WHERE NOT EXISTS"
        " (SELECT 1 FROM mailbox AS m WHERE m.account = r.account AND m.mailbox = r.mailbox)"
        " AND account NOT IN (SELECT account FROM leaving)"
    ):
        yield Finding("mailbox", f"account {account}, mailbox {mailbox}", "messages without one")
    progress("mailboxes", count)


def _mailbox_faults(row: tuple[int, ...]) -> Iterator[str]:
    _, messages, unseen, deleted, size, uidnext, highest, modseq = row[:8]
    counted = row[8:12]
    for name, kept, found in zip(
        ("messages", "unseen", "deleted", "octets"),
        (messages, unseen, deleted, size),
        counted,
        strict=True,
    ):
        if kept != found:
            yield f"its counter of {name} says {kept}, there are {found}"
    top, top_modseq, gone, gone_modseq, first_recent = row[12:]
    if max(top, gone) >= uidnext:
        yield f"UID {max(top, gone)} was given out, but UIDNEXT is {uidnext}"
    if first_recent > uidnext:
        yield f"the first recent UID is {first_recent}, beyond UIDNEXT {uidnext}"
    if max(top_modseq, gone_modseq) > highest:
        yield f"a change has modseq {max(top_modseq, gone_modseq)}, beyond its highest {highest}"
    if highest > modseq:
        yield f"its highest modseq {highest} is beyond its account's {modseq}"


def _row_faults(reader: Reader, account: int, mailbox: int) -> Iterator[str]:
    burnt = reader.first(_BURNT, (account, mailbox))
    if burnt is not None:
        yield f"UID {burnt[0]} is there, and expunged as well"
    known = {
        word
        for (word,) in reader.execute(
            "SELECT word FROM keyword WHERE account = ? AND mailbox = ?", (account, mailbox)
        )
    }
    for (packed,) in reader.execute(_KEYWORDS, (account, mailbox)):
        for word in words.unpack(packed):
            if word not in known:
                yield f"its messages have the keyword {word.decode('ascii', 'replace')}, it has not"


# -- quotas -------------------------------------------------------------------------------------

_QUOTA_SUMS = (
    "SELECT c.account, c.octets, c.messages, c.mailboxes, c.removed_octets, c.removed_messages,"
    " coalesce(m.octets, 0), coalesce(m.messages, 0), coalesce(m.mailboxes, 0),"
    " coalesce(r.octets, 0), coalesce(r.messages, 0) FROM counter AS c"
    " LEFT JOIN (SELECT account, sum(size) AS octets, sum(messages) AS messages,"
    "  count(*) AS mailboxes FROM mailbox GROUP BY account) AS m ON m.account = c.account"
    " LEFT JOIN (SELECT account, sum(size) AS octets, count(*) AS messages FROM removed"
    "  GROUP BY account) AS r ON r.account = c.account"
)
_QUOTA_NAMES = ("octets", "messages", "mailboxes", "removed octets", "removed messages")


def check_quotas(reader: Reader, progress: Progress) -> Iterator[Finding]:
    """Against the sums of the mailboxes' counters, which are checked against the messages."""
    progress("quotas", 0)
    if reader.first("SELECT 1 FROM backfill WHERE migration = 2") is not None:
        return  # they are being counted
    for account, *numbers in reader.execute(_QUOTA_SUMS):
        for name, kept, found in zip(_QUOTA_NAMES, numbers[:5], numbers[5:], strict=True):
            if kept != found:
                yield Finding(
                    "quota",
                    f"account {account}",
                    f"its counter of {name} says {kept}, there are {found}",
                )


def check_sharing(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("sharing", 0)
    for account, mailbox, text in (*seen.faults(reader), *sharing.left_behind(reader)):
        yield Finding("mailbox", f"account {account}, mailbox {mailbox}", text)


# -- references ---------------------------------------------------------------------------------

_LOST = (
    "SELECT m.account, m.mailbox, m.uid, m.heap FROM {table} AS m LEFT JOIN content AS c"
    " ON c.heap = m.heap AND c.account = m.account WHERE c.heap IS NULL"
    " AND m.account NOT IN (SELECT account FROM leaving)"
)
_NAMED = (
    "SELECT c.heap, c.account, coalesce(n.named, 0), 1 + coalesce(s.extra, 0)"
    " FROM content AS c LEFT JOIN (SELECT heap, count(*) AS named FROM"
    "  (SELECT heap FROM message UNION ALL SELECT heap FROM removed) GROUP BY heap) AS n"
    " ON n.heap = c.heap LEFT JOIN shared AS s ON s.account = c.account AND s.heap = c.heap"
    " WHERE coalesce(n.named, 0) <> 1 + coalesce(s.extra, 0)"
    " AND c.account NOT IN (SELECT account FROM leaving)"
)


def check_references(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("references", 0)
    for table in ("message", "removed"):
        for account, mailbox, uid, heap in reader.execute(_LOST.format(table=table)):
            where = f"account {account}, mailbox {mailbox}, UID {uid}"
            yield Finding(table, where, f"no content {heap}")
    for heap, account, named, counted in reader.execute(_NAMED):
        yield Finding(
            "content",
            f"account {account}, content {heap}",
            f"{named} messages name it, {counted} are counted" if named else "no message names it",
        )
    for account, heap in reader.execute(
        "SELECT account, heap FROM shared WHERE heap NOT IN (SELECT heap FROM content)"
        " AND account NOT IN (SELECT account FROM leaving)"
    ):
        yield Finding("content", f"account {account}, content {heap}", "it is shared but not there")
    for account, mailbox in reader.execute(
        "SELECT DISTINCT account, mailbox FROM removed AS r WHERE NOT EXISTS (SELECT 1 FROM mailbox"
        " AS m WHERE m.account = r.account AND m.mailbox = r.mailbox) AND NOT EXISTS (SELECT 1"
        " FROM removed_mailbox AS g WHERE g.account = r.account AND g.mailbox = r.mailbox)"
        " AND account NOT IN (SELECT account FROM leaving)"
    ):
        where = f"account {account}, mailbox {mailbox}"
        yield Finding("removed", where, "removed messages of a mailbox that nobody knows")


def check_queue(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("queue", 0)
    for (message,) in reader.execute(
        "SELECT message FROM queue_message WHERE message NOT IN"
        " (SELECT message FROM queue_recipient)"
    ):
        yield Finding("queue", message, "it is queued for nobody")
    for (message,) in reader.execute(
        "SELECT DISTINCT message FROM queue_recipient WHERE message NOT IN"
        " (SELECT message FROM queue_message)"
    ):
        yield Finding("queue", message, "it has recipients, but is not in the queue")


def check_search(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("search", 0)
    for problem in check_index(reader):
        yield Finding("search", f"account {problem.account}", problem.text)


CHECKS = (
    check_accounts,
    check_mailboxes,
    check_quotas,
    check_sharing,
    check_references,
    check_queue,
    check_search,
)
