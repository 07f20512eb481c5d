"""Whether the mailboxes that an address leads to can take another message.

Asked at RCPT, where one recipient can be turned away without harm to the others; what was let in
there is delivered, even when the account is over its limit by then. Never a refusal for good: the
owner can make room.
Source: RFC 5321 §4.2.3 (452), RFC 3463 §3.3 (X.2.2).
"""

from __future__ import annotations

from postroad.directory.values import LocalMailbox, NotHere, Resolution, Unknown
from postroad.store.contract import Store


def has_room(store: Store, resolution: Resolution) -> bool:
    """False when everybody behind the address has a full account.

    An alias of several whose accounts are not all full is let through: the others shall not wait
    for the one.
    """
    if isinstance(resolution, Unknown | NotHere):
        return True
    for target in resolution:
        if not isinstance(target, LocalMailbox):
            return True
        quota = store.quota(target.account.account)
        if quota is None or not quota.is_full:
            return True
    return not resolution
