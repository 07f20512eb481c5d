"""NOTIFY: the session hears of more than its selected mailbox, or of less.

Source: RFC 5465 §3.1 (implied NOOP, STATUS, \\NoAccess), §5.8 (overflow); RFC 5530 §3.
"""

from __future__ import annotations

from postroad.protocol.imap.notify import OF_MESSAGES, Notify, Wanted, Whose
from postroad.service.imapd import places
from postroad.service.imapd.interest import Interest
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.status import status_response
from postroad.service.imapd.turns import turn
from postroad.service.imapd.watch import Overflow, Watch

PER_TURN = 20
_NAMED = (Whose.MAILBOXES, Whose.SUBTREE)


async def notify(session: Session, command: Notify) -> Answer:
    """What has accumulated is told as it was wanted before (RFC 5465 §3.1)."""
    if command.groups:
        await session.tell_all(expunges=True, ask=True)
    watch = Watch(Interest.of(command.groups))
    try:
        watched, tree = await watch.begin(session)
    except Overflow:
        watch.end()
        return no("So many mailboxes cannot be watched", b"NOTIFICATIONOVERFLOW")
    session.watch_with(watch)
    _tell_what_is_closed(session, command)
    if command.status:
        view = session.view
        for count, place in enumerate(watched, 1):
            if view is not None and view.is_of(place.mailbox):
                continue
            events = watch.events(session, tree, place.name) & OF_MESSAGES
            items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"]
            if Wanted.FLAG_CHANGE in events or session.condstore:
                items.append(b"HIGHESTMODSEQ")
            session.put(status_response(session, place, tuple(items)))
            if session.is_full:
                await session.flush()
            if not count % PER_TURN:
                await turn()
    return Answer("You will be told" if command.groups else "You will be told nothing")


def _tell_what_is_closed(session: Session, command: Notify) -> None:
    """Of mailboxes named that the client may list, but not read."""
    for group in command.groups:
        if group.whose not in _NAMED or not group.events:
            continue
        for name in group.mailboxes:
            place = places.find(session, name)
            if place is not None and place.allows("l") and not place.allows("r"):
                named = session.mailbox_name(place.name)
                session.put(b'* LIST (\\NoAccess) "/" %b\r\n' % named)
