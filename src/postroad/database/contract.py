"""What a database offers to the packages above it, in whichever form it runs.

Reads are synchronous and local to the process (SQLite in WAL mode lets every process read).
Writes are operations: plain values that cross a process border, applied by the one writer. A unit
of work is a sequence of them: all or none, durable when `submit` returns.

`LocalDatabase` (this process is the writer) and `RemoteDatabase` (the writer is behind a unix
socket) implement `Database`; the contract tests run on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import msgspec

SQLValue: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Any, ...]
R = TypeVar("R")


class Topic(Enum):
    MESSAGES = "messages"
    """Messages of one mailbox were added, changed or expunged."""
    MAILBOXES = "mailboxes"
    """A mailbox was created, deleted, renamed or (un)subscribed."""
    ACCOUNT = "account"
    """Credentials changed, or the account was removed: sessions ask again."""
    RIGHTS = "rights"
    """Who may do what in a mailbox of the account (0: in any) was changed."""
    METADATA = "metadata"
    """Annotations were changed; `subject` says which (`store.metadata.Noted`)."""
    SEARCH = "search"
    """Somebody searches an account whose index lacks messages: who builds it begins there."""
    URL_KEYS = "url keys"
    """The key of a mailbox for the URLs of one user, `subject`, was made anew."""
    QUEUE = "queue"
    """New or newly due recipients: the queue runner looks."""


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """A hint that something was committed. The truth is read from the database.

    account: 0 for QUEUE. mailbox: 0 unless MESSAGES. subject: the message id for QUEUE. MESSAGES
    with mailbox 0, or QUEUE without subject: look at everything (notices may have been lost while
    the store process was away).
    """

    topic: Topic
    account: int = 0
    mailbox: int = 0
    modseq: int = 0
    subject: str = ""


class Transaction(Protocol):
    """What an operation may touch while it is applied. Lives on the writer's thread."""

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        """Runs one statement at once; rows, if any, are read from the iterator."""
        ...

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None: ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[SQLValue]]) -> list[Row]:
        """Runs one statement for each of `rows`, in their order; what all of them return."""
        ...

    def changes(self) -> int:
        """Rows changed by the last statement."""
        ...

    def notify(self, notice: Notice) -> None:
        """Sent to every client after the commit; dropped if the unit fails."""
        ...

    def sync_blob(self, blob: str) -> None:
        """The octets of this blob reference must be durable before the unit is answered."""
        ...


class Operation(msgspec.Struct, Generic[R], frozen=True, tag=True):
    """One change. Subclasses give their fields, `Result`, and `apply`.

    `apply` raises `mail.errors.StateError` to refuse: the whole unit is rolled back and the
    error reaches the caller of `submit`, in either form.
    """

    Result: ClassVar[Any] = None
    """The type `apply` returns, as msgspec decodes it; None for nothing."""

    def apply(self, tx: Transaction) -> R:
        raise AssertionError(f"{type(self).__name__} does not say how it is applied")

    def is_irrevocable(self) -> bool:
        """Whether a failed sync of the unit's octets could not be mended by taking mail out again.

        Such a unit is committed after its octets are durable, not beside it.
        """
        return False

    def is_long(self) -> bool:
        """Whether `apply` may take more than some milliseconds: it then runs on a thread."""
        return False


Unsubscribe: TypeAlias = Callable[[], None]


class Database(Protocol):
    """One database, read here, written by the one writer."""

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        """A read on this process's read-only connection; each statement sees the newest commit."""
        ...

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None: ...

    def snapshot(self) -> Any:
        """A context manager: every read inside sees the same commit. Keep it short."""
        ...

    async def submit(self, *operations: Operation[Any]) -> list[Any]:
        """Applies all operations as one unit; returns their results when they are durable.

        Raises: StateError (refused, nothing changed), Unavailable (the disk or the store
        process failed; the unit may or may not have been applied only if the process died).
        """
        ...

    def subscribe(self, account: int, callback: Callable[[Notice], None]) -> Unsubscribe:
        """Calls back on this loop for each notice of the account (0: QUEUE and all accounts)."""
        ...
