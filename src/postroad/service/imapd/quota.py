"""GETQUOTA, GETQUOTAROOT, SETQUOTA: one quota root for each account, named by its address.

Source: RFC 9208 §3.2 (roots), §4.1, §4.2, §5 (resources), §6 (rights), §8 (whose use is told).
"""

from __future__ import annotations

from postroad.mail.errors import Fault, StateError
from postroad.protocol.imap import render
from postroad.protocol.imap.quota import GetQuota, GetQuotaRoot, SetQuota
from postroad.service.imapd import places
from postroad.service.imapd.session import Answer, Session, no
from postroad.store import operations
from postroad.store.quota import NO_LIMIT, Quota
from postroad.store.shared_reading import Owner

STORAGE_UNIT = 1024
"""Octets (RFC 9208 §5.1)."""
_RESOURCES = (b"STORAGE", b"MESSAGE", b"MAILBOX")


def _no_root() -> StateError:
    return StateError(Fault.NONEXISTENT, "There is no such quota root")


def _owner(session: Session, root: str) -> Owner:
    """Whose root it is: one's own, of who lets one read a mailbox, or of anybody to whom an
    administrator sets quotas. Raises: StateError(NONEXISTENT)."""
    store = session.site.store
    owner = store.owner_by_address(session.user, root)
    if owner is None:
        raise _no_root()
    if owner.account == session.user or store.is_administrator(session.user):
        return owner
    for shared in store.shared(session.user):
        if shared.owner.account == owner.account and "r" in shared.rights:
            return owner
    raise _no_root()


def _response(session: Session, owner: Owner) -> bytes:
    quota = session.site.store.quota(owner.account)
    if quota is None:
        raise _no_root()
    root = render.astring(owner.address.encode())
    return b"* QUOTA %b (%b)\r\n" % (root, b" ".join(_limited(quota)))


def _limited(quota: Quota) -> list[bytes]:
    """What has a limit; the rest is not named (RFC 9208 §4.2.1)."""
    found = []
    if quota.octets_max is not None:
        used = -(-quota.octets // STORAGE_UNIT)
        found.append(b"STORAGE %d %d" % (used, quota.octets_max // STORAGE_UNIT))
    if quota.messages_max is not None:
        found.append(b"MESSAGE %d %d" % (quota.messages, quota.messages_max))
    if quota.mailboxes_max is not None:
        found.append(b"MAILBOX %d %d" % (quota.mailboxes, quota.mailboxes_max))
    return found


async def getquota(session: Session, command: GetQuota) -> Answer:
    session.put(_response(session, _owner(session, command.root)))
    return Answer("Done")


async def getquotaroot(session: Session, command: GetQuotaRoot) -> Answer:
    """The mailbox need not exist (RFC 9208 §4.1.2); of another's one must be able to read it."""
    name = command.mailbox
    place = places.find_with(session, name, "r")
    if place is None:
        account, _ = places.home(session, name)
    else:
        account, name = place.account, place.name
    owner = session.site.store.owner_of(account)
    if owner is None:
        raise _no_root()
    root = render.astring(owner.address.encode())
    session.put(b"* QUOTAROOT %b %b\r\n" % (session.mailbox_name(name), root))
    session.put(_response(session, owner))
    return Answer("Done")


async def setquota(session: Session, command: SetQuota) -> Answer:
    """For administrators of the tenant. What is not named has no limit (RFC 9208 §4.1.3)."""
    if not session.site.store.is_administrator(session.user):
        return no("Quotas are set by who administers the server", b"NOPERM")
    owner = _owner(session, command.root)
    limits = dict(command.limits)
    unknown = [name for name in limits if name not in _RESOURCES]
    if unknown:
        return no(f"There is no quota on {unknown[0].decode()}", b"CANNOT")
    storage = limits.get(b"STORAGE", NO_LIMIT)
    await session.site.database.submit(
        operations.SetQuota(
            account=owner.account,
            octets_max=storage * STORAGE_UNIT if storage >= 0 else NO_LIMIT,
            messages_max=limits.get(b"MESSAGE", NO_LIMIT),
            mailboxes_max=limits.get(b"MAILBOX", NO_LIMIT),
        )
    )
    session.put(_response(session, owner))
    return Answer("The quota is set")
