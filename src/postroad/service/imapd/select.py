"""SELECT, EXAMINE, CLOSE and UNSELECT.

Source: RFC 3501 §6.3.1-2, §6.4.2; RFC 3691 §2; RFC 7162 §3.1.2, §3.1.8, §3.2.11 (CLOSED).
"""

from __future__ import annotations

from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap.commands import Close, Unselect
from postroad.protocol.imap.mailboxes import Select
from postroad.service.imapd import places
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.view import View, flags_response
from postroad.store.operations import ClaimRecent, Expunge
from postroad.store.values import Mailbox, unix

UNSEEN_SCAN_SLICES_MAX = 20
"""How far SELECT looks for the first unseen message from each end, some 500 messages a slice;
past it the code is left out, which RFC 3501 §7.1 allows."""


async def select(session: Session, command: Select) -> Answer:
    """A SELECT that fails leaves no mailbox selected (RFC 3501 §6.3.1)."""
    if session.view is not None:
        await leave_mailbox(session)
        session.put(b"* OK [CLOSED] The previous mailbox is closed\r\n")
    store = session.site.store
    place = places.need(session, command.mailbox, "r")
    found = place.mailbox
    first_recent = found.first_recent
    if not command.read_only and found.first_recent < found.uidnext:
        claim = ClaimRecent(account=found.account, mailbox=found.mailbox)
        [first_recent] = await session.site.database.submit(claim)
    opened = store.open(found.account, found.mailbox)
    if opened is None:
        return no("There is no such mailbox", b"NONEXISTENT")
    mailbox, uids = opened
    view = View(
        mailbox,
        uids,
        read_only=command.read_only,
        first_recent=first_recent,
        keywords=frozenset(store.keywords(mailbox.account, mailbox.mailbox)),
    )
    if command.condstore:
        session.enabled.add(b"CONDSTORE")
    session.select(view)
    _describe(session, mailbox, view)
    if command.read_only:
        return Answer("Selected, read-only", b"READ-ONLY")
    return Answer("Selected", b"READ-WRITE")


def _describe(session: Session, mailbox: Mailbox, view: View) -> None:
    session.put(flags_response(view.keywords))
    if view.read_only:
        session.put(b"* OK [PERMANENTFLAGS ()] Nothing can be changed\r\n")
    else:
        known = flags_response(view.keywords)[len(b"* FLAGS (") : -len(b")\r\n")]
        session.put(b"* OK [PERMANENTFLAGS (%b \\*)] Flags that are kept\r\n" % known)
    session.put(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.exists, view.recent))
    unseen = first_unseen(session, mailbox, view)
    if unseen:
        session.put(b"* OK [UNSEEN %d] The first unseen message\r\n" % unseen)
    session.put(
        b"* OK [UIDVALIDITY %d] UIDs are valid\r\n" % mailbox.uidvalidity,
        b"* OK [UIDNEXT %d] The next UID\r\n" % mailbox.uidnext,
        b"* OK [HIGHESTMODSEQ %d] The highest mod-sequence\r\n" % max(mailbox.highestmodseq, 1),
    )


def first_unseen(session: Session, mailbox: Mailbox, view: View) -> int:
    """The number of the first message without \\Seen; 0: none, or none near either end.

    Walks from both ends: what is unread is mostly new, and the count says when all were met.
    """
    left = mailbox.unseen
    uids = view.uids
    store = session.site.store
    low, high = 0, len(uids)
    met = 0
    for _ in range(UNSEEN_SCAN_SLICES_MAX):
        if not left or low >= high:
            break
        for at in (low, max(low, high - 500)):
            ends = UIDSet(((uids[at], uids[min(at + 500, high) - 1]),))
            for rows in store.messages(view.account, view.mailbox, ends):
                unseen = [row.uid for row in rows if not row.flags & Flag.SEEN]
                if unseen and at == low:
                    return view.seq(unseen[0]) or 0
                if unseen:
                    left -= len(unseen)
                    met = unseen[0]
        low, high = low + 500, max(low, high - 500)
    return (view.seq(met) or 0) if met and not left else 0


async def leave_mailbox(session: Session) -> None:
    """Deselects. Messages that arrived meanwhile were \\Recent here, and are so no more."""
    view = session.view
    if view is None:
        return
    session.select(None)
    if not view.read_only and view.last_uid >= view.first_recent:
        mailbox = session.site.store.mailbox_by_id(view.account, view.mailbox)
        if mailbox is not None and mailbox.first_recent <= view.last_uid:
            claim = ClaimRecent(account=view.account, mailbox=view.mailbox)
            await session.site.database.submit(claim)


async def close(session: Session, command: Close) -> Answer:
    """Expunges without a word, unless the mailbox is read-only."""
    view = session.selected
    if not view.read_only:
        expunge = Expunge(
            account=view.account, mailbox=view.mailbox, now=unix(session.site.clock.now())
        )
        await session.site.database.submit(expunge)
    await leave_mailbox(session)
    return Answer("Closed")


async def unselect(session: Session, command: Unselect) -> Answer:
    await leave_mailbox(session)
    return Answer("Unselected")
