"""Places: the mailboxes that a session can name, whosever they are, and what it may do there.

The one road from a name a client sends to a mailbox of the store.
Source: RFC 3501 §5.1, RFC 4314 §2.1 (rights), RFC 5530 §3 (NONEXISTENT, NOPERM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroad.mail.errors import Fault, StateError
from postroad.store.values import Mailbox

if TYPE_CHECKING:
    from postroad.service.imapd.session import Session

ALL_RIGHTS = frozenset("lrswipkxtea")
"""RFC 4314 §2.1, §2.2: what an owner has."""


@dataclass(frozen=True, slots=True)
class Place:
    """mailbox: as the store knows it, its owner's name for it included.

    name: as this session's user calls it. rights: RFC 4314 letters, obsolete ones left out.
    """

    mailbox: Mailbox
    name: str
    rights: frozenset[str]

    @property
    def account(self) -> int:
        """The owner's."""
        return self.mailbox.account

    def allows(self, rights: str) -> bool:
        return self.rights.issuperset(rights)


def find(session: Session, name: str) -> Place | None:
    """None: there is no such mailbox, or the user may not know of it (RFC 4314 §6)."""
    mailbox = session.site.store.mailbox(session.user, name)
    return None if mailbox is None else Place(mailbox, mailbox.name, ALL_RIGHTS)


def need(session: Session, name: str, rights: str = "") -> Place:
    """Raises: StateError (NONEXISTENT; NOPERM when a right is missing)."""
    place = find(session, name)
    if place is None:
        raise StateError(Fault.NONEXISTENT, "There is no such mailbox")
    if not place.allows(rights):
        raise StateError(Fault.NOPERM, "You have no right to do this here")
    return place


def home(session: Session, name: str) -> tuple[int, str]:
    """Where a mailbox of this name would be: the owner's account, and the owner's name for it.

    Raises: StateError(NOPERM) when the user may not create it.
    """
    return session.user, name


def places(session: Session) -> list[Place]:
    """Every mailbox that the user may see, by name; INBOX first."""
    mailboxes = session.site.store.mailboxes(session.user)
    return [Place(mailbox, mailbox.name, ALL_RIGHTS) for mailbox in mailboxes]


def subscriptions(session: Session) -> list[str]:
    """Subscribed names, as the user calls them."""
    return session.site.store.subscriptions(session.user)
