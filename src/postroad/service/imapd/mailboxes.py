"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE.

With UTF-8 enabled names are kept in NFC; a client that wrote another form is told.
Source: RFC 3501 §6.3.3-7, RFC 4314 §4 (`k`, `x`), RFC 6154 §3 (USE), RFC 8474 §4.1 (MAILBOXID),
RFC 5530 §3, RFC 9051 §5.1, §6.3.9.7 (OLDNAME).
"""

from __future__ import annotations

import unicodedata

from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap.mailboxes import Create, Delete, Rename, Subscribe
from postroad.protocol.imap.names import SEPARATOR
from postroad.service.imapd import long, places
from postroad.service.imapd.lists import renamed
from postroad.service.imapd.objectid import mailbox_id
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.uses import known_use
from postroad.store import operations
from postroad.store.values import Mailbox, unix


def new_name(session: Session, name: str) -> str:
    """A name to be created: a separator at its end says only that children will come.

    Raises: StateError. How long it may be is the store's to say.
    """
    name = name.removesuffix(SEPARATOR)
    if session.utf8:
        name = unicodedata.normalize("NFC", name)
    if not name or not all(name.split(SEPARATOR)):
        raise StateError(Fault.CANNOT, "Every level of a mailbox name needs a name")
    if "*" in name or "%" in name:
        raise StateError(Fault.CANNOT, "A mailbox name cannot hold * or %")
    return name


def _tell_name(session: Session, name: str, written: str) -> None:
    """RFC 9051 §6.3.4: the name was put into another form."""
    if session.utf8 and name != written.removesuffix(SEPARATOR):
        session.put(renamed(session, name, written.removesuffix(SEPARATOR)))


async def create(session: Session, command: Create) -> Answer:
    use = ""
    if command.use:
        found = known_use(command.use[0].decode("ascii"))
        if found is None or len(command.use) > 1:
            return no("A mailbox cannot be created for this use", b"USEATTR")
        use = found
    site = session.site
    name = new_name(session, command.mailbox)
    account, theirs = places.home(session, name)
    if use and account != session.user:
        return no("The use of a mailbox is its owner's to set", b"USEATTR")
    if use and any(mailbox.special_use == use for mailbox in site.store.mailboxes(account)):
        return no("Another mailbox has this use", b"USEATTR")
    [made] = await site.database.submit(
        operations.CreateMailbox(
            account=account, name=theirs, special_use=use, now=unix(site.clock.now())
        )
    )
    assert isinstance(made, Mailbox), "the operation says so"
    _tell_name(session, name, command.mailbox)
    return Answer("Created", b"MAILBOXID (%b)" % mailbox_id(made))


def _there(session: Session, name: str) -> tuple[int, str]:
    """Whose a mailbox is that is to go from its name, and his name for it. A level of one's own
    names need be no mailbox: the store knows what is below it. Raises: StateError."""
    place = places.find(session, name)
    if place is None and name.partition(SEPARATOR)[0] not in (places.USERS, places.PUBLIC):
        return session.user, name
    if place is None or not place.allows("x"):
        raise places.denied(place)
    return place.account, place.mailbox.name


async def delete(session: Session, command: Delete) -> Answer:
    """A session that has the mailbox selected, this one too, is told * BYE."""
    site = session.site
    account, name = _there(session, command.mailbox.removesuffix(SEPARATOR))
    await long.submit(
        session,
        operations.DeleteMailbox(account=account, name=name, now=unix(site.clock.now())),
    )
    view = session.view
    if view is not None and site.store.mailbox_by_id(view.account, view.mailbox) is None:
        session.select(None)
        session.put(b"* OK [CLOSED] The mailbox that was selected is deleted\r\n")
    return Answer("Deleted")


async def rename(session: Session, command: Rename) -> Answer:
    """With all below it, within one owner's mailboxes; the client hears of it as others would."""
    site = session.site
    owner, old = _there(session, command.mailbox.removesuffix(SEPARATOR))
    name = new_name(session, command.to)
    account, to = places.home(session, name)
    if account != owner:
        return no("A mailbox cannot change its owner", b"CANNOT")
    await long.submit(
        session,
        operations.RenameMailbox(account=account, name=old, to=to, now=unix(site.clock.now())),
    )
    if session.rev2 and old != "INBOX":
        session.put(renamed(session, name, command.mailbox.removesuffix(SEPARATOR)))
    else:
        _tell_name(session, name, command.to)
    return Answer("Renamed")


async def subscribe(session: Session, command: Subscribe) -> Answer:
    """The mailbox need not exist any more (RFC 3501 §6.3.6), but it must be a name."""
    names = [command.mailbox]
    if command.subscribed:
        place = places.find(session, command.mailbox)
        names = [new_name(session, command.mailbox) if place is None else place.name]
    elif session.utf8:
        names.append(unicodedata.normalize("NFC", command.mailbox))
    await session.site.database.submit(
        *(
            operations.Subscribe(account=session.user, name=name, subscribed=command.subscribed)
            for name in dict.fromkeys(names)
        )
    )
    return Answer("Subscribed" if command.subscribed else "Unsubscribed")
