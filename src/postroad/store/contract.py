"""Reading mailboxes: the interface that services use. `store.mailboxes.MailStore` is it.

Writing goes through `database.submit(operation, ...)`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol

from postroad.mail.uidset import UIDSet
from postroad.store.quota import Quota
from postroad.store.search.contract import Digests, Index
from postroad.store.selected import Digest, News
from postroad.store.shared_reading import Grant, Owner, Shared
from postroad.store.values import BlobRef, Changes, Mailbox, MessageRow, Want

Octets = bytes | memoryview


class Draft(Protocol):
    """Octets on their way to becoming a blob: in memory first, in a file past a bound."""

    def write(self, octets: bytes | memoryview) -> None:
        """Raises: Unavailable when the disk is full."""
        ...

    @property
    def size(self) -> int: ...

    def view(self) -> memoryview:
        """All octets written so far, without a copy (a file is mapped). Ends writing."""
        ...

    def commit(self, account: int = 0) -> BlobRef:
        """Puts the octets where blobs live, not yet durable: the operation that names the blob
        calls `tx.sync_blob`. Blocks (compression, disk): use a thread above 256 KiB.

        account: whose alone the message is; if that is an encrypted one, its octets come to no
        pack unsealed. 0: of several, or of nobody here; `store.gate` seals what is to be sealed.
        """
        ...

    def discard(self) -> None:
        """Idempotent; also called by `commit` and on garbage collection."""
        ...


class Blobs(Protocol):
    def draft(self) -> Draft: ...

    def read(self, blob: BlobRef) -> bytes:
        """All octets, checked against the checksum. Raises: Unavailable."""
        ...

    def read_range(self, blob: BlobRef, start: int, stop: int) -> bytes:
        """Octets [start, stop); a file of its own is not read whole. Raises: Unavailable."""
        ...


class Store(Protocol):
    blobs: Blobs

    @property
    def index(self) -> Index:
        """Finds text; says for which messages it knows."""
        ...

    @property
    def sort_digests(self) -> Digests:
        """What SORT and THREAD ask of messages."""
        ...

    def mailboxes(self, account: int) -> list[Mailbox]:
        """All of the account's, by name; INBOX first."""
        ...

    def subscriptions(self, account: int) -> list[str]: ...

    def mailbox(self, account: int, name: str) -> Mailbox | None:
        """By name; INBOX in any case."""
        ...

    def mailbox_by_id(self, account: int, mailbox: int) -> Mailbox | None: ...

    def keywords(self, account: int, mailbox: int) -> tuple[bytes, ...]:
        """Every keyword used in the mailbox so far, as it is spelt there."""
        ...

    def shared(self, user: int) -> list[Shared]:
        """Every mailbox of others on which the user has a right, by owner."""
        ...

    def has_many_shared(self, user: int, most: int) -> bool:
        """Whether `shared` is long to read: use a thread."""
        ...

    def rights(self, account: int, mailbox: int, user: int) -> frozenset[str]:
        """What the user may do in a mailbox; all, when it is his own."""
        ...

    def may_post(self, account: int, mailbox: int, sender: int) -> bool:
        """Whether mail of this account may be delivered straight into the mailbox."""
        ...

    def access(self, account: int, mailbox: int) -> list[Grant]:
        """The entries of a mailbox's list, the owner's apart."""
        ...

    def owner_of(self, account: int) -> Owner | None: ...

    def owner_by_address(self, user: int, address: str) -> Owner | None:
        """An account of the user's tenant, by the key form of its address."""
        ...

    def owner_by_label(self, user: int, label: str) -> Owner | None:
        """A public account of the user's tenant."""
        ...

    def is_administrator(self, user: int) -> bool:
        """Whether the account may set quotas of its tenant."""
        ...

    def seen(self, account: int, mailbox: int, reader: int, uids: UIDSet) -> UIDSet:
        """What a reader other than the owner has seen: runs that meet `uids`, whole, in which
        UIDs may be missing. The \\Seen of message rows is the owner's."""
        ...

    def unseen(self, mailbox: Mailbox, reader: int) -> int:
        """How many messages the reader, perhaps the owner, has not seen."""
        ...

    def count_from(self, account: int, mailbox: int, uid: int) -> int:
        """How many messages have this UID or a higher one."""
        ...

    def deleted_octets(self, account: int, mailbox: int) -> int:
        """Of messages with \\Deleted. Walks all of the mailbox: a thread for a large one."""
        ...

    def annotations(self, account: int, mailbox: int, reader: int) -> dict[str, bytes]:
        """/shared annotations and the reader's /private ones, by entry; mailbox 0: the server's,
        where account is 0 (the site) or the reader's own."""
        ...

    def quota(self, account: int) -> Quota | None:
        """What the account uses and may use; None when there is no such account."""
        ...

    def messages(
        self, account: int, mailbox: int, uids: UIDSet, want: Want = Want.BASE, slice: int = 500
    ) -> Iterator[list[MessageRow]]:
        """Rows that exist among `uids`, ascending, some hundred at a time: yield to the loop
        between slices. Each slice is a fresh read; nothing is held open in between."""
        ...

    def opening(self, account: int, mailbox: int, first_recent: int) -> tuple[int, int]:
        """(messages from UID first_recent on, number of the first unseen message or 0: not near).
        Within the snapshot that read the mailbox."""
        ...

    def has_children(self, account: int, name: str) -> bool:
        """Whether a mailbox of the account has others below it."""
        ...

    def last_uid(self, account: int, mailbox: int, upto: int) -> int:
        """The highest UID that is there, up to a bound; 0: none."""
        ...

    def uids(self, account: int, mailbox: int, last: int, modseq: int) -> array[int] | None:
        """All UIDs up to `last` as they were at `modseq` (array("I")); None: the mailbox is gone.
        Long in a large mailbox: use a thread."""
        ...

    def news(
        self, account: int, mailbox: int, since: int, last: int, *, numbers: bool
    ) -> News | None:
        """What happened after modseq `since`, flags apart; None when the mailbox is gone.
        last: the highest UID known; numbers: those of new messages are wanted."""
        ...

    def flag_news(
        self, account: int, mailbox: int, after: tuple[int, int], below: int, last: int, most: int
    ) -> list[MessageRow]:
        """Up to `most` messages up to UID `last` that changed behind (modseq, uid) `after` and
        below a modseq, in the order of their changes."""
        ...

    def changed_uids(
        self, account: int, mailbox: int, since: int, last: int
    ) -> Iterator[list[int]]:
        """UIDs up to `last` whose modseq is above `since`, by pages, in no order."""
        ...

    def vanished(self, account: int, mailbox: int, since: int, upto: int) -> UIDSet:
        """What was expunged after modseq `since`, up to another."""
        ...

    def digests(
        self, account: int, mailbox: int, uids: UIDSet, *, modseqs: bool, slice: int = 1000
    ) -> Iterator[Digest]:
        """UIDs and flags of what exists among `uids`, ascending, by columns: for what clients ask
        of everything. Each slice is a fresh read."""
        ...

    def between(
        self,
        account: int,
        mailbox: int,
        column: str,
        interval: tuple[int, int],
        uids: tuple[int, int],
    ) -> list[int]:
        """UIDs [first, last] whose "arrival", "saved" (else arrival), "sent" (where there is a
        date) or "size" is in [low, high), ascending. Walks all of them: use a thread."""
        ...

    def flagged(
        self, account: int, mailbox: int, combinations: int, uids: tuple[int, int]
    ) -> list[int]:
        """UIDs [first, last] with such system flags, ascending. combinations: bit n is set where a
        message whose flags are n counts. Walks all of them: use a thread for many."""
        ...

    def changes(self, account: int, mailbox: int, since: int) -> Changes | None:
        """What changed after modseq `since`; None when the mailbox is gone."""
        ...

    def octets(self, row: MessageRow) -> bytes:
        """head + blob of a row read with Want.OCTETS. Raises: Unavailable."""
        ...

    def octets_range(self, row: MessageRow, start: int, stop: int) -> bytes: ...
