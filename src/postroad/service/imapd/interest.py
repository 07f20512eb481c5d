"""What a session asked to hear of (NOTIFY, ENABLE METADATA), as one value.

Knows no session and no store.
Source: RFC 5465 §3.1, §5, §6; RFC 5464 §4.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from postroad.protocol.imap.names import SEPARATOR
from postroad.protocol.imap.notify import Attributes, Group, Wanted, Whose


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """selected: events of the selected mailbox; None: told as without NOTIFY.

    delayed: its expunges wait for a command that may tell them. new: what is to be fetched of new
    messages there. others: groups of the other mailboxes. eager: told at once, not only with
    commands and while the client idles.
    """

    selected: frozenset[Wanted] | None = None
    delayed: bool = False
    new: Attributes | None = None
    others: tuple[Group, ...] = ()
    eager: bool = True

    @classmethod
    def of(cls, groups: Iterable[Group]) -> Interest:
        """Fetching new messages to tell of them does not make them \\Seen."""
        selected: frozenset[Wanted] = frozenset()
        delayed, new, others = False, None, []
        for group in groups:
            if group.whose in (Whose.SELECTED, Whose.SELECTED_DELAYED):
                selected, new = group.events, group.new
                delayed = group.whose is Whose.SELECTED_DELAYED
            elif group.events:
                others.append(group)
        if new is not None:
            new = (new[0], tuple(replace(section, peek=True) for section in new[1]))
        return cls(selected=selected, delayed=delayed, new=new, others=tuple(others))

    def wants(self, *events: Wanted) -> bool:
        """Any of these, of any mailbox but the selected one."""
        return any(not group.events.isdisjoint(events) for group in self.others)

    def events(self, name: str, *, own: bool, subscribed: bool) -> frozenset[Wanted]:
        """Of the mailbox that the user calls so, while it is not selected."""
        found: frozenset[Wanted] = frozenset()
        for group in self.others:
            if _covers(group, name, own=own, subscribed=subscribed):
                found |= group.events
        return found


def _covers(group: Group, name: str, *, own: bool, subscribed: bool) -> bool:
    match group.whose:
        case Whose.PERSONAL | Whose.INBOXES:  # RFC 5465 §6.3: filters may deliver to any
            return own
        case Whose.SUBSCRIBED:
            return subscribed
        case Whose.SUBTREE:
            return any(
                name == above or name.startswith(above and above + SEPARATOR)
                for above in group.mailboxes
            )
        case _:
            return name in group.mailboxes


NOTHING = Interest.of(())
"""NOTIFY NONE."""

_NOTES = frozenset((Wanted.MAILBOX_METADATA_CHANGE, Wanted.SERVER_METADATA_CHANGE))
ANNOTATIONS = Interest(
    others=(Group(Whose.PERSONAL, (), _NOTES), Group(Whose.SUBSCRIBED, (), _NOTES)), eager=False
)
"""ENABLE METADATA (RFC 5464 §4.1): of one's own mailboxes and those subscribed to."""
