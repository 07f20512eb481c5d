"""NOTIFY: which events of which mailboxes a client wants to hear of.

Source: RFC 5465 §3.1, §5, §6, §8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.fetch import Item, Section, parse_attributes
from postroad.protocol.imap.scanner import Declined, Scanner

GROUPS_MAX = 100
"""Far above what clients send: some three groups."""


class Wanted(Enum):
    """An event, as it is spelt."""

    MESSAGE_NEW = "MessageNew"
    MESSAGE_EXPUNGE = "MessageExpunge"
    FLAG_CHANGE = "FlagChange"
    MAILBOX_NAME = "MailboxName"
    SUBSCRIPTION_CHANGE = "SubscriptionChange"
    MAILBOX_METADATA_CHANGE = "MailboxMetadataChange"
    SERVER_METADATA_CHANGE = "ServerMetadataChange"


class Whose(Enum):
    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    MAILBOXES = b"MAILBOXES"


OF_MESSAGES = frozenset((Wanted.MESSAGE_NEW, Wanted.MESSAGE_EXPUNGE, Wanted.FLAG_CHANGE))
OF_SELECTED = frozenset((Whose.SELECTED, Whose.SELECTED_DELAYED))
_BY_NAME = {wanted.value.upper().encode(): wanted for wanted in Wanted}
_NAMED = frozenset((Whose.SUBTREE, Whose.MAILBOXES))

Attributes: TypeAlias = tuple[tuple[Item, ...], tuple[Section, ...]]


@dataclass(frozen=True, slots=True)
class Group:
    """mailboxes: of SUBTREE and MAILBOXES. new: what FETCH shall tell of each new message."""

    whose: Whose
    mailboxes: tuple[str, ...]
    events: frozenset[Wanted]
    new: Attributes | None = None


@dataclass(frozen=True, slots=True)
class Notify(Command):
    """groups: empty for NONE. status: STATUS of each mailbox is wanted at once."""

    groups: tuple[Group, ...]
    status: bool


class UnknownEvent(Declined):
    """An event that is not told of here (RFC 5465 §3.1)."""

    def __init__(self) -> None:
        known = " ".join(wanted.value for wanted in Wanted)
        super().__init__("The event is not known", f"BADEVENT ({known})".encode(), no=True)


def parse_notify(tag: bytes, scan: Scanner, uid: bool) -> Notify:
    """Raises: ProtocolError; UnknownEvent when nothing but that is wrong."""
    scan.space()
    word = scan.word("SET or NONE")
    if word == b"NONE":
        scan.end()
        return Notify(tag, (), False)
    if word != b"SET":
        raise ProtocolError("SET or NONE expected")
    scan.space()
    status = not scan.peek(b"(")
    if status:
        if scan.word("STATUS") != b"STATUS":
            raise ProtocolError("STATUS or a group of events expected")
        scan.space()
    reader = _Reader(scan)
    groups = [reader.group()]
    while scan.skip(b" "):
        groups.append(reader.group())
        if len(groups) > GROUPS_MAX:
            raise ProtocolError("Too many groups of events")
    scan.end()
    if sum(group.whose in OF_SELECTED for group in groups) > 1:
        raise ProtocolError("The selected mailbox is named twice")
    if reader.has_unknown:
        raise UnknownEvent
    return Notify(tag, tuple(groups), status)


class _Reader:
    """Reads groups. has_unknown: an event was not known; the rest is read all the same."""

    __slots__ = ("has_unknown", "scan")

    def __init__(self, scan: Scanner) -> None:
        self.scan = scan
        self.has_unknown = False

    def group(self) -> Group:
        scan = self.scan
        scan.expect(b"(", "A group of events")
        try:
            whose = Whose(scan.word("Whose events"))
        except ValueError as error:
            raise ProtocolError("These mailboxes are not known") from error
        mailboxes: tuple[str, ...] = ()
        if whose in _NAMED:
            scan.space()
            mailboxes = _mailboxes(scan)
        scan.space()
        events, new = self._events(whose)
        scan.expect(b")", "A closing parenthesis")
        _check(whose, events)
        return Group(whose, mailboxes, frozenset(events), new)

    def _events(self, whose: Whose) -> tuple[set[Wanted], Attributes | None]:
        scan = self.scan
        events: set[Wanted] = set()
        new: Attributes | None = None
        if not scan.skip(b"("):
            if scan.word("A list of events, or NONE") != b"NONE":
                raise ProtocolError("A list of events, or NONE expected")
            return events, None
        while True:
            event = _BY_NAME.get(scan.word("An event"))
            if event is None:
                self.has_unknown = True
            else:
                events.add(event)
            if event is Wanted.MESSAGE_NEW and scan.skip(b" ("):
                if whose not in OF_SELECTED:
                    raise ProtocolError("Only of the selected mailbox new messages are fetched")
                scan.at -= 1
                new = parse_attributes(scan)
            if scan.skip(b")"):
                return events, new
            scan.space()


def _check(whose: Whose, events: set[Wanted]) -> None:
    """Which events go together (RFC 5465 §5, §6.1)."""
    if whose in OF_SELECTED and not OF_MESSAGES.issuperset(events):
        raise ProtocolError("Of the selected mailbox only events of messages are told")
    both = {Wanted.MESSAGE_NEW, Wanted.MESSAGE_EXPUNGE}
    if (events & OF_MESSAGES) and not both <= events:
        raise ProtocolError("MessageNew and MessageExpunge go together, and before FlagChange")


def _mailboxes(scan: Scanner) -> tuple[str, ...]:
    """One name, or a list of them."""
    return _listed(scan, scan.mailbox) if scan.skip(b"(") else (scan.mailbox(),)


def _listed(scan: Scanner, one: Callable[[], str]) -> tuple[str, ...]:
    names = [one()]
    while not scan.skip(b")"):
        scan.space()
        names.append(one())
    return tuple(dict.fromkeys(names))
