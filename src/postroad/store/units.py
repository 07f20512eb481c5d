"""Operations that say something of the unit of work they are in.

Source: RFC 3502 §6.3.11 (all or none), RFC 8508 §3.4.
"""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Operation, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.mail.rights import FLAG_RIGHTS
from postroad.store import changing, operations
from postroad.store.values import Added, Expunged, NewMessage

MESSAGES_SHORT = 32
"""Adding more takes milliseconds: it is applied on a thread."""


class AppendAll(Operation[Added], frozen=True, kw_only=True):
    """Adds messages, all of them or none, also after a power failure.

    Commits after their octets are durable: of a unit that commits beside the syncs of its packs, a
    start-up might find some messages whole and others not. Fields as those of `operations.Append`.
    """

    Result: ClassVar[type] = Added
    account: int
    mailbox: int
    messages: tuple[NewMessage, ...]
    now: int = 0
    enforce_quota: bool = False
    reader: int = 0
    rights: str = FLAG_RIGHTS

    def is_irrevocable(self) -> bool:
        return True

    def is_long(self) -> bool:
        return len(self.messages) > MESSAGES_SHORT

    def apply(self, tx: Transaction) -> Added:
        return changing.add_all(
            tx,
            self.account,
            self.mailbox,
            self.messages,
            self.now,
            enforce_quota=self.enforce_quota,
            reader=self.reader,
            rights=self.rights,
        )


class Supersede(Operation[Expunged], frozen=True, kw_only=True):
    """Expunges a message that another one of the same unit replaces.

    First in the unit: only what is more counts against the quota. Commits after the other one's
    octets are durable. StateError: CONFLICT when the message is not there any more.
    """

    Result: ClassVar[type] = Expunged
    account: int
    mailbox: int
    uid: int
    now: int

    def is_irrevocable(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> Expunged:
        done = operations.Expunge(
            account=self.account,
            mailbox=self.mailbox,
            uids=[(self.uid, self.uid)],
            only_deleted=False,
            now=self.now,
        ).apply(tx)
        if not done.uids:
            raise StateError(Fault.CONFLICT, "The message is not there any more")
        return done
