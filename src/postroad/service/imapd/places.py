"""Places: the mailboxes that a session can name, whosever they are, and what it may do there.

The one road from a name a client sends to a mailbox of the store. One's own mailboxes have the
names they are kept under; others' are `Users/<address>/...`, those of public accounts
`Shared/<label>/...`. A mailbox of one's own goes before: nobody loses one that was there first.
Source: RFC 3501 §5.1, RFC 2342 §5, RFC 4314 §2.1 (rights), §6 (what stays hidden), RFC 5530 §3
(NONEXISTENT, NOPERM), RFC 9051 §5.1 (names are NFC).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from postroad.mail.errors import Fault, StateError
from postroad.mail.rights import ALL_RIGHTS, VISIBLE
from postroad.protocol.imap.names import SEPARATOR, canonical
from postroad.store import names
from postroad.store.shared_reading import Owner
from postroad.store.values import Mailbox

if TYPE_CHECKING:
    from postroad.service.imapd.session import Session
    from postroad.service.site import Site

USERS = "Users"
"""The level above the mailboxes of other people."""
PUBLIC = "Shared"
"""The level above those of public accounts."""
_UNSAFE = re.compile("[/*%=]")
_ESCAPED = re.compile("=([0-9A-F]{2})")


class Visitor(Protocol):
    """Who asks: a session, or whom one asks for."""

    @property
    def site(self) -> Site: ...
    @property
    def user(self) -> int: ...


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


def _level(owner: Owner) -> str:
    """The owner's levels; of an address, letters that mean something in names are escaped."""
    if owner.label:
        return f"{PUBLIC}/{owner.label}/"
    level = _UNSAFE.sub(lambda letter: f"={ord(letter[0]):02X}", owner.address)
    return f"{USERS}/{level}/"


def _split(session: Visitor, name: str) -> tuple[Owner, str] | None:
    """Whose mailbox a name of another namespace means, and his name for it. None: nobody's."""
    space, _, rest = name.partition(SEPARATOR)
    level, _, below = rest.partition(SEPARATOR)
    if space not in (USERS, PUBLIC) or not level:
        return None
    store = session.site.store
    if space == PUBLIC:
        owner = store.owner_by_label(session.user, level)
    else:
        address = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), level)
        owner = store.owner_by_address(session.user, address)
    if owner is None or owner.account == session.user or _level(owner) != f"{space}/{level}/":
        return None
    return owner, canonical(below)


def name_of(session: Visitor, mailbox: Mailbox) -> str:
    """What this session's user calls a mailbox; "" when its owner is gone."""
    if mailbox.account == session.user:
        return mailbox.name
    owner = session.site.store.owner_of(mailbox.account)
    return "" if owner is None else _level(owner) + mailbox.name


def _spellings(name: str) -> tuple[str, ...]:
    composed = unicodedata.normalize("NFC", name)
    return (name,) if composed == name else (name, composed)


def find(session: Visitor, name: str) -> Place | None:
    """None: there is no such mailbox, or the user may not know of it (RFC 4314 §6)."""
    for spelling in _spellings(name) if not name.isascii() else (name,):
        place = _find(session, spelling)
        if place is not None:
            return place
    return None


def _find(session: Visitor, name: str) -> Place | None:
    store = session.site.store
    mailbox = store.mailbox(session.user, name)
    if mailbox is not None:
        return Place(mailbox, mailbox.name, ALL_RIGHTS)
    found = _split(session, name)
    if found is None:
        return None
    owner, theirs = found
    mailbox = store.mailbox(owner.account, theirs)
    return None if mailbox is None else _place(session, mailbox, _level(owner) + mailbox.name)


def _place(session: Visitor, mailbox: Mailbox, name: str) -> Place | None:
    rights = session.site.store.rights(mailbox.account, mailbox.mailbox, session.user)
    return Place(mailbox, name, rights) if rights & VISIBLE else None


def by_id(session: Session, account: int, mailbox: int) -> Place | None:
    """The place of a mailbox that is known by number, while the user may know of it."""
    found = session.site.store.mailbox_by_id(account, mailbox)
    if found is None:
        return None
    if account == session.user:
        return Place(found, found.name, ALL_RIGHTS)
    return _place(session, found, name_of(session, found))


def denied(place: Place | None) -> StateError:
    """Why something cannot be done there: who may not list a mailbox is told it does not exist."""
    if place is None or "l" not in place.rights:
        return StateError(Fault.NONEXISTENT, "There is no such mailbox")
    return StateError(Fault.NOPERM, "You have no right to do this here")


def find_with(session: Session, name: str, right: str) -> Place | None:
    """The same, but None too where the right is missing and the user may not list the mailbox.

    Raises: StateError(NOPERM) when it is only the right that is missing.
    """
    place = find(session, name)
    if place is None or place.allows(right):
        return place
    if "l" in place.rights:
        raise denied(place)
    return None


def need(session: Session, name: str, rights: str = "") -> Place:
    """Raises: StateError (NONEXISTENT; NOPERM when a right is missing)."""
    place = find(session, name)
    if place is None or not place.allows(rights):
        raise denied(place)
    return place


def home(session: Session, name: str) -> tuple[int, str]:
    """Where a mailbox of this name would be: the owner's account, and the owner's name for it.

    Raises: StateError(NOPERM) when the user may not create it: it takes `k` on the nearest mailbox
    above (RFC 4314 §4). The answer is the same whether there is such a person or not. A name that
    only looks like another namespace's is one's own: people bring mailboxes called "Shared".
    """
    if _is_own(session, name):
        return session.user, name
    store = session.site.store
    found = _split(session, name)
    if found is not None and found[1]:
        owner, theirs = found
        for parent in reversed(names.parents(theirs)):
            mailbox = store.mailbox(owner.account, parent)
            if mailbox is None:
                continue
            if "k" in store.rights(owner.account, mailbox.mailbox, session.user):
                return owner.account, theirs
            break
    raise StateError(Fault.NOPERM, "You have no right to create mailboxes there")


def _is_own(session: Session, name: str) -> bool:
    """Whether a new name is outside the namespaces of others."""
    space, _, rest = name.partition(SEPARATOR)
    level = rest.partition(SEPARATOR)[0]
    if space not in (USERS, PUBLIC) or not level:
        return True
    store = session.site.store
    if store.mailbox(session.user, space) is not None:
        return True
    if space == USERS:
        return "@" not in level
    return store.owner_by_label(session.user, level) is None


def places(session: Session) -> list[Place]:
    """Every mailbox that the user may see, by name; INBOX first."""
    store = session.site.store
    mailboxes = store.mailboxes(session.user)
    found = [Place(mailbox, mailbox.name, ALL_RIGHTS) for mailbox in mailboxes]
    shared = store.shared(session.user)
    if shared:
        known = {place.name for place in found}
        for item in shared:
            name = _level(item.owner) + item.mailbox.name
            if "l" in item.rights and name not in known:
                found.append(Place(item.mailbox, name, item.rights))
        found.sort(key=lambda place: (place.name != "INBOX", place.name))
    return found


def subscriptions(session: Session) -> list[str]:
    """Subscribed names, as the user calls them."""
    return session.site.store.subscriptions(session.user)
