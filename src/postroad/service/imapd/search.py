"""SEARCH: which messages of the view match, and the response that says so.

Keys that need only flags, dates and sizes are tried on the loop, slice by slice; those that read
headers or bodies in a thread, slice by slice.
Source: RFC 3501 §6.4.4, §7.2.5; RFC 4466 §2.6.1, RFC 4731 §3.1-3.2 (ESEARCH); RFC 7162 §3.1.5-6.
"""

from __future__ import annotations

import asyncio
from array import array

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.search import Search
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.matching import Matcher
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View
from postroad.store.values import Want

BASE_SLICE = 1000
HEADER_SLICE = 500
TEXT_SLICE = 20
"""Whole messages read and decoded between two looks at the session."""


async def search(session: Session, command: Search) -> Answer:
    view = session.selected
    if command.has_modseq:
        enable_condstore(session)
    matcher = Matcher(command.key, view, session.site.store, session.site.clock.now())
    found, modseqs = await _find(session, view, matcher)
    if command.returns is None:
        session.put(_old_response(command, view, found, modseqs))
    else:
        session.put(_esearch(command, command.returns, view, found, modseqs))
    expunges = command.uid and not session.core.has_pending
    missed = not command.uid and view.vanished is not None
    return Answer("Searched", b"EXPUNGEISSUED" if missed else b"", expunges=expunges)


async def _find(session: Session, view: View, matcher: Matcher) -> tuple[array[int], array[int]]:
    """UIDs that match, ascending, and their mod-sequences."""
    found, modseqs = array("L"), array("Q")
    size = BASE_SLICE
    if matcher.want & Want.OCTETS:
        size = TEXT_SLICE
    elif matcher.want:
        size = HEADER_SLICE
    store = session.site.store
    for rows in store.messages(view.account, view.mailbox, matcher.candidates, matcher.want, size):
        if matcher.want:
            matched = await asyncio.to_thread(matcher.matching, rows)
        else:
            matched = matcher.matching(rows)
            await turn()
        found.extend(row.uid for row in matched)
        modseqs.extend(row.modseq for row in matched)
    return found, modseqs


def _numbers(command: Search, view: View, found: array[int]) -> UIDSet:
    return UIDSet.of(found if command.uid else view.numbers(found))


def _old_response(command: Search, view: View, found: array[int], modseqs: array[int]) -> bytes:
    if not found:
        return b"* SEARCH\r\n"
    numbers = found if command.uid else view.numbers(found)
    text = b" ".join([b"%d" % number for number in numbers])
    if command.has_modseq:
        return b"* SEARCH %b (MODSEQ %d)\r\n" % (text, max(modseqs))
    return b"* SEARCH %b\r\n" % text


def _esearch(
    command: Search, returns: frozenset[bytes], view: View, found: array[int], modseqs: array[int]
) -> bytes:
    out = [b"* ESEARCH (TAG %b)" % render.string(command.tag)]
    if command.uid:
        out.append(b"UID")
    if found:
        ends = [found[0], found[-1]]
        first, last = ends if command.uid else (view.seq(uid) or 0 for uid in ends)
        if b"MIN" in returns:
            out.append(b"MIN %d" % first)
        if b"MAX" in returns:
            out.append(b"MAX %d" % last)
        if b"ALL" in returns:
            out.append(b"ALL " + render.numbers(_numbers(command, view, found)))
    if b"COUNT" in returns:
        out.append(b"COUNT %d" % len(found))
    if found and command.has_modseq:
        out.append(b"MODSEQ %d" % _modseq(returns, modseqs))
    return b" ".join(out) + b"\r\n"


def _modseq(returns: frozenset[bytes], modseqs: array[int]) -> int:
    """Of the messages that are named, or of all (RFC 4731 §3.2)."""
    match returns & {b"MIN", b"MAX"}, bool(returns & {b"ALL", b"COUNT"}):
        case (ends, False) if len(ends) == 2:
            return max(modseqs[0], modseqs[-1])
        case (ends, False) if b"MIN" in ends:
            return modseqs[0]
        case (ends, False) if b"MAX" in ends:
            return modseqs[-1]
        case _:
            return max(modseqs)
