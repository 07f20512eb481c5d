"""APPEND: the message flows into a draft as it comes, is summarized once, and kept byte for byte.

Source: RFC 3501 §6.3.11, RFC 4315 §3 (APPENDUID), RFC 7889 §4 (TOOBIG), RFC 7888 §4.
"""

from __future__ import annotations

import asyncio

from postroad.mail import limits
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.message.summary import Summary, summarize
from postroad.protocol.imap.append import Append
from postroad.protocol.imap.server import AppendData, AppendEnd
from postroad.service.imapd import places
from postroad.service.imapd.session import Answer, Farewell, Session, no
from postroad.store import operations
from postroad.store.contract import Draft
from postroad.store.values import Appended, BlobRef, Mailbox, content_of, unix

THREAD_OCTETS_MIN = limits.DRAFT_MEMORY_OCTETS_MAX
"""Scanning and compressing less than this takes under a millisecond: not worth a thread."""


def _unwilling(session: Session, command: Append) -> Answer | None:
    """Why the message is not taken, known before it is sent."""
    place = places.find(session, command.mailbox)
    if place is None:
        return no("There is no such mailbox", b"TRYCREATE")
    if not place.allows("i"):
        return no("You have no right to add messages here", b"NOPERM")
    if command.size > session.site.message_octets_max:
        return no("The message is too big", b"TOOBIG")
    if not command.size:
        return no("There is no message in it")
    return None


async def append(session: Session, command: Append) -> Answer:
    answer = _unwilling(session, command)
    if answer is not None:
        if not session.core.refuse_append():
            raise Farewell("The message is too big", "literal too big")
        return answer
    draft = session.site.store.blobs.draft()
    try:
        session.put(session.core.accept_append())
        answer = await _receive(session, draft)
        if answer is not None:
            return answer
        summary, blob = await _settle(draft)
    finally:
        draft.discard()
    place = places.find(session, command.mailbox)
    if place is None:
        return no("There is no such mailbox any more", b"TRYCREATE")
    appended = await _commit(session, command, place.mailbox, summary, blob)
    code = b"APPENDUID %d %d" % (appended.uidvalidity, appended.uid)
    return Answer("Appended", code)


async def _receive(session: Session, draft: Draft) -> Answer | None:
    """Writes the literal to the draft. If the disk fails the literal is still read to its end."""
    answer: Answer | None = None
    while True:
        event = await session.next_event()
        if isinstance(event, AppendEnd):
            break
        assert isinstance(event, AppendData), "the core streams nothing else now"
        if answer is not None:
            continue
        if b"\0" in event.octets:
            answer = no("A message cannot hold NUL")  # RFC 3501 §9, CHAR8
            continue
        try:
            draft.write(event.octets)
        except Unavailable:
            answer = no("Not now, please try again later", b"UNAVAILABLE")
    if answer is None and not event.whole:
        return Answer("Only one message can be appended at a time", status=b"BAD")
    return answer


def _scan(draft: Draft) -> tuple[Summary, BlobRef]:
    return summarize(draft.view()), draft.commit()


async def _settle(draft: Draft) -> tuple[Summary, BlobRef]:
    if draft.size < THREAD_OCTETS_MIN:
        return _scan(draft)
    return await asyncio.to_thread(_scan, draft)


async def _commit(
    session: Session, command: Append, mailbox: Mailbox, summary: Summary, blob: BlobRef
) -> Appended:
    site = session.site
    date = command.internal_date
    [appended] = await site.database.submit(
        operations.Append(
            account=mailbox.account,
            mailbox=mailbox.mailbox,
            content=content_of(summary, blob, b""),
            flags=int(command.flags),
            keywords=command.keywords,
            internal_date=unix(site.clock.now()) if date is None else max(date, 0),
        )
    )
    if not isinstance(appended, Appended):
        raise StateError(Fault.CANNOT, "The message was not appended")
    view = session.view
    if view is not None and view.is_of(mailbox):
        session.dirty = True
    return appended
