"""Whether everything that is kept is whole: every checksum, every reference, every counter.

Reads beside a running server, each statement of one commit, some thousand rows at a time. Says
what it finds and mends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from postroad.database.packs import Damaged, PackRef, file_path, parse_ref
from postroad.database.reading import Reader
from postroad.mail.errors import Unavailable
from postroad.store import seen, sharing
from postroad.store.blobs import BlobStore

PAGE_ROWS = 1000
_READ_OCTETS = 1 << 20

Progress = Callable[[str, int], None]
"""Called with the name of the step and how many things were looked at so far."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be.

    kind: "database", "mailbox", "message", "content", "blob", "queue", "quota" or "account".
    """

    kind: str
    where: str
    text: str


def _quiet(step: str, count: int) -> None:
    pass


def verify(data_dir: Path, progress: Progress = _quiet) -> Iterator[Finding]:
    """Walks everything. Raises: Unavailable when there is no database or it cannot be read."""
    reader = Reader(data_dir)
    blobs = BlobStore(data_dir)
    try:
        yield from _database(reader, progress)
        yield from _accounts(reader, progress)
        yield from _mailboxes(reader, progress)
        yield from _quotas(reader, progress)
        yield from _sharing(reader, progress)
        yield from _references(reader, progress)
        yield from _queue(reader, progress)
        yield from _blobs(reader, blobs, data_dir, progress)
    finally:
        blobs.close()
        reader.close()


def _database(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("database", 0)
    for (text,) in reader.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield Finding("database", "postroad.db", str(text))


def _accounts(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("accounts", 0)
    checks = (
        (
            "it has no counters",
            "SELECT account FROM account WHERE account NOT IN (SELECT account FROM counter)",
        ),
        (
            "it has no credentials",
            "SELECT account FROM account WHERE account NOT IN (SELECT account FROM credential)",
        ),
        (
            "it has no INBOX",
            "SELECT account FROM account AS a WHERE NOT EXISTS (SELECT 1 FROM mailbox AS m"
            " WHERE m.account = a.account AND m.name = 'INBOX')",
        ),
        (
            "mail is kept for it, but there is no such account",
            "SELECT DISTINCT account FROM mailbox"
            " WHERE account NOT IN (SELECT account FROM account)",
        ),
        (
            "a mailbox has a number that was not given out",
            "SELECT m.account FROM mailbox AS m JOIN counter AS c USING (account)"
            " WHERE m.mailbox > c.mailbox OR m.uidvalidity > c.uidvalidity",
        ),
        (
            "its domain is not ours",
            "SELECT account FROM account WHERE domain NOT IN (SELECT name FROM domain)",
        ),
    )
    for text, sql in checks:
        for (account,) in reader.execute(sql):
            yield Finding("account", f"account {account}", text)


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


def _quotas(reader: Reader, progress: Progress) -> Iterator[Finding]:
    """The sums of the mailboxes' counters, which were checked against the messages."""
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


def _mailboxes(reader: Reader, progress: Progress) -> Iterator[Finding]:
    count = 0
    for account, mailbox in reader.execute("SELECT account, mailbox FROM mailbox"):
        count += 1
        if count % 100 == 0:
            progress("mailboxes", count)
        row = reader.first(_MAILBOX_SUMS, (account, mailbox))
        if row is None:
            continue  # deleted meanwhile, or without counters (reported above)
        for text in _mailbox_faults(row):
            yield Finding("mailbox", f"account {account}, mailbox {mailbox} ({row[0]})", text)
    for account, mailbox in reader.execute(
        "SELECT DISTINCT account, mailbox FROM message AS r WHERE NOT EXISTS"
        " (SELECT 1 FROM mailbox AS m WHERE m.account = r.account AND m.mailbox = r.mailbox)"
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


def _sharing(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("sharing", 0)
    for account, mailbox, text in (*seen.faults(reader), *sharing.left_behind(reader)):
        yield Finding("mailbox", f"account {account}, mailbox {mailbox}", text)


def _references(reader: Reader, progress: Progress) -> Iterator[Finding]:
    progress("references", 0)
    for account, mailbox, uid, heap in reader.execute(
        "SELECT m.account, m.mailbox, m.uid, m.heap FROM message AS m LEFT JOIN content AS c"
        " ON c.heap = m.heap AND c.account = m.account WHERE c.heap IS NULL"
    ):
        yield Finding(
            "message", f"account {account}, mailbox {mailbox}, UID {uid}", f"no content {heap}"
        )
    for heap, account, named, counted in reader.execute(
        "SELECT c.heap, c.account, coalesce(n.named, 0), 1 + coalesce(s.extra, 0)"
        " FROM content AS c LEFT JOIN (SELECT heap, count(*) AS named FROM"
        "  (SELECT heap FROM message UNION ALL SELECT heap FROM removed) GROUP BY heap) AS n"
        " ON n.heap = c.heap LEFT JOIN shared AS s"
        " ON s.account = c.account AND s.heap = c.heap"
        " WHERE coalesce(n.named, 0) <> 1 + coalesce(s.extra, 0)"
    ):
        yield Finding(
            "content",
            f"account {account}, content {heap}",
            f"{named} messages name it, {counted} are counted",
        )
    for account, heap in reader.execute(
        "SELECT account, heap FROM shared WHERE heap NOT IN (SELECT heap FROM content)"
    ):
        yield Finding("content", f"account {account}, content {heap}", "it is shared but not there")


def _queue(reader: Reader, progress: Progress) -> Iterator[Finding]:
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


def _blobs(
    reader: Reader, blobs: BlobStore, data_dir: Path, progress: Progress
) -> Iterator[Finding]:
    count = 0
    for table, key, what in (
        ("content", "heap", "account || ', content ' || heap"),
        ("queue_message", "number", "'queue ' || message"),
    ):
        after = 0
        while True:
            rows = list(
                reader.execute(
                    f"SELECT {key}, blob, {what} FROM {table} WHERE {key} > ?"
                    f" ORDER BY {key} LIMIT ?",
                    (after, PAGE_ROWS),
                )
            )
            for _, blob, where in rows:
                fault = blob_fault(blobs, data_dir, blob)
                if fault is not None:
                    yield Finding("blob", f"{blob} (of {where})", fault)
            count += len(rows)
            progress("blobs", count)
            if len(rows) < PAGE_ROWS:
                break
            after = rows[-1][0]


def blob_fault(blobs: BlobStore, data_dir: Path, blob: str) -> str | None:
    """What is wrong with the blob; None when its octets have the checksum they were given."""
    try:
        ref = parse_ref(blob)
        if isinstance(ref, PackRef):
            return blobs.fault(ref)
        digest = hashlib.sha256()
        size = 0
        with file_path(data_dir, ref.name).open("rb") as file:
            while part := file.read(_READ_OCTETS):
                digest.update(part)
                size += len(part)
        if size != ref.size:
            return f"{size} octets of {ref.size} are there"
        return None if digest.hexdigest() == ref.name[:64] else "its SHA-256 differs"
    except FileNotFoundError:
        return "its file is missing"
    except (Damaged, Unavailable, OSError) as error:
        return str(error)
