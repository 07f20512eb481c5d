"""What the search index offers: finding text, ranking, and what SORT and THREAD need.

The index only speeds things up. For what it does not cover it says so, and the caller reads the
messages: `text.fields` says there, as it does here, what the text of a message is. With the
tables of the index emptied every answer is the same.

`find`, `fuzzy` and `digests` block: call them in a thread. They hold no snapshot and no lock, and
never keep the interpreter for longer than about a millisecond at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Protocol

import msgspec

from postroad.mail.uidset import UIDSet


class Where(Enum):
    """Which text of a message. The words are those of RFC 9051 §6.4.4."""

    FROM = "from"
    TO = "to"
    CC = "cc"
    BCC = "bcc"
    SUBJECT = "subject"
    HEADER = "header"
    """One field, named by `Needle.field`."""
    BODY = "body"
    TEXT = "text"
    """Header and body."""


@dataclass(frozen=True, slots=True)
class Needle:
    """Text looked for. text: folded by `text.fold`. field: with HEADER, in lower case.

    text "" is found wherever there is such a field; in BODY and TEXT, in every message.
    """

    where: Where
    text: str
    field: bytes = b""


@dataclass(frozen=True, slots=True)
class Found:
    """matched: UIDs whose text holds the needle, all of them in `covered`.

    covered: UIDs for which that is the whole truth; about others nothing is said. Both may name
    UIDs that do not exist (any more).
    """

    matched: UIDSet
    covered: UIDSet


class Facet(IntFlag):
    """Which fields of a `Digest` a reader needs; the others are empty."""

    NONE = 0
    SENT = 1
    SUBJECT = 2
    """subject, is_reply."""
    FROM = 4
    TO = 8
    CC = 16
    DISPLAY_FROM = 32
    DISPLAY_TO = 64
    THREAD = 128
    """message_id, references."""


class Digest(msgspec.Struct, gc=False):
    """What SORT and THREAD ask of one message (RFC 5256 §3, §5; RFC 5957 §3).

    uid, arrival (INTERNALDATE, unix seconds) and size are always there. sent: the Date: field, or
    `arrival` where there is none that can be read. subject, author, to, cc, display_from,
    display_to: sort keys, UTF-8 as i;unicode-casemap (RFC 5051) has it, so that octet order is
    the right order; subject is the base subject (RFC 5256 §2.1), is_reply whether something that
    marks a reply or forward was taken from it. author, to, cc: the first address's addr-mailbox.
    message_id, references: without angle brackets and quotes, b"" and () where there are none;
    references are In-Reply-To's first id when there is no References: field (RFC 5256 §5).
    """

    uid: int
    arrival: int
    size: int
    heap: int
    sent: int = 0
    subject: bytes = b""
    is_reply: bool = False
    author: bytes = b""
    to: bytes = b""
    cc: bytes = b""
    display_from: bytes = b""
    display_to: bytes = b""
    message_id: bytes = b""
    references: tuple[bytes, ...] = ()


class Index(Protocol):
    def find(
        self,
        account: int,
        mailbox: int,
        needles: Sequence[Needle],
        among: UIDSet | None = None,
    ) -> list[Found]:
        """For each needle, which messages hold it. among: UIDs to look at (None: all); outside of
        it nothing is covered. Raises: Unavailable (the database)."""
        ...

    def fuzzy(
        self,
        account: int,
        mailbox: int,
        where: Where,
        text: str,
        field: bytes = b"",
        among: UIDSet | None = None,
    ) -> list[tuple[int, int]]:
        """(UID, score 1 to 100) of messages that hold words like those of `text`, by UID.

        Words match by their stems, as beginnings, without regard to accents, and with a letter
        wrong where nothing else matches. Complete: what is not indexed is read.
        Source: RFC 6203 §3, §4. Raises: Unavailable.
        """
        ...


class Digests(Protocol):
    def __call__(
        self, account: int, mailbox: int, uids: UIDSet, facets: Facet
    ) -> Iterator[list[Digest]]:
        """Digests of those that exist among `uids`, by UID, some hundred at a time. Complete: what
        is not indexed is read. Raises: Unavailable."""
        ...
