"""Operations that say something of the unit of work they are in.

Source: RFC 3502 §6.3.11 (all or none), RFC 8508 §3.4.
"""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Operation, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.store import operations
from postroad.store.values import Expunged


class AllOrNone(Operation[None], frozen=True, kw_only=True):
    """The unit's messages become visible together, also after a power failure.

    Of a unit that commits beside the syncs of its packs, a start-up might find some messages
    whole and others not.
    """

    def is_irrevocable(self) -> bool:
        return True

    def apply(self, tx: Transaction) -> None:
        pass


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
