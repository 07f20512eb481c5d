"""What became of mailbox names and subscriptions between two looks, and the LIST lines for it.

Source: RFC 5465 §5.4, §5.5; RFC 9051 §6.3.9.7 (OLDNAME); RFC 5258 §4 (attributes).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from postroad.protocol.imap.names import SEPARATOR
from postroad.service.imapd.counters import key_of
from postroad.service.imapd.places import PUBLIC, USERS, Place


class Known:
    """Mailboxes and subscriptions, as the client knows them; their names are two texts."""

    __slots__ = ("_keys", "_names", "_subscribed")

    def __init__(self, found: Iterable[Place], subscribed: Iterable[str]) -> None:
        pairs = sorted(
            (key_of(place.account, place.mailbox.mailbox), place.name) for place in found
        )
        self._keys = [key for key, _ in pairs]
        self._names = "\n".join([name for _, name in pairs]).encode()
        self._subscribed = "\n".join(sorted(subscribed)).encode()

    def by_key(self) -> dict[int, str]:
        return dict(zip(self._keys, self._names.decode().split("\n"), strict=False))

    def subscriptions(self) -> set[str]:
        return set(filter(None, self._subscribed.decode().split("\n")))


@dataclass(frozen=True, slots=True)
class NameChange:
    """old: the name before, of a mailbox that was renamed; else "".

    named: a mailbox came, went or changed its name, or one below it did; else a subscription.
    """

    name: str
    old: str = ""
    named: bool = True


def name_changes(before: Known, after: Known, own: set[str]) -> list[NameChange]:
    """Each name at most once. own: names that the client changed itself, and hence knows of."""
    then, now = before.by_key(), after.by_key()
    gone = [name for key, name in then.items() if key not in now]
    new = [name for key, name in now.items() if key not in then]
    moved = {name: now[key] for key, name in then.items() if now.get(key, name) != name}
    names = set(now.values())
    changes: dict[str, NameChange] = {}
    for old, name in moved.items():
        if not _moved_with_parent(old, name, moved) and not own.intersection((old, name)):
            changes[name] = NameChange(name, old)
    for name in (*gone, *new):
        if name in own or (name in gone and name in names):
            continue  # the client knows, or another mailbox has the name now
        changes.setdefault(name, NameChange(name))
        parent = name.rpartition(SEPARATOR)[0]
        if parent:
            changes.setdefault(parent, NameChange(parent))
    for name in before.subscriptions() ^ after.subscriptions():
        if name not in own:
            changes.setdefault(name, NameChange(name, named=False))
    return list(changes.values())


def _moved_with_parent(old: str, name: str, moved: dict[str, str]) -> bool:
    """No events are sent of children that moved with what they are below."""
    above = old.rpartition(SEPARATOR)[0]
    while above:
        if above in moved:
            return name == moved[above] + old[len(above) :]
        above = above.rpartition(SEPARATOR)[0]
    return False


class Tree:
    """The names there are now, to render them."""

    __slots__ = ("_places", "_sorted", "_subscribed")

    def __init__(self, found: list[Place], subscribed: Iterable[str]) -> None:
        self._places = {place.name: place for place in found}
        self._sorted = sorted(self._places)
        self._subscribed = set(subscribed)

    def is_subscribed(self, name: str) -> bool:
        return name in self._subscribed

    def attributes(self, name: str, user: int) -> bytes:
        """As LIST gives them; user: whose special uses count."""
        place = self._places.get(name)
        words = [] if place is not None else [b"\\NonExistent"]
        below = name + SEPARATOR
        at = bisect_left(self._sorted, below)
        has_children = at < len(self._sorted) and self._sorted[at].startswith(below)
        words.append(b"\\HasChildren" if has_children else b"\\HasNoChildren")
        if name in self._subscribed:
            words.append(b"\\Subscribed")
        if place is not None and place.account == user and place.mailbox.special_use:
            words.append(place.mailbox.special_use.encode("ascii"))
        return b" ".join(words)

    def is_own(self, name: str, user: int) -> bool:
        """Whether a name is in the user's personal namespace."""
        place = self._places.get(name)
        if place is not None:
            return place.account == user
        return name.partition(SEPARATOR)[0] not in (USERS, PUBLIC)
