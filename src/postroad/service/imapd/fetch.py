"""FETCH: stored octets, written slice by slice.

Which messages are meant is decided here; `reading` writes what the table holds, column by column
for a slice of messages, `sections` what needs the message itself. A slow reader costs one buffer.
Source: RFC 3501 §6.4.5, §7.4.2; RFC 7162 §3.1.4, §3.2.6; RFC 5530 §3 (EXPUNGEISSUED); RFC 9394
§3.3-3.4; RFC 9586.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap.fetch import Fetch, Item
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.reading import Reader
from postroad.service.imapd.sections import write_sections
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View, meet, vanished_lines

CHANGED_SET = 1000
"""UIDs from which on a CHANGEDSINCE asks first what changed at all."""
CHANGED_MAX = 100_000
"""Changed UIDs that are collected, some 6 MB; if there are more, all messages are looked at."""

UID_REQUIRED = Answer("Only UIDs are understood now", b"UIDREQUIRED", b"BAD", False)


async def fetch(session: Session, command: Fetch) -> Answer:
    view = session.selected
    if session.uid_only and not command.uid:
        return UID_REQUIRED
    if command.vanished and not session.qresync:
        return Answer("ENABLE QRESYNC comes before VANISHED", status=b"BAD", expunges=False)
    if Item.MODSEQ in command.items:
        enable_condstore(session)
    if not session.uid_only or command.partial is not None:
        await view.number()
    uids = view.uids_of(command.messages, uid=command.uid)
    if command.partial is not None:
        uids = part_of(view, uids, command.partial)
    if command.vanished:
        session.put(*_earlier(session, view, command.messages, command.changedsince))
    wanted = uids
    if command.changedsince >= 0:
        wanted = await changed(session, view, uids, command.changedsince)
    reader = Reader(session, view, command)
    failed = ""
    if command.sections:
        failed = await write_sections(reader, wanted)
    elif reader.is_plain:
        await reader.plain(wanted)
    else:
        await reader.table(wanted)
    expunges = command.uid and not session.core.has_pending
    if failed == "UNKNOWN-CTE":
        text = "The transfer encoding of a part is not known"
        return Answer(text, b"UNKNOWN-CTE", b"NO", expunges)
    if failed:
        return Answer("Some messages cannot be read now", b"UNAVAILABLE", b"NO", expunges)
    code = b"EXPUNGEISSUED" if not command.uid and view.misses(uids) else b""
    return Answer("Fetched", code, expunges=expunges)


def part_of(view: View, wanted: UIDSet, places: tuple[int, int]) -> UIDSet:
    """Those of the set that stand at these places among the messages that there are.

    Source: RFC 9394 §3.3.
    """
    uids = view.uids
    first, last = places
    if first < 0:
        total = view.count(wanted)
        first, last = total + last + 1, total + first + 1
    first = max(first, 1)
    found = []
    before = 0
    for low, high in wanted.ranges:
        start, stop = bisect_left(uids, low), bisect_right(uids, high)
        here, there = max(first - before, 1), min(last - before, stop - start)
        if here <= there:
            found.append((uids[start + here - 1], uids[start + there - 1]))
        before += stop - start
        if before >= last:
            break
    return UIDSet(tuple(found))


def _earlier(session: Session, view: View, messages: SequenceSet, since: int) -> list[bytes]:
    """VANISHED (EARLIER); what the client still has a number for is told without EARLIER, later.

    Source: RFC 7162 §3.2.6, §3.2.10.
    """
    gone = session.site.store.vanished(view.account, view.mailbox, since, view.modseq)
    wanted = view.known(messages.resolve(view.last)) if messages.ranges else view.saved
    asked = UIDSet(tuple(meet(gone, wanted)))
    return vanished_lines(without(asked, view.vanished), b"(EARLIER) ")


def without(found: UIDSet, other: UIDSet | None) -> UIDSet:
    """What is in the first set only."""
    if other is None or not found:
        return found
    out = []
    gone = other.ranges
    at = 0
    for low, high in found.ranges:
        while at < len(gone) and gone[at][1] < low:
            at += 1
        here = at
        while here < len(gone) and gone[here][0] <= high:
            if gone[here][0] > low:
                out.append((low, gone[here][0] - 1))
            low = gone[here][1] + 1
            here += 1
        if low <= high:
            out.append((low, high))
    return UIDSet(tuple(out))


async def changed(session: Session, view: View, uids: UIDSet, since: int) -> UIDSet:
    """Those of the set that may have changed: costs what changed, not what there is."""
    if len(uids) <= CHANGED_SET:
        return uids
    found: set[int] = set()
    pages = session.site.store.changed_uids(view.account, view.mailbox, since, view.last)
    for page in pages:
        found.update(page)
        if len(found) > CHANGED_MAX:
            return uids
        await turn()
    return UIDSet(tuple(meet(UIDSet.of(found), uids)))
