"""THREAD: what SEARCH finds, by who answers whom.

Source: RFC 5256 §3 (THREAD), §4 (the response).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from postroad.message import threading
from postroad.protocol.imap.thread import Algorithm, Thread
from postroad.service.imapd.matching import Finder
from postroad.service.imapd.ordering import read
from postroad.service.imapd.results import numbers_of
from postroad.service.imapd.search import answer, prepare
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.view import View
from postroad.service.remembered import Remembered, set_key
from postroad.store.contract import Store
from postroad.store.search.contract import Facet

_ALGORITHMS = {
    Algorithm.ORDEREDSUBJECT: (threading.ordered_subject, Facet.SENT | Facet.SUBJECT),
    Algorithm.REFERENCES: (threading.references, Facet.SENT | Facet.SUBJECT | Facet.THREAD),
    Algorithm.REFS: (threading.refs, Facet.SENT | Facet.THREAD),
}


async def thread(session: Session, command: Thread) -> Answer:
    view = session.selected
    criteria = prepare(session, command.criteria, None)
    if isinstance(criteria, Answer):
        return criteria
    store = session.site.store
    finder = Finder(view, store, session.site.clock.now(), session.progress)
    found = await finder.find(criteria.key)
    if found:
        threads = await asyncio.to_thread(
            _threads, store, session.site.remembered, view, found, command
        )
        session.put(b"* THREAD %b\r\n" % threads if threads else b"* THREAD\r\n")
    else:
        session.put(b"* THREAD\r\n")
    return answer(session, view, "Threaded", uid=command.uid)


def _threads(
    store: Store, remembered: Remembered, view: View, found: Sequence[int], command: Thread
) -> bytes:
    """What numbers messages have goes into the key: it changes as others are expunged."""
    called = numbers_of(view, found, uid=command.uid, is_sorted=False)
    what = (view.account, view.mailbox, view.uidvalidity, command.algorithm, set_key(0, called))
    key = set_key(what, found)
    threads = remembered.get(key)
    if threads is None:
        threads = _worked_out(store, view, found, command)
        remembered.put(key, threads)
    return threads


def _worked_out(store: Store, view: View, found: Sequence[int], command: Thread) -> bytes:
    algorithm, facets = _ALGORITHMS[command.algorithm]
    digests = read(store, view, found, facets)
    uids = [digest.uid for digest in digests]
    numbers = numbers_of(view, uids, uid=command.uid, is_sorted=False)
    return b"".join(threading.render_threads(algorithm(digests), numbers))
