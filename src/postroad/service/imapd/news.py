"""News of the selected mailbox: what a session has not told its client yet, a page at a time.

Removals and arrivals are taken in at once; flags that changed are told FLAG_PAGE at a time, in the
order of their changes, so that a session that is far behind neither keeps the loop nor its client
waiting. What the session changed and told itself is passed over.
Source: RFC 3501 §5.2, §5.5, §7.4.1; RFC 7162 §3.2.4, §3.2 (HIGHESTMODSEQ while news waits).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from postroad.database.contract import Notice, Topic
from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.net.contract import Disconnected
from postroad.service.imapd import context
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.service.imapd.personal import as_read
from postroad.service.imapd.view import NUMBERS_AT_ONCE, Manner, View
from postroad.store.contract import Store
from postroad.store.selected import UID_MAX
from postroad.store.values import MessageRow

if TYPE_CHECKING:
    from postroad.service.imapd.session import Session

FLAG_PAGE = 500
RETRY_S = 5.0
"""Until what could not be read is looked at again, if the client does not ask before."""


def tell(
    session: Session, view: View, *, expunges: bool, ask: bool, flags: bool = True
) -> bool | None:
    """Puts what happened, as far as it goes without waiting.

    ask: look at the mailbox. flags: the client wants to hear of flags that changed.
    True: there is more, to be told after a turn and `view.number()`.
    None: the mailbox is gone.
    """
    manner = session.manner
    store = session.site.store
    added = 0
    if ask:
        news = store.news(
            view.account, view.mailbox, view.modseq, view.last, numbers=view.is_numbered
        )
        if news is None:
            return None
        added = view.take(news)
        session.put(*context.removed(view))
    unnumbered = not view.is_numbered and view.exists > NUMBERS_AT_ONCE
    more = False
    if expunges and view.vanished is not None:
        if unnumbered and not manner.vanished:
            more = True
        else:
            session.put(*view.expunges(manner))
    if added:
        session.put(view.arrivals(manner))
    if not flags:
        view.untold.clear()
        view.caught_up()
    if view.is_behind:
        if unnumbered and not manner.uid_only and _has_flag_news(store, view):
            return True
        more = _tell_flags(session, view, manner) or more
    if view.vanished is not None and not expunges and not more and session.qresync:
        # what was told may be newer than a removal that waits (RFC 7162 §3.2)
        code = b"* OK [HIGHESTMODSEQ %d] Removals are still to be told\r\n"
        session.put(code % max(view.settled, 1))
    return more


def _has_flag_news(store: Store, view: View) -> bool:
    """Else the view has caught up: new messages are no flag news."""
    if view.untold:
        return True
    for after, below in view.spans():
        if store.flag_news(view.account, view.mailbox, after, below, view.known_before, 1):
            return True
    view.caught_up()
    return False


def _tell_flags(session: Session, view: View, manner: Manner) -> bool:
    """One page; whether there may be another."""
    rows, more = _page(session.site.store, view)
    if rows:
        session.put(*view.new_keywords(rows))
        session.put(*view.flag_lines(rows, manner))
    return more


def _page(store: Store, view: View) -> tuple[list[MessageRow], bool]:
    """The view goes on when all is read: what cannot be read now is not passed over."""
    found: dict[int, MessageRow] = {}
    if view.untold:
        wanted = UIDSet.of(view.untold)
        for rows in store.messages(view.account, view.mailbox, view.known(wanted)):
            found.update((row.uid, row) for row in rows)
    more = False
    at = view.flags_at
    for after, below in view.spans():
        room = FLAG_PAGE - len(found)
        if room <= 0:
            more = True
            break
        page = store.flag_news(view.account, view.mailbox, after, below, view.known_before, room)
        found.update((row.uid, row) for row in page)
        if len(page) == room:
            at = (page[-1].modseq, page[-1].uid)
            more = True
            break
        at = (below - 1, UID_MAX)
    read = as_read(store, view, sorted(found.values(), key=lambda row: row.uid))
    view.untold.clear()
    view.flags_at = at
    if not more:
        view.caught_up()
    return read, more


def defer(session: Session, error: Unavailable) -> None:
    """News that cannot be read now wait; the client has only to be told later.

    Raises: Disconnected when half of something was said.
    """
    session.site.trace(IMAPCommandDeferred(session=session.id, command="News", what=error.what))
    if session.partial:
        raise Disconnected("a literal was cut short") from error
    session.dirty = True
    if session.retry is None:
        loop = asyncio.get_running_loop()
        session.retry = loop.call_later(RETRY_S, session.look_again)


def rekeys(session: Session, notice: Notice) -> bool:
    """Whether the URLs of the selected mailbox that this user made are void."""
    view = session.view
    return (
        notice.topic is Topic.URL_KEYS
        and view is not None
        and (notice.account, notice.mailbox) == (view.account, view.mailbox)
        and notice.subject == str(session.user)
    )


def concerns(view: View, notice: Notice) -> bool:
    """Whether there may be news of the selected mailbox."""
    match notice.topic:
        case Topic.MESSAGES:  # mailbox 0: any of them
            return notice.account in (0, view.account) and notice.mailbox in (0, view.mailbox)
        case Topic.MAILBOXES:
            return True
        case Topic.RIGHTS | Topic.ACCOUNT:
            return notice.account == view.account
        case _:
            return False
