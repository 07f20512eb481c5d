"""A database that is put back from a backup begins a new life: what clients and peers have seen of
the old one after the backup must not be mistaken for what comes now.

Every mailbox gets a new UIDVALIDITY, for UIDs that were given out after the backup would be given
out again (RFC 3501 §2.3.1.1); counters of changes and of contents jump ahead of what was told. What
was queued is held: it may have been delivered since.
"""

from __future__ import annotations

import apsw

MODSEQS_SKIPPED = 1 << 20
CONTENTS_SKIPPED = 1 << 24
"""More than come between two backups."""
HELD_S = 10 * 365 * 86400
"""When held mail would go by itself: an operator releases it (`postroad queue retry`) or drops it
long before."""
DECIDING_S = 7 * 86400
"""Added to the lifetime of held mail: so long the operator may take."""


def begin_new_life(connection: apsw.Connection, now: int) -> None:
    """Raises: apsw.Error."""
    with connection:
        connection.execute(
            "UPDATE counter SET modseq = modseq + ?, uidvalidity = max(uidvalidity + 1, ?)",
            (MODSEQS_SKIPPED, now),
        )
        connection.execute(
            "UPDATE mailbox SET uidvalidity = (SELECT c.uidvalidity FROM counter AS c"
            " WHERE c.account = mailbox.account)"
        )
        connection.execute(
            "UPDATE former_account SET uidvalidity = max(uidvalidity + 1, ?)", (now,)
        )
        connection.execute(
            "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'content'", (CONTENTS_SKIPPED,)
        )
        connection.execute(
            "UPDATE durable SET content ="
            " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'content'), 0)"
        )


def hold_queue(connection: apsw.Connection, made: int, now: int) -> int:
    """Nothing queued goes out by itself; returns how many recipients wait. made: when the backup
    was. Raises: apsw.Error."""
    with connection:
        connection.execute(
            "UPDATE queue_recipient SET attempting = 0, next_attempt = ?", (now + HELD_S,)
        )
        count = connection.changes()
        connection.execute(
            "UPDATE queue_message SET expires = expires + ?", (max(now - made, 0) + DECIDING_S,)
        )
    return count


def drop_queue(connection: apsw.Connection) -> int:
    """Raises: apsw.Error."""
    with connection:
        connection.execute("DELETE FROM queue_recipient")
        count = connection.changes()
        connection.execute("DELETE FROM queue_message")
    return count
