"""SEARCH: which messages of the view match, and what is said of them.

Source: RFC 3501 §6.4.4, RFC 9051 §6.4.4; RFC 4731 §3.1, RFC 5182 §2.1 (`$`), RFC 5466 §3.1
(UNDEFINED-FILTER), RFC 7162 §3.1.5.
"""

from __future__ import annotations

from postroad.mail.errors import ProtocolError
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.search import Search
from postroad.protocol.imap.search_program import Criteria, Returns
from postroad.service.imapd import context, filters, results
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.matching import Finder
from postroad.service.imapd.results import Result
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.turns import apart
from postroad.service.imapd.view import View

EVERYTHING = Returns(frozenset((b"ALL",)))
"""Without RETURN, for a client of RFC 9051."""


async def search(session: Session, command: Search) -> Answer:
    view = session.selected
    returns = command.returns
    if returns is None and session.rev2:
        returns = EVERYTHING
    context.check_tag(session, command.tag, returns)
    refused = prepare(session, command.criteria, returns)
    if isinstance(refused, Answer):
        return refused
    criteria = refused
    async with keeping(view, returns):
        finder = Finder(view, session.site.store, session.site.clock.now(), session.progress)
        found = await finder.find(criteria.key)
        result = Result(found, scores=finder.scores)
        await tell(session, command.tag, b"SEARCH", criteria, returns, result, uid=command.uid)
        if returns is not None and b"UPDATE" in returns:
            context.keep(session, command.tag, criteria, finder, result, uid=command.uid)
    return answer(session, view, "Searched", uid=command.uid)


def prepare(session: Session, criteria: Criteria, returns: Returns | None) -> Criteria | Answer:
    """The criteria with filters put in, or why they cannot be used. A search that was to be
    saved and fails leaves `$` empty (RFC 5182 §2.1)."""
    refusal = None
    if not criteria.is_readable:
        refusal = no("The charset is not known", b"BADCHARSET (US-ASCII UTF-8)", expunges=False)
    elif criteria.has_filter and not criteria.is_unicode:
        text = "Beside a filter, the charset is UTF-8"
        refusal = Answer(text, b"BADCHARSET (US-ASCII UTF-8)", b"BAD", expunges=False)
    else:
        try:
            criteria = filters.expand(session, criteria)
        except filters.UndefinedFilter as error:
            code = b"UNDEFINED-FILTER " + error.name.encode()
            refusal = no("There is no such filter", code, expunges=False)
    if refusal is not None:
        if session.view is not None and refusal.status == b"NO" and returns and b"SAVE" in returns:
            session.view.saved = UIDSet()
        return refusal
    if returns is not None and b"RELEVANCY" in returns and not criteria.is_fuzzy:
        raise ProtocolError("RELEVANCY needs a FUZZY key")
    if criteria.has_modseq:
        enable_condstore(session)
    return criteria


class keeping:
    """`async with keeping(view, returns):` empties `$` when a search to be saved fails."""

    __slots__ = ("_returns", "_view")

    def __init__(self, view: View, returns: Returns | None) -> None:
        self._view = view
        self._returns = returns

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        saves = self._returns is not None and b"SAVE" in self._returns
        if error is not None and saves and not isinstance(error, ProtocolError):
            self._view.saved = UIDSet()


async def tell(
    session: Session,
    tag: bytes,
    word: bytes,
    criteria: Criteria,
    returns: Returns | None,
    result: Result,
    *,
    uid: bool,
) -> None:
    """Puts the response, and keeps what is to be `$`."""
    view = session.selected
    modseq = 0
    if criteria.has_modseq and result.uids:
        modseq = await result.modseq(session.site.store, view, returns)
    if returns is None:
        session.put(await results.old_response(word, view, result, uid=uid, modseq=modseq))
        return
    if not returns.is_silent:
        correlator = b"TAG " + render.string(tag)
        session.put(
            await results.esearch(correlator, view, result, returns, uid=uid, modseq=modseq)
        )
    if b"SAVE" in returns:
        view.saved = await apart(lambda: result.saved(returns), len(result.uids))


def answer(session: Session, view: View, text: str, *, uid: bool) -> Answer:
    """EXPUNGE may be told unless a command by numbers was asked, or follows (RFC 3501 §7.4.1)."""
    missed = not uid and view.vanished is not None
    expunges = uid and not session.core.has_pending
    return Answer(text, b"EXPUNGEISSUED" if missed else b"", expunges=expunges)
