"""SELECT, EXAMINE, CLOSE and UNSELECT.

Opening costs the same in a mailbox of any size: counters are kept, UIDs are read when a sequence
number is first used (`view`), and what changed since is asked for by mod-sequence (`resync`).
Source: RFC 3501 §6.3.1-2, §6.4.2; RFC 3691 §2; RFC 4314 §5.2 (READ-ONLY, PERMANENTFLAGS); RFC 7162
§3.1.2, §3.1.8, §3.2.5, §3.2.8, §3.2.11 (CLOSED); RFC 8474 §4.2; RFC 9051 §6.3.2; RFC 9586.
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Close, Unselect
from postroad.protocol.imap.mailboxes import Select
from postroad.protocol.imap.names import SEPARATOR
from postroad.service.imapd import long, places, recent
from postroad.service.imapd.objectid import mailbox_id
from postroad.service.imapd.places import Place
from postroad.service.imapd.resync import resync
from postroad.service.imapd.rights import permanent_flags
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.view import View, flags_response
from postroad.store.operations import ClaimRecent, Expunge
from postroad.store.selected import UID_MAX
from postroad.store.values import Mailbox, unix

_CHANGING = frozenset("swtie")
"""Whoever has none of these rights can change nothing."""
_WRITING = frozenset("iewt")
"""Whoever has one of these is told READ-WRITE: \\Seen is everybody's own (RFC 4314 §5.2)."""


async def select(session: Session, command: Select) -> Answer:
    """A SELECT that fails leaves no mailbox selected (RFC 3501 §6.3.1)."""
    if command.resync is not None:
        if not session.qresync:
            return Answer("ENABLE QRESYNC comes first", status=b"BAD", expunges=False)
        if session.uid_only and command.resync.matches is not None:
            text = "Only UIDs are understood now"
            return Answer(text, b"UIDREQUIRED", b"BAD", expunges=False)
    if session.view is not None:
        await leave_mailbox(session)
        session.put(b"* OK [CLOSED] The previous mailbox is closed\r\n")
    place = places.need(session, command.mailbox, "r")
    read_only = command.read_only or not place.rights & _CHANGING
    first_recent = await _first_recent(session, place, read_only)
    found = _open(session, place, read_only, first_recent)
    if found is None:
        return no("There is no such mailbox", b"NONEXISTENT")
    mailbox, view, unseen = found
    if command.condstore:
        session.enabled.add(b"CONDSTORE")
    session.select(view)
    _describe(session, mailbox, view, unseen)
    if session.rev2:
        session.put(_list_response(session, place, command.mailbox))
    if command.resync is not None and command.resync.uidvalidity == mailbox.uidvalidity:
        await resync(session, view, command.resync)
    if command.read_only or not place.rights & _WRITING:
        return Answer("Selected, read-only", b"READ-ONLY")
    return Answer("Selected", b"READ-WRITE")


async def _first_recent(session: Session, place: Place, read_only: bool) -> int:
    """From which UID on messages are \\Recent here. The owner's session takes them for itself."""
    mailbox = place.mailbox
    if not session.manner.recent:
        return UID_MAX + 1
    if read_only or place.account != session.user or mailbox.first_recent >= mailbox.uidnext:
        return mailbox.first_recent
    return await long.submit(session, ClaimRecent(account=place.account, mailbox=mailbox.mailbox))


def _open(
    session: Session, place: Place, read_only: bool, first_recent: int
) -> tuple[Mailbox, View, int] | None:
    """The mailbox, its view and the number of the first unseen message, of one commit."""
    store = session.site.store
    with session.site.database.snapshot():
        mailbox = store.mailbox_by_id(place.account, place.mailbox.mailbox)
        if mailbox is None:
            return None
        key = (mailbox.account, mailbox.mailbox)
        mark = (*key, mailbox.uidvalidity)
        first_recent = max(first_recent, recent.told(store, mark) + 1)
        news, unseen = store.opening(*key, first_recent)
        view = View(
            mailbox,
            None,
            read_only=read_only,
            first_recent=first_recent,
            keywords=frozenset(store.keywords(mailbox.account, mailbox.mailbox)),
            store=store,
            name=place.name,
            rights=place.rights,
            reader=0 if place.account == session.user else session.user,
            recent=news,
        )
    if not read_only and not view.reader and session.manner.recent:
        recent.claim(store, mark, view.last)
    return mailbox, view, 0 if view.reader else unseen


def _describe(session: Session, mailbox: Mailbox, view: View, unseen: int) -> None:
    manner = session.manner
    session.put(flags_response(view.keywords))
    if view.read_only:
        session.put(b"* OK [PERMANENTFLAGS ()] Nothing can be changed\r\n")
    else:
        session.put(b"* OK [PERMANENTFLAGS (%b)] Flags that are kept\r\n" % permanent_flags(view))
    session.put(view.arrivals(manner))
    if unseen and manner.recent and not manner.uid_only:
        session.put(b"* OK [UNSEEN %d] The first unseen message\r\n" % unseen)
    session.put(
        b"* OK [UIDVALIDITY %d] UIDs are valid\r\n" % mailbox.uidvalidity,
        b"* OK [UIDNEXT %d] The next UID\r\n" % mailbox.uidnext,
        b"* OK [MAILBOXID (%b)] The same under any name\r\n" % mailbox_id(mailbox),
        b"* OK [URLMECH INTERNAL] How URLs are authorized\r\n",
        b"* OK [HIGHESTMODSEQ %d] The highest mod-sequence\r\n" % max(mailbox.highestmodseq, 1),
    )


def _list_response(session: Session, place: Place, asked: str) -> bytes:
    """Source: RFC 9051 §6.3.2, §6.3.9.7 (OLDNAME: the name was spelt in another way)."""
    if place.account == session.user:
        has_children = session.site.store.has_children(place.account, place.mailbox.name)
    else:
        below = place.name + SEPARATOR
        has_children = any(other.name.startswith(below) for other in places.places(session))
    attributes = [b"\\HasChildren" if has_children else b"\\HasNoChildren"]
    if place.mailbox.special_use and place.account == session.user:
        attributes.append(place.mailbox.special_use.encode())
    old = b""
    if asked != place.name:
        old = b' ("OLDNAME" (%b))' % session.mailbox_name(asked)
    return b'* LIST (%b) "/" %b%b\r\n' % (
        b" ".join(attributes),
        session.mailbox_name(place.name),
        old,
    )


async def leave_mailbox(session: Session) -> None:
    """Deselects. Messages that arrived meanwhile were \\Recent here, and are so no more."""
    view = session.view
    if view is None:
        return
    session.select(None)
    if not view.read_only and not view.reader and view.last >= view.first_recent:
        mailbox = session.site.store.mailbox_by_id(view.account, view.mailbox)
        if mailbox is not None and mailbox.first_recent <= view.last:
            claim = ClaimRecent(account=view.account, mailbox=view.mailbox)
            await session.site.database.submit(claim)


async def close(session: Session, command: Close) -> Answer:
    """Expunges without a word, unless that is not allowed. No HIGHESTMODSEQ (RFC 7162 §3.2.8)."""
    view = session.selected
    if not view.read_only and view.may("e"):
        now = unix(session.site.clock.now())
        await long.submit(session, Expunge(account=view.account, mailbox=view.mailbox, now=now))
    await leave_mailbox(session)
    return Answer("Closed")


async def unselect(session: Session, command: Unselect) -> Answer:
    await leave_mailbox(session)
    return Answer("Unselected")
