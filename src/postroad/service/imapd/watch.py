"""What a session hears beyond its selected mailbox, and how its client is told.

Notices only say where to look; what there is to tell is the difference between what the store has
and what the client was last told. What happened twice before it could be told is told once, hence
a slow client costs no more, and nothing is queued.
Source: RFC 5465 §3.1, §5, §6; RFC 5464 §4.4.2 (unsolicited METADATA).
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from postroad.database.contract import Notice, Topic, Unsubscribe
from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.append import Append, Replace
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.fetch import Fetch, Item
from postroad.protocol.imap.mailboxes import Create, Delete, Rename, Subscribe
from postroad.protocol.imap.messages import Copy
from postroad.protocol.imap.metadata import SetMetadata
from postroad.protocol.imap.names import SEPARATOR
from postroad.protocol.imap.notify import OF_MESSAGES, Wanted, Whose
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd import places
from postroad.service.imapd.answers import Answer
from postroad.service.imapd.counters import Counters, account_of, key_of, mailbox_of
from postroad.service.imapd.fetch import fetch
from postroad.service.imapd.interest import NOTHING, Interest
from postroad.service.imapd.namechanges import Known, NameChange, Tree, name_changes
from postroad.service.imapd.places import Place
from postroad.service.imapd.status import status_response
from postroad.service.imapd.turns import turn
from postroad.store.metadata import EVERYBODY, SITE, noted
from postroad.store.values import Mailbox

if TYPE_CHECKING:
    from postroad.service.imapd.session import Session

WATCHED_MAX = 5000
"""Mailboxes whose messages one session watches: 350 KB. Past it, NOTIFICATIONOVERFLOW."""
NOTED_MAX = 1000
"""Changed annotations that wait to be told; past it, NOTIFICATIONOVERFLOW."""
THREAD_MAILBOXES_MIN = 300
"""More mailboxes are read on a thread: that takes more than a millisecond."""
PER_TURN = 20
"""Mailboxes looked at between two looks at the loop."""


_ADDED = re.compile(rb"(?:APPENDUID \d+|COPYUID \d+ [\d:,]+) ([\d:,]+)")


class Overflow(Exception):
    """More is asked for than a session may watch."""


class Watch:
    """Lives as long as what it was made for holds. `interest` never changes."""

    __slots__ = (
        "_counters", "_dirty", "_known", "_noted", "_overflown", "_own_names", "_own_new",
        "_own_notes", "_tree_changed", "_unfetched", "_unsubscribe", "interest",
    )  # fmt: skip

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self._counters = Counters()
        """Of the mailboxes whose messages are watched."""
        self._dirty: set[int] = set()
        """Those of them where something has happened."""
        self._known: Known | None = None
        """Names, when their changes are watched."""
        self._tree_changed = False
        self._own_names: set[str] = set()
        self._noted: dict[tuple[int, int], dict[str, None]] = {}
        """Annotations that changed: by owner and mailbox."""
        self._own_notes: set[tuple[int, int, str]] = set()
        self._own_new: set[int] = set()
        """UIDs that the client itself put into its selected mailbox."""
        self._overflown = False
        self._unfetched = (0, 0)
        """New messages of the selected mailbox that the client is still to get."""
        self._unsubscribe: dict[int, Unsubscribe] = {}

    # -- the beginning and the end ------------------------------------------------------------

    async def begin(self, session: Session) -> tuple[list[Place], Tree]:
        """From here on everything is seen. Returns what is watched for messages, and all names.

        Raises: Overflow.
        """
        if self.interest.wants(Wanted.SERVER_METADATA_CHANGE):
            self._hear(session, EVERYBODY)
        watched, tree = await self._look(session)
        for place in watched:
            self._counters.update(place.mailbox)
        return watched, tree

    def end(self) -> None:
        for unsubscribe in self._unsubscribe.values():
            unsubscribe()
        self._unsubscribe.clear()

    def _hear(self, session: Session, account: int) -> None:
        """Notices of the session's own account it hears anyway."""
        if account not in self._unsubscribe and account != session.user:
            subscribe = session.site.database.subscribe
            self._unsubscribe[account] = subscribe(account, session.notice)

    async def _look(self, session: Session) -> tuple[list[Place], Tree]:
        """Which mailboxes are watched, now. New ones begin as empty ones. Raises: Overflow."""
        if not self.interest.others:
            return [], Tree([], ())
        quota = session.site.store.quota(session.user)
        if quota is not None and quota.mailboxes > THREAD_MAILBOXES_MIN:
            found = await asyncio.to_thread(places.places, session)
        else:
            found = places.places(session)
        subscribed = places.subscriptions(session)
        tree = Tree(found, subscribed)
        watched = []
        for place in found:
            events = self.events(session, tree, place.name)
            if events & OF_MESSAGES and place.allows("lr"):
                watched.append(place)
            if events:
                self._hear(session, place.account)
        if len(watched) > WATCHED_MAX:
            raise Overflow
        counters = Counters(key_of(place.account, place.mailbox.mailbox) for place in watched)
        counters.take_over(self._counters)
        self._counters = counters
        if self.interest.wants(Wanted.MAILBOX_NAME, Wanted.SUBSCRIPTION_CHANGE):
            after = Known(found, subscribed)
            before, self._known = self._known or after, after
            own, self._own_names = self._own_names, set()
            self._tell_names(session, tree, name_changes(before, after, own))
        return watched, tree

    def events(self, session: Session, tree: Tree, name: str) -> frozenset[Wanted]:
        own = tree.is_own(name, session.user)
        return self.interest.events(name, own=own, subscribed=tree.is_subscribed(name))

    # -- hearing ------------------------------------------------------------------------------

    def hears(self, notice: Notice) -> None:
        """On the loop, whenever something was committed: marks where to look."""
        match notice.topic:
            case Topic.MESSAGES if not notice.mailbox:
                self._dirty.update(self._counters)
            case Topic.MESSAGES:
                key = key_of(notice.account, notice.mailbox)
                if key in self._counters:
                    self._dirty.add(key)
            case Topic.MAILBOXES | Topic.RIGHTS:
                self._tree_changed = self._tree_changed or bool(self.interest.others)
            case Topic.METADATA if notice.subject:
                self._note(notice)
            case _:
                pass

    def _note(self, notice: Notice) -> None:
        told = noted(notice)
        event = Wanted.MAILBOX_METADATA_CHANGE if told.mailbox else Wanted.SERVER_METADATA_CHANGE
        if not self.interest.wants(event):
            return
        here = self._noted.setdefault((told.owner, told.mailbox), {})
        here.update(dict.fromkeys(told.entries))
        if sum(map(len, self._noted.values())) > NOTED_MAX:
            self._noted.clear()
            self._overflown = True

    def arrived(self, low: int, high: int) -> None:
        """The client was told that messages with these UIDs are in its selected mailbox."""
        if self.interest.new is not None and low <= high:
            self._unfetched = (self._unfetched[0] or low, high)

    @property
    def has_news(self) -> bool:
        return (
            bool(self._dirty or self._tree_changed or self._noted or self._unfetched[0])
            or self._overflown
        )

    # -- the selected mailbox -----------------------------------------------------------------

    @property
    def tells_selected(self) -> bool:
        """Else the client keeps the picture it has: NOTIFY as a snapshot (RFC 5465 §5)."""
        return self.interest.selected is None or bool(self.interest.selected)

    @property
    def tells_flags(self) -> bool:
        return self.interest.selected is None or Wanted.FLAG_CHANGE in self.interest.selected

    @property
    def tells_expunges(self) -> bool:
        """At once, whatever the command: this client does not use sequence numbers (§5.3)."""
        return bool(self.interest.selected) and not self.interest.delayed

    # -- what the client did itself -----------------------------------------------------------

    def did(self, session: Session, command: Command, answer: Answer) -> None:
        """What the client has done itself it need not be told (RFC 5465 §5)."""
        if answer.status != b"OK":
            return
        match command:
            case Create() | Delete() | Subscribe():
                self.did_names(command.mailbox.removesuffix(SEPARATOR))
            case Rename():
                self.did_names(command.mailbox.removesuffix(SEPARATOR), command.to)
            case SetMetadata():
                place = places.find(session, command.mailbox) if command.mailbox else None
                owner, mailbox = (SITE, 0)
                if place is not None:
                    owner, mailbox = place.account, place.mailbox.mailbox
                self._own_notes = {(owner, mailbox, entry) for entry, _ in command.values}
            case Append() | Copy() | Replace():
                found = _ADDED.match(answer.code)
                place = places.find(session, command.mailbox) if found else None
                if found is not None and place is not None:
                    self.did_add(session, place.mailbox, UIDSet.parse(found[1].decode()))
            case _:
                pass

    def did_names(self, *names: str) -> None:
        """The client changed these names itself, and what had to be made above them."""
        for name in names:
            while name:
                self._own_names.add(name)
                name = name.rpartition(SEPARATOR)[0]

    def did_add(self, session: Session, mailbox: Mailbox, uids: UIDSet) -> None:
        """The client itself put these messages there."""
        view = session.view
        if view is not None and view.is_of(mailbox):
            if self.interest.new is not None:
                self._own_new.update(uids)
        elif key_of(mailbox.account, mailbox.mailbox) in self._counters:
            self._counters.added(mailbox, len(uids), uids.ranges[-1][1] + 1)

    # -- telling ------------------------------------------------------------------------------

    async def tell(self, session: Session) -> None:
        """Writes all that there is; what cannot be followed any more ends with all of NOTIFY.

        Raises: Unavailable; what was not told is still marked.
        """
        try:
            await self._tell(session)
        except Overflow:
            session.put(b"* OK [NOTIFICATIONOVERFLOW] It is too much to tell: you hear no more\r\n")
            session.watch_with(Watch(NOTHING))

    async def _tell(self, session: Session) -> None:
        if self._overflown:
            raise Overflow
        if self._unfetched[0]:
            await self._fetch_new(session)
        if self._tree_changed:
            self._tree_changed = False
            try:
                await self._look(session)
            except Unavailable:
                self._tree_changed = True
                raise
        for count, key in enumerate(tuple(self._dirty), 1):
            self._tell_counters(session, key)
            self._dirty.discard(key)
            if session.is_full:
                await session.flush()
            if not count % PER_TURN:
                await turn()
        if self._noted:
            self._tell_notes(session)

    async def _fetch_new(self, session: Session) -> None:
        """What was asked for of each new message; not of those that the client added itself."""
        (low, high), self._unfetched = self._unfetched, (0, 0)
        own, self._own_new = self._own_new, set()
        assert self.interest.new is not None, "else nothing is to be fetched"
        items, sections = self.interest.new
        if session.view is None:
            return
        wanted = UIDSet(((low, high),))
        if own:
            wanted = UIDSet.of(uid for uid in wanted if uid not in own)
        if wanted:
            messages = SequenceSet(wanted.ranges)
            items = items if Item.UID in items else (Item.UID, *items)
            await fetch(session, Fetch(b"*", True, messages, items, sections, names_uid=True))

    def _tell_counters(self, session: Session, key: int) -> None:
        """STATUS, if it says something that the client wants to know (RFC 5465 §5.1-5.3)."""
        place = places.by_id(session, account_of(key), mailbox_of(key))
        if place is None or key not in self._counters or not place.allows("lr"):
            return
        found = self._counters.update(place.mailbox)
        if session.view is not None and session.view.is_of(place.mailbox):
            return
        subscribed = self._known_subscribed(session, place.name)
        own = place.account == session.user
        events = self.interest.events(place.name, own=own, subscribed=subscribed)
        items = []
        if found.counted and Wanted.MESSAGE_NEW in events:
            items += [b"MESSAGES", b"UIDNEXT"]
        if found.unseen and Wanted.FLAG_CHANGE in events:
            items.append(b"UNSEEN")
        flags = Wanted.FLAG_CHANGE in events and found.changed
        if session.condstore and (items or flags):
            items.append(b"HIGHESTMODSEQ")
        if items:
            session.put(status_response(session, place, (b"UIDVALIDITY", *items)))

    def _tell_names(self, session: Session, tree: Tree, changes: list[NameChange]) -> None:
        """LIST of each name that is watched."""
        for change in changes:
            wanted = Wanted.MAILBOX_NAME if change.named else Wanted.SUBSCRIPTION_CHANGE
            events = self.events(session, tree, change.name)
            if not change.named:  # it may have left just the group that made it interesting
                events |= self.interest.events(change.name, own=False, subscribed=True)
            if change.old:
                events |= self.events(session, tree, change.old)
            if wanted not in events:
                continue
            name = session.mailbox_name(change.name)
            attributes = tree.attributes(change.name, session.user)
            old = b' ("OLDNAME" (%b))' % session.mailbox_name(change.old) if change.old else b""
            session.put(b'* LIST (%b) "/" %b%b\r\n' % (attributes, name, old))

    def _tell_notes(self, session: Session) -> None:
        """METADATA with the names of what changed (RFC 5464 §4.4.2)."""
        own = self._own_notes
        for (owner, mailbox), entries in self._noted.items():
            names = [entry for entry in entries if (owner, mailbox, entry) not in own]
            if not names:
                continue
            if not mailbox:
                session.put(_metadata(b'""', names))
                continue
            place = places.by_id(session, owner, mailbox)
            if place is None or not place.allows("lr"):
                continue
            subscribed = self._known_subscribed(session, place.name)
            own_name = place.account == session.user
            events = self.interest.events(place.name, own=own_name, subscribed=subscribed)
            if Wanted.MAILBOX_METADATA_CHANGE in events:
                session.put(_metadata(session.mailbox_name(place.name), names))
        self._noted, self._own_notes = {}, set()

    def _known_subscribed(self, session: Session, name: str) -> bool:
        """Asked only where it matters."""
        if not any(group.whose is Whose.SUBSCRIBED for group in self.interest.others):
            return False
        return name in places.subscriptions(session)


def _metadata(name: bytes, entries: list[str]) -> bytes:
    written = [render.astring(entry.encode()) for entry in entries]
    return b"* METADATA %b %b\r\n" % (name, b" ".join(written))
