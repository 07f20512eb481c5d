"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE.

Source: RFC 3501 §6.3.3-7, RFC 6154 §3 (USE), RFC 5530 §3.
"""

from __future__ import annotations

from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap.mailboxes import Create, Delete, Rename, Subscribe
from postroad.protocol.imap.names import SEPARATOR
from postroad.service.imapd import places
from postroad.service.imapd.session import Answer, Session, no
from postroad.store import operations
from postroad.store.values import unix

_USES = {
    use.lower(): use
    for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")
}
_VIRTUAL = ("\\All", "\\Flagged")
"""Uses that would be a view over other mailboxes; none of ours is one."""


def new_name(name: str) -> str:
    """A name to be created: a separator at its end says only that children will come.

    Raises: StateError.
    """
    name = name.removesuffix(SEPARATOR)
    if not name or not all(name.split(SEPARATOR)):
        raise StateError(Fault.CANNOT, "Every level of a mailbox name needs a name")
    if len(name.encode()) > limits.MAILBOX_NAME_OCTETS_MAX:
        raise StateError(Fault.LIMIT, "The mailbox name is too long")
    if name.count(SEPARATOR) >= limits.MAILBOX_DEPTH_MAX:
        raise StateError(Fault.LIMIT, "The mailbox name has too many levels")
    if "*" in name or "%" in name:
        raise StateError(Fault.CANNOT, "A mailbox name cannot hold * or %")
    return name


async def create(session: Session, command: Create) -> Answer:
    use = ""
    if command.use:
        found = _USES.get(command.use[0].decode("ascii").lower())
        if found is None or found in _VIRTUAL or len(command.use) > 1:
            return no("A mailbox cannot be created for this use", b"USEATTR")
        use = found
    site = session.site
    account, name = places.home(session, new_name(command.mailbox))
    if use and any(mailbox.special_use == use for mailbox in site.store.mailboxes(account)):
        return no("Another mailbox has this use", b"USEATTR")
    await site.database.submit(
        operations.CreateMailbox(
            account=account, name=name, special_use=use, now=unix(site.clock.now())
        )
    )
    return Answer("Created")


async def delete(session: Session, command: Delete) -> Answer:
    """A session that has the mailbox selected, this one too, is told * BYE."""
    site = session.site
    place = places.need(session, command.mailbox.removesuffix(SEPARATOR), "x")
    await site.database.submit(
        operations.DeleteMailbox(
            account=place.account, name=place.mailbox.name, now=unix(site.clock.now())
        )
    )
    view = session.view
    if view is not None and site.store.mailbox_by_id(view.account, view.mailbox) is None:
        session.select(None)
        session.put(b"* OK [CLOSED] The mailbox that was selected is deleted\r\n")
    return Answer("Deleted")


async def rename(session: Session, command: Rename) -> Answer:
    site = session.site
    place = places.need(session, command.mailbox.removesuffix(SEPARATOR), "x")
    account, to = places.home(session, new_name(command.to))
    if account != place.account:
        return no("A mailbox cannot change its owner", b"CANNOT")
    await site.database.submit(
        operations.RenameMailbox(
            account=account,
            name=place.mailbox.name,
            to=to,
            now=unix(site.clock.now()),
        )
    )
    return Answer("Renamed")


async def subscribe(session: Session, command: Subscribe) -> Answer:
    """The mailbox need not exist any more (RFC 3501 §6.3.6), but it must be a name."""
    name = new_name(command.mailbox) if command.subscribed else command.mailbox
    await session.site.database.submit(
        operations.Subscribe(account=session.user, name=name, subscribed=command.subscribed)
    )
    return Answer("Subscribed" if command.subscribed else "Unsubscribed")
