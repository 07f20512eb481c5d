"""Reading what is shared: mailboxes of others, rights, and what a reader has seen.

A part of `store.mailboxes.MailStore`. An account with which nothing is shared costs one look into
an index. Source: RFC 4314 §2.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.database.contract import Database, Row
from postroad.mail.flags import Flag
from postroad.mail.rights import ALL_RIGHTS, effective
from postroad.mail.uidset import UIDSet
from postroad.store.seen import OVERLAPPING
from postroad.store.values import Mailbox

COLUMNS = (
    "m.account, m.mailbox, m.name, m.uidvalidity, m.uidnext, m.highestmodseq, m.messages,"
    " m.unseen, m.deleted, m.size, m.first_recent, m.special_use"
)
_TENANT = (
    "(SELECT d.tenant FROM account AS a JOIN domain AS d ON d.name = a.domain WHERE a.account = ?1)"
)
_SHARED = (
    f"SELECT {COLUMNS}, o.address, coalesce(p.label, ''), x.negative, x.rights FROM"
    " (SELECT account, mailbox, negative, rights FROM access WHERE grantee = ?1 AND tenant = ''"
    " UNION ALL SELECT account, mailbox, negative, rights FROM access"
    f" WHERE grantee = 0 AND tenant = {_TENANT} AND account <> ?1) AS x"
    " JOIN mailbox AS m ON m.account = x.account AND m.mailbox = x.mailbox"
    " JOIN account AS o ON o.account = x.account"
    " LEFT JOIN public_account AS p ON p.account = x.account"
    " ORDER BY x.account, x.mailbox"
)
_GRANTS = (
    "SELECT negative, rights FROM access WHERE account = ?2 AND mailbox = ?3"
    f" AND (grantee = ?1 OR grantee = 0 AND tenant = {_TENANT})"
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose mailboxes others may see. label: their level in the public namespace, or ""."""

    account: int
    address: str
    label: str


@dataclass(frozen=True, slots=True)
class Shared:
    """A mailbox of another, and what the one who asked may do there."""

    mailbox: Mailbox
    owner: Owner
    rights: frozenset[str]


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of a mailbox's list. grantee 0: everybody of the tenant, and then no address."""

    grantee: int
    address: str
    negative: bool
    rights: frozenset[str]


@dataclass(frozen=True, slots=True)
class Public:
    """rights: what everybody has on a mailbox made at the top."""

    owner: Owner
    rights: frozenset[str]


def mailbox_of(row: Row) -> Mailbox:
    """A mailbox of another: whether its owner subscribes to it is nothing to the reader."""
    return Mailbox(
        account=row[0],
        mailbox=row[1],
        name=row[2],
        uidvalidity=row[3],
        uidnext=row[4],
        highestmodseq=row[5],
        messages=row[6],
        unseen=row[7],
        deleted=row[8],
        size=row[9],
        first_recent=row[10],
        special_use=row[11],
        subscribed=False,
    )


