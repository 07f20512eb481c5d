"""APPEND: one message or many, kept byte for byte, in one unit of work.

Source: RFC 3501 §6.3.11, RFC 3502 §6.3.11 (MULTIAPPEND), RFC 4315 §3 (APPENDUID), RFC 4314 §4
(which rights and flags), RFC 5530 §3.
"""

from __future__ import annotations

from postroad.mail.errors import Fault, StateError
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.append import Append
from postroad.service.imapd import places
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.uploading import Upload
from postroad.store.values import Added, Appended

GONE = no("There is no such mailbox any more", b"TRYCREATE")


def unwilling(session: Session, name: str, place: Place | None) -> Answer | None:
    """Why nothing can be added there. TRYCREATE: the mailbox could be made (RFC 3501 §6.3.11)."""
    try:
        if place is None or not place.rights & frozenset("il"):  # or none he may know of
            places.home(session, name)
            return no("There is no such mailbox", b"TRYCREATE")
        if not place.allows("i"):
            raise places.denied(place)
    except StateError as error:
        return no(error.text, error.fault.value.encode())
    return None


async def append(session: Session, command: Append) -> Answer:
    with Upload(session) as upload:
        place = places.find(session, command.mailbox)
        answer = await upload.receive(place, unwilling(session, command.mailbox, place))
        if answer is not None:
            return answer
        place = places.find(session, command.mailbox)  # it has been a while
        answer = unwilling(session, command.mailbox, place)
        if answer is not None or place is None:
            return answer or GONE
        try:
            [done] = await session.site.database.submit(upload.operation(place))
        except StateError as error:
            if error.fault is Fault.NONEXISTENT:
                return GONE
            raise
    if session.view is not None and session.view.is_of(place.mailbox):
        session.dirty = True
    return Answer("Appended", append_uid(place, done))


def append_uid(place: Place, done: Appended | Added) -> bytes:
    """The response code; none for a mailbox that the user may not read (RFC 4315 §3)."""
    if not place.allows("r"):
        return b""
    last = done.uid + done.count - 1 if isinstance(done, Added) else done.uid
    uids = UIDSet(((done.uid, last),))
    return b"APPENDUID %d %b" % (done.uidvalidity, render.numbers(uids))
