"""Reading mailboxes: the interface that services use. `store.mailboxes.MailStore` is it.

Writing goes through `database.submit(operation, ...)`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol, TypeAlias

from postroad.mail.uidset import UIDSet
from postroad.store.values import BlobRef, Changes, Mailbox, MessageRow, Want

Octets = bytes | memoryview
FlagsRow: TypeAlias = tuple[int, int, int, bytes]


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

    def commit(self) -> BlobRef:
        """Puts the octets where blobs live, not yet durable: the operation that names the blob
        calls `tx.sync_blob`. Blocks (compression, disk): use a thread above 256 KiB."""
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

    def open(self, account: int, mailbox: int) -> tuple[Mailbox, array[int]] | None:
        """The mailbox and all its UIDs ascending (array("L")), of one commit."""
        ...

    def messages(
        self, account: int, mailbox: int, uids: UIDSet, want: Want = Want.BASE, slice: int = 500
    ) -> Iterator[list[MessageRow]]:
        """Rows that exist among `uids`, ascending, some hundred at a time: yield to the loop
        between slices. Each slice is a fresh read; nothing is held open in between."""
        ...

    def flags(
        self, account: int, mailbox: int, uids: UIDSet, slice: int = 1000
    ) -> Iterator[list[FlagsRow]]:
        """The same, but for what a client asks of everything: uid, modseq, flags, keywords as
        packed by `store.keywords`. Plain tuples: a third of the cost of rows."""
        ...

    def changes(self, account: int, mailbox: int, since: int) -> Changes | None:
        """What changed after modseq `since`; None when the mailbox is gone."""
        ...

    def octets(self, row: MessageRow) -> bytes:
        """head + blob of a row read with Want.OCTETS. Raises: Unavailable."""
        ...

    def octets_range(self, row: MessageRow, start: int, stop: int) -> bytes: ...