class SharedReading:
    _database: Database

    # -- whose, and what may be done ------------------------------------------------------------

    def shared(self, user: int) -> list[Shared]:
        """Every mailbox of others on which the user has a right, by owner."""
        found: list[Shared] = []
        grants: list[tuple[bool, str]] = []
        last: Row | None = None
        for row in [*self._database.execute(_SHARED, (user,)), None]:
            if last is not None and (row is None or row[:2] != last[:2]):
                rights = effective(grants)
                if rights:
                    owner = Owner(last[0], last[12], last[13])
                    found.append(Shared(mailbox_of(last), owner, rights))
                grants = []
            if row is not None:
                grants.append((bool(row[14]), row[15]))
            last = row
        return found

    def has_many_shared(self, user: int, most: int) -> bool:
        """Whether `shared` is long to read: there are more entries for the user."""
        row = self._database.first(
            "SELECT count(*) FROM (SELECT 1 FROM access WHERE grantee = ?1 AND tenant = ''"
            f" UNION ALL SELECT 1 FROM access WHERE grantee = 0 AND tenant = {_TENANT} LIMIT ?2)",
            (user, most + 1),
        )
        return row is not None and row[0] > most

    def rights(self, account: int, mailbox: int, user: int) -> frozenset[str]:
        """What the user may do in a mailbox; all, when it is his own."""
        if user == account:
            return ALL_RIGHTS
        rows = self._database.execute(_GRANTS, (user, account, mailbox))
        return effective((bool(negative), rights) for negative, rights in rows)

    def may_post(self, account: int, mailbox: int, sender: int) -> bool:
        """Whether mail of this sender may be delivered straight into the mailbox (RFC 4314 §2.1,
        `p`). sender: an account of this server."""
        return "p" in self.rights(account, mailbox, sender)

    def access(self, account: int, mailbox: int) -> list[Grant]:
        """The entries of a mailbox's list, the owner's apart."""
        rows = self._database.execute(
            "SELECT x.grantee, coalesce(a.address, ''), x.negative, x.rights FROM access AS x"
            " LEFT JOIN account AS a ON a.account = x.grantee WHERE x.account = ? AND x.mailbox = ?"
            " ORDER BY x.grantee <> 0, a.address, x.negative",
            (account, mailbox),
        )
        return [Grant(row[0], row[1], bool(row[2]), frozenset(row[3])) for row in rows]

    def owner_of(self, account: int) -> Owner | None:
        row = self._database.first(
            "SELECT o.account, o.address, coalesce(p.label, '') FROM account AS o"
            " LEFT JOIN public_account AS p ON p.account = o.account WHERE o.account = ?",
            (account,),
        )
        return None if row is None else Owner(*row)

    def owner_by_address(self, user: int, address: str) -> Owner | None:
        """An account of the user's tenant, by the key form of its address."""
        row = self._database.first(
            "SELECT o.account, o.address, coalesce(p.label, '') FROM account AS o"
            " JOIN domain AS d ON d.name = o.domain"
            " LEFT JOIN public_account AS p ON p.account = o.account"
            f" WHERE o.address = ?2 AND d.tenant = {_TENANT}",
            (user, address),
        )
        return None if row is None else Owner(*row)

    def owner_by_label(self, user: int, label: str) -> Owner | None:
        """A public account of the user's tenant."""
        row = self._database.first(
            "SELECT p.account, o.address, p.label FROM public_account AS p"
            f" JOIN account AS o ON o.account = p.account WHERE p.tenant = {_TENANT}"
            " AND p.label = ?2",
            (user, label),
        )
        return None if row is None else Owner(*row)

    def public_accounts(self) -> list[Public]:
        rows = self._database.execute(
            "SELECT p.account, o.address, p.label, p.rights FROM public_account AS p"
            " JOIN account AS o ON o.account = p.account ORDER BY p.tenant, p.label"
        )
        return [Public(Owner(*row[:3]), frozenset(row[3])) for row in rows]

    def is_administrator(self, user: int) -> bool:
        """Whether the account may set quotas of its tenant."""
        sql = "SELECT 1 FROM administrator WHERE account = ?"
        return self._database.first(sql, (user,)) is not None

    def administrators(self) -> list[str]:
        rows = self._database.execute(
            "SELECT address FROM administrator JOIN account USING (account) ORDER BY address"
        )
        return [address for (address,) in rows]

    # -- what a reader has seen -----------------------------------------------------------------

    def seen(self, account: int, mailbox: int, reader: int, uids: UIDSet) -> UIDSet:
        """What a reader other than the owner has seen: runs that meet `uids`, whole, in which
        UIDs may be missing. The \\Seen of message rows is the owner's."""
        execute = self._database.execute
        found: list[tuple[int, int]] = []
        for low, high in uids.ranges:
            found += execute(OVERLAPPING, (account, mailbox, reader, low, high))
        return UIDSet.of_ranges(found)

    def unseen(self, mailbox: Mailbox, reader: int) -> int:
        """How many messages the reader, perhaps the owner, has not seen."""
        if reader == mailbox.account:
            return mailbox.unseen
        row = self._database.first(
            "SELECT seen FROM reader WHERE account = ? AND mailbox = ? AND reader = ?",
            (mailbox.account, mailbox.mailbox, reader),
        )
        return mailbox.messages - (0 if row is None else row[0])

    # -- sums for STATUS ------------------------------------------------------------------------

    def count_from(self, account: int, mailbox: int, uid: int) -> int:
        """How many messages have this UID or a higher one."""
        row = self._database.first(
            "SELECT count(*) FROM message WHERE account = ? AND mailbox = ? AND uid >= ?",
            (account, mailbox, uid),
        )
        assert row is not None
        return int(row[0])

    def deleted_octets(self, account: int, mailbox: int) -> int:
        """Of messages with \\Deleted. Walks all of the mailbox: a thread for a large one."""
        row = self._database.first(
            "SELECT coalesce(sum(size), 0) FROM message WHERE account = ? AND mailbox = ?"
            f" AND flags & {int(Flag.DELETED)} <> 0",
            (account, mailbox),
        )
        assert row is not None
        return int(row[0])
