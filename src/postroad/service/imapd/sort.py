"""SORT: what SEARCH finds, in an order.

Source: RFC 5256 §3 (SORT), RFC 5267 §3 (ESORT), RFC 5957 §3-4 (DISPLAY), RFC 6203 §6 (RELEVANCY).
"""

from __future__ import annotations

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.sort import Sort, SortKey
from postroad.service.imapd import context
from postroad.service.imapd.matching import Finder
from postroad.service.imapd.ordering import in_order
from postroad.service.imapd.results import Result
from postroad.service.imapd.search import answer, keeping, prepare, tell
from postroad.service.imapd.session import Answer, Session


async def sort(session: Session, command: Sort) -> Answer:
    view = session.selected
    returns = command.returns
    context.check_tag(session, command.tag, returns)
    criteria = prepare(session, command.criteria, returns)
    if isinstance(criteria, Answer):
        return criteria
    by_score = any(item.key is SortKey.RELEVANCY for item in command.by)
    if by_score and not criteria.is_fuzzy:
        raise ProtocolError("RELEVANCY needs a FUZZY key")
    store = session.site.store
    async with keeping(view, returns):
        finder = Finder(view, store, session.site.clock.now(), session.progress)
        found = await finder.find(criteria.key)
        ordered = await in_order(
            store, session.site.remembered, view, found, command.by, finder.scores
        )
        result = Result(ordered, is_sorted=True, scores=finder.scores)
        await tell(session, command.tag, b"SORT", criteria, returns, result, uid=command.uid)
        if returns is not None and b"UPDATE" in returns:
            context.keep(
                session, command.tag, criteria, finder, result, uid=command.uid, by=command.by
            )
    return answer(session, view, "Sorted", uid=command.uid)
