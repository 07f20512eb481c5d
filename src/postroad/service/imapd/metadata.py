"""GETMETADATA, SETMETADATA: annotations of mailboxes and of the server.

Of another's mailbox, /private entries are the reader's own and /shared ones need `w` to be set.
What is noted of the server is everybody's to read; clients set only their own /private part.
Source: RFC 5464 §3.2.1, §3.3 (rights), §4.2, §4.3, §4.4; RFC 6154 §4, §5.4 (/private/specialuse);
RFC 9590 §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap import render
from postroad.protocol.imap.metadata import Depth, GetMetadata, SetMetadata
from postroad.service.imapd import places
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.uses import known_use
from postroad.store.metadata import SITE, SPECIAL_USE, Annotate, Annotated

ADMIN = "/shared/admin"
_COMPUTED = frozenset((ADMIN,))
"""Entries of the server that nobody sets."""


def _may_note(place: Place) -> bool:
    """RFC 5464 §3.3."""
    return "l" in place.rights and bool(place.rights & frozenset("rswip"))


def _of_mailbox(session: Session, place: Place) -> dict[str, bytes]:
    mailbox = place.mailbox
    found = session.site.store.annotations(mailbox.account, mailbox.mailbox, session.user)
    if mailbox.special_use and mailbox.account == session.user:
        found[SPECIAL_USE] = mailbox.special_use.encode("ascii")
    return found


def _of_server(session: Session) -> dict[str, bytes]:
    """/shared/admin unless it was set: postmaster, whom every domain has (RFC 5321 §4.5.1)."""
    store = session.site.store
    assert session.account is not None, "the core lets nobody here before login"
    domain = session.account.address.rpartition("@")[2]
    found = {ADMIN: f"mailto:postmaster@{domain}".encode()}
    found.update(store.annotations(SITE, 0, SITE))
    found.update(store.annotations(session.user, 0, session.user))
    return found


def _values(
    entries: Iterable[tuple[str, bytes]], there: Mapping[str, bytes], depth: Depth
) -> list[tuple[bytes, bytes | None]]:
    """(name as asked for, value), each once; without DEPTH, None for an entry that has none."""
    found: dict[str, tuple[bytes, bytes | None]] = {}
    for entry, written in entries:
        if depth is Depth.ZERO or entry in there:
            found.setdefault(entry, (written, there.get(entry)))
        if depth is Depth.ZERO:
            continue
        for name, value in there.items():
            below = name.removeprefix(entry + "/")
            if below != name and (depth is Depth.INFINITY or "/" not in below):
                found.setdefault(name, (name.encode(), value))
    return list(found.values())


def _value(octets: bytes | None) -> bytes:
    if octets is not None and b"\0" in octets:
        return b"~{%d}\r\n%b" % (len(octets), octets)
    return render.nstring(octets)


def _response(session: Session, name: str, values: list[tuple[bytes, bytes | None]]) -> bytes:
    pairs = (b"%b %b" % (render.astring(entry), _value(value)) for entry, value in values)
    shown = session.mailbox_name(name) if name else b'""'
    return b"* METADATA %b (%b)\r\n" % (shown, b" ".join(pairs))


def listed_metadata(
    session: Session, place: Place, entries: tuple[tuple[str, bytes], ...]
) -> list[bytes]:
    """What LIST returns of a mailbox; nothing where the user may not read it (RFC 9590 §3)."""
    if not _may_note(place):
        return []
    values = _values(entries, _of_mailbox(session, place), Depth.ZERO)
    return [_response(session, place.name, values)]


def _noted(session: Session, name: str) -> Place:
    """Raises: StateError."""
    place = places.need(session, name)
    if not _may_note(place):
        raise places.denied(place)
    return place


async def getmetadata(session: Session, command: GetMetadata) -> Answer:
    if command.mailbox:
        place = _noted(session, command.mailbox)
        name, there = place.name, _of_mailbox(session, place)
    else:
        name, there = "", _of_server(session)
    values = _values(command.entries, there, command.depth)
    longest = 0
    if command.maxsize >= 0:
        sizes = [len(value) for _, value in values if value is not None]
        longest = max((size for size in sizes if size > command.maxsize), default=0)
        values = [pair for pair in values if len(pair[1] or b"") <= command.maxsize]
    if values:
        session.put(_response(session, name, values))
    code = b"METADATA LONGENTRIES %d" % longest if longest else b""
    return Answer("Done", code)


def _checked_use(value: bytes | None) -> bytes | None:
    """The use as it is spelt. Raises: StateError."""
    if not value:
        return None
    found = known_use(value.decode("ascii", "replace"))
    if found is None:
        raise StateError(Fault.CANNOT, "A mailbox cannot have this use")
    return found.encode("ascii")


def _unsettable(command: SetMetadata, place: Place | None, user: int) -> Answer | None:
    """Why the values cannot be set, known from the command and the rights alone."""
    for entry, value in command.values:
        if value is not None and len(value) > limits.ANNOTATION_OCTETS_MAX:
            code = b"METADATA MAXSIZE %d" % limits.ANNOTATION_OCTETS_MAX
            return no(f"The value of {entry} is too long", code)
        is_shared = entry.startswith("/shared/")
        if place is None and is_shared:
            return no("This is set by who administers the server", b"NOPERM")
        if place is not None and is_shared and not place.allows("w"):
            return no("You have no right to change this here", b"NOPERM")
        if place is not None and entry == SPECIAL_USE and place.account != user:
            return no("The use of a mailbox is its owner's to set", b"USEATTR")
    return None


async def setmetadata(session: Session, command: SetMetadata) -> Answer:
    """All or none (RFC 5464 §4.3)."""
    place = _noted(session, command.mailbox) if command.mailbox else None
    refused = _unsettable(command, place, session.user)
    if refused is not None:
        return refused
    try:
        entries = [
            (entry, _checked_use(value) if entry == SPECIAL_USE and place is not None else value)
            for entry, value in command.values
        ]
    except StateError as error:
        return no(error.text, b"USEATTR")
    operation = Annotate(
        account=session.user if place is None else place.account,
        mailbox=0 if place is None else place.mailbox.mailbox,
        reader=session.user,
        entries=entries,
    )
    try:
        [done] = await session.site.database.submit(operation)
    except StateError as error:
        if error.fault is Fault.LIMIT:
            return no(error.text, b"METADATA TOOMANY")
        raise
    assert isinstance(done, Annotated), "the operation says so"
    if done.lost:
        session.put(_response(session, done.lost, [(SPECIAL_USE.encode(), None)]))
    return Answer("Done")
