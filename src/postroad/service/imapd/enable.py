"""ENABLE: what changes for the whole session once the client asks for it.

Source: RFC 5161 §3.1; RFC 7162 §3.1 (the selected mailbox's HIGHESTMODSEQ is told), §3.2.3
(QRESYNC brings CONDSTORE); RFC 9051 §6.3.1 (IMAP4rev2), RFC 9755 §3 and RFC 6855 §3 (UTF8=ACCEPT),
RFC 9586 §3.1 (UIDONLY), RFC 5464 §4.1 (METADATA: changes by others are told).
"""

from __future__ import annotations

from postroad.protocol.imap.commands import Enable
from postroad.service.imapd.interest import ANNOTATIONS
from postroad.service.imapd.session import Answer, Session

_ENABLABLE = {
    b"CONDSTORE": b"CONDSTORE",
    b"QRESYNC": b"QRESYNC",
    b"IMAP4REV2": b"IMAP4rev2",
    b"UTF8=ACCEPT": b"UTF8=ACCEPT",
    b"UIDONLY": b"UIDONLY",
    b"METADATA": b"METADATA",
}
"""By the name in capitals, as they are spelt. Others are passed over (RFC 5161 §3.1)."""


async def enable(session: Session, command: Enable) -> Answer:
    """The response names what was asked for and is on now, if it was before too: a name left out
    would say that it cannot be had, to a client whose SELECT has switched CONDSTORE on."""
    asked = [name for name in dict.fromkeys(command.names) if name in _ENABLABLE]
    fresh = [name for name in asked if name not in session.enabled]
    session.put(b" ".join([b"* ENABLED", *(_ENABLABLE[name] for name in asked)]), b"\r\n")
    if b"CONDSTORE" in fresh or b"QRESYNC" in fresh:
        enable_condstore(session)
    session.enabled.update(fresh)
    if b"METADATA" in fresh and session.watch is None:
        await _hear_of_annotations(session)
    return Answer("Done")


async def _hear_of_annotations(session: Session) -> None:
    """From here on; a NOTIFY that comes later says anew what is told."""
    from postroad.service.imapd.watch import Watch  # it fetches, and FETCH enables CONDSTORE

    watch = Watch(ANNOTATIONS)
    await watch.begin(session)
    session.watch_with(watch)


def enable_condstore(session: Session) -> None:
    """From the first command that shows the client knows mod-sequences (RFC 7162 §3.1)."""
    if session.condstore:
        return
    session.enabled.add(b"CONDSTORE")
    if session.view is not None:
        highest = max(session.view.settled, 1)
        session.put(b"* OK [HIGHESTMODSEQ %d] Mod-sequences are told from now on\r\n" % highest)
