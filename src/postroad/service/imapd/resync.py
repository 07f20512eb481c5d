"""SELECT (QRESYNC ...): what changed since the client was last here, and nothing else.

Source: RFC 7162 §3.2.5, §3.2.10.1.
"""

from __future__ import annotations

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap.mailboxes import Resync
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd.personal import as_read
from postroad.service.imapd.session import Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View, meet, vanished_lines
from postroad.store.selected import UID_MAX

PAGE = 500
PAIRS_MAX = 10_000
"""Pairs of number and UID that are compared before the rest is passed over: clients send some
twenty, and what they save is only the length of an answer."""


async def resync(session: Session, view: View, given: Resync) -> None:
    """Puts VANISHED (EARLIER), then FETCH for each message that changed."""
    if given.modseq >= view.modseq:
        return
    store = session.site.store
    known = UIDSet(((1, UID_MAX),)) if given.known is None else given.known.resolve(0)
    gone = store.vanished(view.account, view.mailbox, given.modseq, view.modseq)
    told = UIDSet(tuple(meet(gone, view.known(known))))
    if told and given.matches is not None:
        await view.number()
        floor = matched(view, *given.matches)
        told = UIDSet(tuple(meet(told, UIDSet(((floor + 1, UID_MAX),)))))
    session.put(*vanished_lines(told, b"(EARLIER) "))
    manner = session.manner
    after, below = (given.modseq, UID_MAX), view.modseq + 1
    while True:
        rows = store.flag_news(view.account, view.mailbox, after, below, view.last, PAGE)
        if not rows:
            return
        after = (rows[-1].modseq, rows[-1].uid)
        full = len(rows) == PAGE
        rows = sorted((row for row in rows if row.uid in known), key=lambda row: row.uid)
        if rows:
            if not manner.uid_only:
                await view.number()
            rows = as_read(store, view, rows)
            session.put(*view.new_keywords(rows))
            session.put(*view.flag_lines(rows, manner))
        if not full:
            return
        if session.is_full:
            await session.flush()
        await turn()


def matched(view: View, numbers: SequenceSet, uids: SequenceSet) -> int:
    """The highest UID that the client has under the number that it has here; 0: none.

    Up to it the client knows what was expunged (RFC 7162 §3.2.5.2).
    """
    left = list(numbers.resolve(0).ranges)
    right = list(uids.resolve(0).ranges)
    mine = view.uids
    pairs = 0
    while left and right:
        (number, number_to), (uid, uid_to) = left.pop(), right.pop()
        length = min(number_to - number, uid_to - uid) + 1
        if number_to - number >= length:
            left.append((number, number_to - length))
            number = number_to - length + 1
        if uid_to - uid >= length:
            right.append((uid, uid_to - length))
            uid = uid_to - length + 1
        for step in range(min(length, view.exists - number + 1) - 1, -1, -1):
            if mine[number + step - 1] == uid + step:
                return uid + step
            pairs += 1
            if pairs >= PAIRS_MAX:
                return 0
    return 0
