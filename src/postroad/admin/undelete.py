"""Choosing among what an account has removed, and bringing it back.

Trusts its caller to be the operator. Moments are unix seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from postroad.admin.books import Books
from postroad.admin.operations import find_account
from postroad.mail.errors import Fault, StateError
from postroad.message.header import Header
from postroad.message.words import decode_words
from postroad.store import names
from postroad.store.undelete import (
    Removed,
    RemovedMailbox,
    Restored,
    Undelete,
    header_of,
    removed_mailboxes,
    removed_messages,
    steps,
)

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to bring back; what is not said chooses nothing out.

    mailbox: the name that it was removed from. message: its UID there, or its Message-ID.
    since: removed then or later. at: what was there at that moment and was removed after it.
    """

    mailbox: str = ""
    message: str = ""
    since: int = 0
    at: int = 0

    @property
    def is_everything(self) -> bool:
        return not (self.mailbox or self.message or self.since or self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedMail:
    """One message as people know it."""

    mailbox: str
    uid: int
    removed_at: int
    internal_date: int
    size: int
    sender: str
    subject: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """messages: to be brought back. mailboxes: deleted ones that had none, to be made again."""

    account: int
    messages: list[Removed] = field(default_factory=list)
    mailboxes: list[RemovedMailbox] = field(default_factory=list)


def parse_moment(text: str, now: datetime) -> int:
    """`2026-11-24`, `2026-11-24T10:30`, with or without an offset (else UTC), or `3d` ago.

    Raises: ValueError.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return int((now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp())
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no moment: say 2026-11-24, 2026-11-24T10:30 or 3d (ago; s m h d w)"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def choose(books: Books, address: str, choice: Choice) -> Chosen:
    """Raises: StateError(NONEXISTENT): the account; ValueError: a UID without its mailbox."""
    account = find_account(books, address).account
    if choice.message.isdigit() and not choice.mailbox:
        raise ValueError("a UID belongs to a mailbox: name it with --mailbox")
    since = max(choice.since, choice.at + 1 if choice.at else 0)
    found = removed_messages(books.database, account, since)
    messages = [item for item in found if _matches(books, account, item, choice)]
    full = {item.mailbox for item in messages}
    mailboxes = [
        item
        for item in ([] if choice.message else removed_mailboxes(books.database, account, since))
        if item.mailbox not in full
        and (not choice.mailbox or names.canonical(choice.mailbox) == item.name)
    ]
    return Chosen(account, messages, mailboxes)


def _matches(books: Books, account: int, item: Removed, choice: Choice) -> bool:
    if choice.mailbox and item.name != names.canonical(choice.mailbox):
        return False
    if choice.at and item.saved > choice.at:
        return False
    if not choice.message:
        return True
    if choice.message.isdigit():
        return item.uid == int(choice.message)
    header = Header(header_of(books.database, account, item.heap, books.keys))
    wanted = choice.message.strip("<>")
    return (header.value(b"message-id") or b"").decode("utf-8", "replace").strip("<> ") == wanted


def describe(books: Books, chosen: Chosen) -> Iterator[RemovedMail]:
    for item in chosen.messages:
        header = Header(header_of(books.database, chosen.account, item.heap, books.keys))
        yield RemovedMail(
            mailbox=item.name,
            uid=item.uid,
            removed_at=item.removed_at,
            internal_date=item.internal_date,
            size=item.size,
            sender=decode_words(header.value(b"from") or b""),
            subject=decode_words(header.value(b"subject") or b""),
            message_id=(header.value(b"message-id") or b"").decode("utf-8", "replace"),
        )


async def undelete(
    books: Books,
    chosen: Chosen,
    *,
    into: str = "",
    now: datetime,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Restored]:
    """Brings back what was chosen, in units that let others in between.

    Raises: StateError, Unavailable; what was brought back until then is there.
    """
    if into:
        into = names.check_name(into)
    done: list[Restored] = []
    moment = int(now.timestamp())
    count = 0
    units = list(steps(chosen.messages, into, chosen.account, moment))
    if not into:
        units += [
            Undelete(account=chosen.account, mailbox=item.mailbox, messages=[], now=moment)
            for item in chosen.mailboxes
        ]
    for unit in units:
        try:
            (restored,) = await books.database.submit(unit)
        except StateError as error:
            if error.fault is not Fault.NONEXISTENT:
                raise
            continue  # its time was over meanwhile
        done.append(restored)
        count += sum(high - low + 1 for low, high in restored.uids)
        progress(count)
    return done
