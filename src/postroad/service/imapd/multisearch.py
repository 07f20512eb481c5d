"""ESEARCH: one search in many mailboxes, a response for each that has matches.

Source: RFC 7377 §2, §2.1, §2.2 (sources, rights).
"""

from __future__ import annotations

from collections.abc import Iterator

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap import render
from postroad.protocol.imap.multisearch import ESearch, Scope, Source
from postroad.protocol.imap.names import SEPARATOR
from postroad.protocol.imap.search_program import Criteria
from postroad.service.imapd import context, places, results
from postroad.service.imapd.matching import Finder
from postroad.service.imapd.places import Place
from postroad.service.imapd.results import Result
from postroad.service.imapd.search import answer, keeping, prepare
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View


async def esearch(session: Session, command: ESearch) -> Answer:
    returns = command.returns
    if session.view is None and _needs_selected(command):
        raise ProtocolError("No mailbox is selected")
    context.check_tag(session, command.tag, returns)
    criteria = prepare(session, command.criteria, returns)
    if isinstance(criteria, Answer):
        return criteria
    selected = session.view
    if command.only_selected:
        assert selected is not None, "looked at above"
        async with keeping(selected, returns):
            await _search(session, command, criteria, selected)
        return answer(session, selected, "Searched", uid=True)
    searched: set[tuple[int, int]] = set()
    for source in command.sources:
        for place in sources(session, source):
            where = place.account, place.mailbox.mailbox
            if where in searched:
                continue
            searched.add(where)
            view = selected if selected is not None and selected.is_of(place.mailbox) else None
            if view is None:
                view = _open(session, place)
            if view is not None:
                await _search(session, command, criteria, view)
            if session.is_full:
                await session.flush()
            await turn()
    return Answer("Searched", expunges=not session.core.has_pending)


def _needs_selected(command: ESearch) -> bool:
    return any(source.scope is Scope.SELECTED for source in command.sources) or (
        b"UPDATE" in command.returns
    )


async def _search(session: Session, command: ESearch, criteria: Criteria, view: View) -> None:
    store, returns = session.site.store, command.returns
    finder = Finder(view, store, session.site.clock.now(), session.progress)
    result = Result(await finder.find(criteria.key), scores=finder.scores)
    correlator = b"TAG %b MAILBOX %b UIDVALIDITY %d" % (
        render.string(command.tag),
        session.mailbox_name(view.name),
        view.uidvalidity,
    )
    if result.uids and not returns.is_silent:
        modseq = await result.modseq(store, view, returns) if criteria.has_modseq else 0
        session.put(
            await results.esearch(correlator, view, result, returns, uid=True, modseq=modseq)
        )
    if b"SAVE" in returns:
        view.saved = result.saved(returns)
    if b"UPDATE" in returns:
        context.keep(
            session, command.tag, criteria, finder, result, uid=True, correlator=correlator
        )


def _open(session: Session, place: Place) -> View | None:
    """A view for one search; None when there is nothing to find."""
    store = session.site.store
    mailbox = store.mailbox_by_id(place.account, place.mailbox.mailbox)
    if mailbox is None or not mailbox.messages:
        return None
    return View(
        mailbox,
        None,
        read_only=True,
        first_recent=mailbox.first_recent,
        keywords=frozenset(),
        store=store,
        name=place.name,
        rights=place.rights,
        reader=session.user if place.account != session.user else 0,
        recent=0,
    )


def sources(session: Session, source: Source) -> Iterator[Place]:
    """The mailboxes meant that the user may read, some of them perhaps twice.

    Those that the client did not name need the right to be listed as well (RFC 7377 §2.2).
    """
    for place, is_named in _meant(session, source):
        if place is not None and place.allows("r" if is_named else "lr"):
            yield place


def _meant(session: Session, source: Source) -> Iterator[tuple[Place | None, bool]]:
    match source.scope:
        case Scope.SELECTED:
            view = session.view
            if view is not None:
                yield places.by_id(session, view.account, view.mailbox), True
        case Scope.INBOXES:
            yield places.find(session, "INBOX"), False
        case Scope.PERSONAL:
            for place in places.places(session):
                if place.account == session.user:
                    yield place, False
        case Scope.SUBSCRIBED:
            for name in places.subscriptions(session):
                yield places.find(session, name), False
        case Scope.MAILBOXES:
            for name in source.names:
                yield places.find(session, name), True
        case Scope.SUBTREE | Scope.SUBTREE_ONE:
            yield from _below(session, source)


def _below(session: Session, source: Source) -> Iterator[tuple[Place | None, bool]]:
    """A subtree of "" is all there is."""
    everything = places.places(session)
    for name in source.names:
        yield places.find(session, name), True
        above = name and name + SEPARATOR
        for place in everything:
            if place.name.startswith(above):
                is_child = SEPARATOR not in place.name[len(above) :]
                if is_child or source.scope is Scope.SUBTREE:
                    yield place, False
