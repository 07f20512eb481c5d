"""REPLACE and UID REPLACE: a message goes as its successor comes, in one unit of work.

Source: RFC 8508 §3.4, §4.1 (rights), §4.3 (APPENDUID before EXPUNGE), §4.5; RFC 5530 §3.
"""

from __future__ import annotations

from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap.append import Replace
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd import places
from postroad.service.imapd.append import GONE, append_uid, unwilling
from postroad.service.imapd.expunge import READ_ONLY, highestmodseq
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.uploading import Upload
from postroad.store import units
from postroad.store.values import MessageRow

NO_MESSAGE = no("There is no such message")
EXPUNGED = no("The message is not there any more", b"EXPUNGEISSUED")


async def replace(session: Session, command: Replace) -> Answer:
    view = session.selected
    with Upload(session) as upload:
        row = _message(session, command)
        uid = 0 if row is None else row.uid
        place = places.find(session, command.mailbox)
        answer = _unwilling(session, uid) or unwilling(session, command.mailbox, place)
        same = place is not None and place.account == view.account
        answer = await upload.receive(place, answer, credit=row if same else None)
        if answer is not None:
            return answer
        place = places.find(session, command.mailbox)  # it has been a while
        answer = unwilling(session, command.mailbox, place)
        if answer is not None or place is None:
            return answer or GONE
        try:
            _, done = await session.site.database.submit(
                units.Supersede(
                    account=view.account, mailbox=view.mailbox, uid=uid, now=upload.now
                ),
                upload.operation(place),
            )
        except StateError as error:
            session.dirty = True
            if error.fault is Fault.CONFLICT:
                return EXPUNGED
            if error.fault is Fault.NONEXISTENT:
                return GONE
            raise
    code = append_uid(place, done)
    if code:
        session.put(b"* OK [%b] The new message is there\r\n" % code)
    session.dirty = True
    await session.tell_all(expunges=True)
    return Answer("Replaced", highestmodseq(session))


def _message(session: Session, command: Replace) -> MessageRow | None:
    """The message meant, fixed before others may move the numbers.

    Raises: ProtocolError for a number beyond the last.
    """
    wanted = SequenceSet(((command.message, command.message),))
    view = session.selected
    uids = view.uids_of(wanted, uid=command.uid)
    store = session.site.store
    for rows in store.messages(view.account, view.mailbox, uids):
        for row in rows:
            return row
    return None


def _unwilling(session: Session, uid: int) -> Answer | None:
    view = session.selected
    if view.read_only:
        return READ_ONLY
    if not view.may("te"):
        return no("You have no right to remove messages here", b"NOPERM")
    return None if uid else NO_MESSAGE
