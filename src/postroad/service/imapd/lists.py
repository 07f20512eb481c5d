"""LIST and LSUB: the tree of mailboxes, and of names that only have children.

Source: RFC 3501 §6.3.8-9, §7.2.2-3; RFC 4314 §4 (`l`); RFC 5258 §3, §4; RFC 5819 §2; RFC 6154
§2; RFC 8440 §3 (MYRIGHTS); RFC 9051 §6.3.9.7 (OLDNAME); RFC 9590 §3 (METADATA).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from postroad.protocol.imap.lists import List, LSub, NamePattern
from postroad.protocol.imap.names import SEPARATOR
from postroad.service.imapd import places
from postroad.service.imapd.acl import myrights_response
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.metadata import listed_metadata
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.status import status_of
from postroad.service.imapd.turns import turn

NAMES_PER_TURN = 200
THREAD_MAILBOXES_MIN = 300
"""An account with more is listed on a thread: reading them takes more than a millisecond."""
_CRITERIA_TOLD = (b"SUBSCRIBED", b"SPECIAL-USE")
_CRITERIA = frozenset(_CRITERIA_TOLD)
"""Selection options that leave names out; REMOTE would add some (RFC 5258 §3.1), there are none."""


@dataclass(slots=True)
class _Name:
    """One name of the tree. place: None when only its children or a subscription exist.

    use: of one's own mailboxes only; that of another's Sent is nothing to me.
    """

    place: Place | None = None
    use: str = ""
    subscribed: bool = False
    has_children: bool = False
    subscribed_below: bool = False


def _ancestors(name: str) -> list[str]:
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]


def _tree(session: Session) -> dict[str, _Name]:
    """Every mailbox, subscription, and level above one of them; by name, INBOX first."""
    tree: dict[str, _Name] = {}
    for place in places.places(session):
        use = place.mailbox.special_use if place.account == session.user else ""
        here = tree.setdefault(place.name, _Name())
        here.place, here.use = place, use
        for above in _ancestors(place.name):
            tree.setdefault(above, _Name()).has_children = True
    for name in places.subscriptions(session):
        tree.setdefault(name, _Name()).subscribed = True
        for above in _ancestors(name):
            tree.setdefault(above, _Name()).subscribed_below = True
    return dict(sorted(tree.items(), key=lambda item: (item[0] != "INBOX", item[0])))


async def _grown(session: Session) -> dict[str, _Name]:
    store = session.site.store
    quota = store.quota(session.user)
    own = 0 if quota is None else quota.mailboxes
    if own > THREAD_MAILBOXES_MIN or store.has_many_shared(session.user, THREAD_MAILBOXES_MIN):
        return await asyncio.to_thread(_tree, session)
    return _tree(session)


def _line(
    session: Session, kind: bytes, attributes: list[bytes], name: str, extended: bytes = b""
) -> bytes:
    return b'* %b (%b) "/" %b%b\r\n' % (
        kind,
        b" ".join(attributes),
        session.mailbox_name(name),
        extended,
    )


async def list_(session: Session, command: List) -> Answer:
    if command.patterns == ("",) and not command.extended:
        session.put(b'* LIST (\\Noselect) "/" ""\r\n')  # RFC 3501 §6.3.8
        return Answer("Done")
    if b"HIGHESTMODSEQ" in command.status:
        enable_condstore(session)
    patterns = [NamePattern(command.reference, text) for text in command.patterns if text]
    tree = await _grown(session)
    below = await _below(command, tree, patterns)
    per_turn = NAMES_PER_TURN // 10 if command.status or command.metadata else NAMES_PER_TURN
    for count, (name, node) in enumerate(tree.items(), 1):
        if not count % per_turn:
            await turn()
        selected = _is_selected(command, node)
        if not (selected or name in below) or not _matches(patterns, name):
            continue
        attributes = _attributes(command, node, extended=command.extended or session.rev2)
        session.put(_line(session, b"LIST", attributes, name, below.get(name, b"")))
        if node.place is not None and selected:
            await _returned(session, command, node.place)
        if session.is_full:
            await session.flush()
    return Answer("Done")


async def _returned(session: Session, command: List, place: Place) -> None:
    """What was asked for beside the names, of mailboxes that exist; what the user may not know
    is left out."""
    if b"MYRIGHTS" in command.returns:
        session.put(myrights_response(session, place))
    if command.status and place.allows("r"):
        session.put(await status_of(session, place, command.status))
    if command.metadata:
        session.put(*listed_metadata(session, place, command.metadata))


def _matches(patterns: list[NamePattern], name: str) -> bool:
    return any(pattern.matches(name) for pattern in patterns)


def _is_selected(command: List, node: _Name) -> bool:
    """Whether the name meets every criterion (RFC 5258 §3)."""
    wanted = command.selections
    if not wanted & _CRITERIA:
        return node.place is not None or node.has_children
    return (b"SUBSCRIBED" not in wanted or node.subscribed) and (
        b"SPECIAL-USE" not in wanted or bool(node.use)
    )


async def _below(
    command: List, tree: dict[str, _Name], patterns: list[NamePattern]
) -> dict[str, bytes]:
    """Names above one that is selected, with CHILDINFO. Of those that are not selected themselves,
    only where what is below is not told anyway (RFC 5258 §3.5)."""
    if b"RECURSIVEMATCH" not in command.selections:
        return {}
    criteria = (b'"%b"' % word for word in _CRITERIA_TOLD if word in command.selections)
    info = b' ("CHILDINFO" (%b))' % b" ".join(criteria)
    found: dict[str, bytes] = {}
    for count, (name, node) in enumerate(tree.items(), 1):
        if not count % NAMES_PER_TURN:
            await turn()
        if not _is_selected(command, node):
            continue
        told = _matches(patterns, name)
        for above in _ancestors(name):
            if not told or _is_selected(command, tree[above]):
                found[above] = info
    return found


def _attributes(command: List, node: _Name, *, extended: bool) -> list[bytes]:
    """Children and uses are told unasked too: RFC 3348 §3, RFC 6154 §2 allow it."""
    attributes = []
    if node.place is None:
        attributes.append(b"\\NonExistent" if extended else b"\\Noselect")
    attributes.append(b"\\HasChildren" if node.has_children else b"\\HasNoChildren")
    asked = b"SUBSCRIBED" in command.selections or b"SUBSCRIBED" in command.returns
    if asked and node.subscribed:
        attributes.append(b"\\Subscribed")
    if node.use:
        attributes.append(node.use.encode("ascii"))
    return attributes


def renamed(session: Session, name: str, old: str) -> bytes:
    """That a mailbox which the client calls `old` is `name` now (RFC 9051 §6.3.9.7)."""
    extended = b' ("OLDNAME" (%b))' % session.mailbox_name(old)
    return _line(session, b"LIST", [], name, extended)


async def lsub(session: Session, command: LSub) -> Answer:
    """With `%`, a name that is not subscribed but has subscriptions below is \\Noselect."""
    if not command.pattern:
        session.put(b'* LSUB (\\Noselect) "/" ""\r\n')
        return Answer("Done")
    pattern = NamePattern(command.reference, command.pattern)
    for count, (name, node) in enumerate((await _grown(session)).items(), 1):
        if not count % NAMES_PER_TURN:
            await turn()
        implied = node.subscribed_below and command.pattern.endswith("%")
        if not (node.subscribed or implied) or not pattern.matches(name):
            continue
        session.put(_line(session, b"LSUB", [] if node.subscribed else [b"\\Noselect"], name))
        if session.is_full:
            await session.flush()
    return Answer("Done")
