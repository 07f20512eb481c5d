"""REPLACE in the store: a message comes and another goes, in one step.

Source: RFC 8508 §3.4.
"""

from __future__ import annotations

from typing import ClassVar

from postroad.database.contract import Operation, Transaction
from postroad.mail.errors import Fault, StateError
from postroad.store import operations
from postroad.store.values import Appended


class Replace(Operation[Appended], frozen=True, kw_only=True):
    """Expunges `uid` of a mailbox and does the Append, perhaps elsewhere.

    The old one goes first: only what is more than it counts against the quota. StateError:
    CONFLICT when it is not there any more, and all that Append has.
    """

    Result: ClassVar[type] = Appended
    account: int
    mailbox: int
    uid: int
    append: operations.Append

    def apply(self, tx: Transaction) -> Appended:
        gone = operations.Expunge(
            account=self.account,
            mailbox=self.mailbox,
            uids=[(self.uid, self.uid)],
            only_deleted=False,
            now=self.append.now,
        ).apply(tx)
        if not gone.uids:
            raise StateError(Fault.CONFLICT, "The message is not there any more")
        return self.append.apply(tx)
