"""How much an account uses and may use: storage, messages, mailboxes.

Use is kept in the row of `counter` that every change writes for its modseq, by the same statement
of the same transaction, so it is exact and costs no further page. Limits hold for what users do
(APPEND, COPY, CREATE); deliveries are turned away before they are accepted, by `Quota.is_full`,
and never at the commit, where one full account would harm the others of the same message.
What was removed and can be brought back is counted apart and not limited.
Source: RFC 9208 §5 (resources), §4.1 (limits); 1 STORAGE there is 1024 octets.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from postroad.database.contract import Notice, Operation, Row, Topic, Transaction
from postroad.mail.errors import Fault, StateError

NO_LIMIT = -1
_RESOURCES = ("octets", "messages", "mailboxes")
QUOTA = (
    "SELECT c.octets, c.messages, c.mailboxes, coalesce(c.octets_max, d.octets_max),"
    " coalesce(c.messages_max, d.messages_max), coalesce(c.mailboxes_max, d.mailboxes_max),"
    " c.removed_octets, c.removed_messages, c.octets_max, c.messages_max, c.mailboxes_max"
    " FROM counter AS c CROSS JOIN quota_default AS d WHERE c.account = ?"
)
_TAKE = (
    "UPDATE counter SET modseq = modseq + 1, octets = octets + ?, messages = messages + ?,"
    " mailboxes = mailboxes + ?, removed_octets = removed_octets + ?,"
    " removed_messages = removed_messages + ? WHERE account = ? RETURNING modseq"
)


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Use and limits of one account. A limit is None when there is none.

    own: the limits set for this account alone, in the order of the fields; None where the
    server's default holds, -1 for none.
    """

    octets: int
    messages: int
    mailboxes: int
    octets_max: int | None
    messages_max: int | None
    mailboxes_max: int | None
    removed_octets: int
    removed_messages: int
    own: tuple[int | None, int | None, int | None] = (None, None, None)

    @property
    def is_full(self) -> bool:
        """Whether no further message fits. Mailboxes do not count: a delivery needs none."""
        return (self.octets_max is not None and self.octets >= self.octets_max) or (
            self.messages_max is not None and self.messages >= self.messages_max
        )


def _limit(number: int) -> int | None:
    return None if number < 0 else number


def quota_of(row: Row) -> Quota:
    """From a row of `QUOTA`."""
    return Quota(
        octets=row[0],
        messages=row[1],
        mailboxes=row[2],
        octets_max=_limit(row[3]),
        messages_max=_limit(row[4]),
        mailboxes_max=_limit(row[5]),
        removed_octets=row[6],
        removed_messages=row[7],
        own=(row[8], row[9], row[10]),
    )


def next_modseq(
    tx: Transaction,
    account: int,
    *,
    octets: int = 0,
    messages: int = 0,
    mailboxes: int = 0,
    removed_octets: int = 0,
    removed_messages: int = 0,
) -> int:
    """The account's next modseq: one for each operation that changes something.

    What the operation adds to the account's use is counted in the same row.
    """
    row = tx.first(_TAKE, (octets, messages, mailboxes, removed_octets, removed_messages, account))
    if row is None:
        raise StateError(Fault.NONEXISTENT, "there is no such account")
    return int(row[0])


def check(tx: Transaction, account: int, *resources: str) -> None:
    """After something was added: whether each of these is still within its limit.

    Raises: StateError(OVERQUOTA); the unit is then rolled back.
    """
    row = tx.first(QUOTA, (account,))
    if row is None:
        raise StateError(Fault.NONEXISTENT, "there is no such account")
    for place, resource in enumerate(_RESOURCES):
        if resource in resources and 0 <= row[3 + place] < row[place]:
            raise StateError(Fault.OVERQUOTA, _over(resource, row[3 + place]))


def _over(resource: str, limit: int) -> str:
    if resource == "octets":
        return f"this account may hold {limit} octets of mail: remove something first"
    return f"this account may hold {limit} {resource}: remove some first"


def _check_limit(limit: int | None) -> None:
    if limit is not None and not NO_LIMIT <= limit < 1 << 62:
        raise StateError(Fault.CANNOT, f"{limit} is no limit: say 0 or more, or -1 for none")


class SetQuota(Operation[None], frozen=True, kw_only=True):
    """Sets all three limits of an account. None: the server's default; -1: no limit.

    Use above a new limit stays; nothing can be added until it has fallen (RFC 9208 §4.1.3).
    """

    account: int
    octets_max: int | None = None
    messages_max: int | None = None
    mailboxes_max: int | None = None

    def apply(self, tx: Transaction) -> None:
        limits = (self.octets_max, self.messages_max, self.mailboxes_max)
        for limit in limits:
            _check_limit(limit)
        tx.execute(
            "UPDATE counter SET octets_max = ?, messages_max = ?, mailboxes_max = ?"
            " WHERE account = ?",
            (*limits, self.account),
        )
        if not tx.changes():
            raise StateError(Fault.NONEXISTENT, "there is no such account")
        tx.notify(Notice(Topic.MAILBOXES, self.account))


class SetQuotaDefaults(Operation[bool], frozen=True, kw_only=True):
    """What holds for accounts without limits of their own. -1: none. Returns whether it changed."""

    Result: ClassVar[type] = bool
    octets_max: int = NO_LIMIT
    messages_max: int = NO_LIMIT
    mailboxes_max: int = NO_LIMIT

    def apply(self, tx: Transaction) -> bool:
        limits = (self.octets_max, self.messages_max, self.mailboxes_max)
        for limit in limits:
            _check_limit(limit)
        if tx.first("SELECT octets_max, messages_max, mailboxes_max FROM quota_default") == limits:
            return False
        tx.execute(
            "UPDATE quota_default SET octets_max = ?, messages_max = ?, mailboxes_max = ?", limits
        )
        return True
