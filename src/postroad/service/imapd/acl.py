"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS.

Identifiers are addresses of accounts of the owner's tenant, and `anyone` for all of them; with `-`
before, rights that are taken away. The owner has every right, and keeps it.
Source: RFC 4314 §2 (identifiers), §3, §4 (who may), §6 (what stays hidden).
"""

from __future__ import annotations

from postroad.mail.address import parse_address
from postroad.mail.errors import Fault, StateError
from postroad.mail.rights import ALL, ALL_RIGHTS, render_rights
from postroad.protocol.imap import render
from postroad.protocol.imap.acl import Change, DeleteACL, GetACL, ListRights, MyRights, SetACL
from postroad.service.imapd import places
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session
from postroad.store.sharing import ANYONE, SetRights
from postroad.store.values import FlagMode

EVERYONE = "anyone"
_MODES = {
    Change.REPLACE: FlagMode.REPLACE,
    Change.ADD: FlagMode.ADD,
    Change.REMOVE: FlagMode.REMOVE,
}


def _grantee(session: Session, place: Place, identifier: str) -> tuple[int, bool]:
    """Who is meant, and whether by a negative entry. Raises: StateError(NONEXISTENT)."""
    negative = identifier.startswith("-")
    name = identifier.removeprefix("-")
    if name.lower() == EVERYONE:
        return ANYONE, negative
    try:
        owner = session.site.store.owner_by_address(place.account, parse_address(name).key)
    except ValueError:
        owner = None
    if owner is None:
        raise StateError(Fault.NONEXISTENT, "There is no such account to share with")
    return owner.account, negative


async def _change(
    session: Session, place: Place, identifier: str, change: Change, rights: frozenset[str]
) -> None:
    grantee, negative = _grantee(session, place, identifier)
    await session.site.database.submit(
        SetRights(
            account=place.account,
            mailbox=place.mailbox.mailbox,
            grantee=grantee,
            negative=negative,
            mode=int(_MODES[change]),
            rights="".join(sorted(rights)),
        )
    )


async def setacl(session: Session, command: SetACL) -> Answer:
    place = places.need(session, command.mailbox, "a")
    await _change(session, place, command.identifier, command.change, command.rights)
    return Answer("Rights are set")


async def deleteacl(session: Session, command: DeleteACL) -> Answer:
    place = places.need(session, command.mailbox, "a")
    await _change(session, place, command.identifier, Change.REPLACE, frozenset())
    return Answer("Rights are removed")


async def getacl(session: Session, command: GetACL) -> Answer:
    """The owner is told first, though his rights are no entry."""
    place = places.need(session, command.mailbox, "a")
    store = session.site.store
    owner = store.owner_of(place.account)
    pairs = [] if owner is None else [_pair(owner.address, False, ALL_RIGHTS)]
    for grant in store.access(place.account, place.mailbox.mailbox):
        pairs.append(_pair(grant.address or EVERYONE, grant.negative, grant.rights))
    session.put(b"* ACL %b%b\r\n" % (session.mailbox_name(place.name), b"".join(pairs)))
    return Answer("Done")


def _pair(identifier: str, negative: bool, rights: frozenset[str]) -> bytes:
    name = ("-" if negative else "") + identifier
    return b" %b %b" % (render.astring(name.encode()), _rendered(rights))


def _rendered(rights: frozenset[str]) -> bytes:
    return render_rights(rights).encode("ascii") or b'""'


async def listrights(session: Session, command: ListRights) -> Answer:
    """No rights are tied to each other; the owner's are always there."""
    place = places.need(session, command.mailbox, "a")
    grantee, negative = _grantee(session, place, command.identifier)
    letters = render_rights(ALL)
    required, optional = "", " ".join(letters)
    if grantee == place.account:
        required, optional = ("", "") if negative else (letters, "")
    session.put(
        b"* LISTRIGHTS %b %b %b%b\r\n"
        % (
            session.mailbox_name(place.name),
            render.astring(command.written),
            required.encode("ascii") or b'""',
            b" " + optional.encode("ascii") if optional else b"",
        )
    )
    return Answer("Done")


def myrights_response(session: Session, place: Place) -> bytes:
    rights = _rendered(place.rights)
    return b"* MYRIGHTS %b %b\r\n" % (session.mailbox_name(place.name), rights)


async def myrights(session: Session, command: MyRights) -> Answer:
    """Whoever may know of the mailbox, by any right that shows it (RFC 4314 §4)."""
    place = places.need(session, command.mailbox)
    session.put(myrights_response(session, place))
    return Answer("Done")
