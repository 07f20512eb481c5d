"""The store's words: what it keeps of a message, a mailbox, a change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag
from typing import Protocol, TypeAlias

import msgspec

from postroad.mail.errors import Unavailable
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet

BlobRef: TypeAlias = str
"""Where octets are. `p<pack>:<offset>:<octets on disk>:<octets>` in a pack,
`f<sha256 hex>:<octets>` for a file of its own. Opaque outside `store.blobs`."""


class Vanished(Unavailable):
    """What a reference leads to is gone: its row may name another place by now."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What is computed once, when a message arrives, and kept in the content heap.

    The message's octets are `head` + the blob's: `head` holds the fields added on top (trace
    fields, DKIM signatures, completions); the blob is what the sender sent, byte for byte.
    envelope, body, bodystructure: IMAP's renderings, ready to be written after the item's name.
    header: the whole header section (head included) with its closing empty line.
    structure: part offsets, packed by `message.structure`; relative to head + blob.
    """

    blob: BlobRef
    head: bytes
    size: int
    """Of head and blob together, in octets: RFC822.SIZE."""
    envelope: bytes
    body: bytes
    bodystructure: bytes
    header: bytes
    structure: bytes
    preview: str
    sent: int
    """The Date: field as unix seconds (0 when there is none): SENTSINCE, SORT DATE."""


class Summary(Protocol):
    """What `message.summary.summarize` found in head + octets."""

    @property
    def size(self) -> int: ...
    @property
    def envelope(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    @property
    def bodystructure(self) -> bytes: ...
    @property
    def header(self) -> bytes: ...
    @property
    def structure(self) -> bytes: ...
    @property
    def preview(self) -> str: ...
    @property
    def sent(self) -> int: ...


def content_of(summary: Summary, blob: BlobRef, head: bytes) -> Content:
    """The content of a message from its summary, which describes `head` and the blob together."""
    return Content(
        blob=blob,
        head=head,
        size=summary.size,
        envelope=summary.envelope,
        body=summary.body,
        bodystructure=summary.bodystructure,
        header=summary.header,
        structure=summary.structure,
        preview=summary.preview,
        sent=summary.sent,
    )


class Want(IntFlag):
    """Which columns of the content heap a reader needs."""

    BASE = 0
    ENVELOPE = 1
    BODY = 2
    BODYSTRUCTURE = 4
    HEADER = 8
    OCTETS = 16
    """blob, head, structure: what is needed to read the message itself."""
    PREVIEW = 32
    SENT = 64
    ORIGIN = 128
    """What EMAILID is made of, with `heap`."""


class MessageRow(msgspec.Struct, gc=False):
    """One message of a mailbox. What was not wanted is None."""

    uid: int
    modseq: int
    flags: Flag
    keywords: tuple[bytes, ...]
    internal_date: int
    """Unix seconds."""
    size: int
    heap: int
    """Address of its content in the heap."""
    saved: int
    """When it came into this mailbox, unix seconds; 0: not known."""
    envelope: bytes | None = None
    body: bytes | None = None
    bodystructure: bytes | None = None
    header: bytes | None = None
    blob: BlobRef | None = None
    head: bytes | None = None
    structure: bytes | None = None
    preview: str | None = None
    sent: int | None = None
    origin: int | None = None
    """Heap address of the content that this is a copy of, from another account; 0: none."""


class Mailbox(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox and its counters, as of one commit.

    name: Unicode, levels separated by "/"; "INBOX" in capitals.
    special_use: an attribute of RFC 6154 §2 such as `\\Sent`, or "".
    """

    account: int
    mailbox: int
    name: str
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    messages: int
    unseen: int
    deleted: int
    size: int
    first_recent: int
    """UIDs from here on are \\Recent for the next session that selects read-write."""
    special_use: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a mailbox after `since`; vanished UIDs are no longer there."""

    changed: tuple[MessageRow, ...]
    vanished: UIDSet
    highestmodseq: int
    uidnext: int


class FlagMode(IntFlag):
    ADD = 1
    REMOVE = 2
    REPLACE = 3


class FlagChange(msgspec.Struct, frozen=True, array_like=True):
    uid: int
    modseq: int
    flags: int
    keywords: tuple[bytes, ...]


class FlagsStored(msgspec.Struct, frozen=True, kw_only=True):
    """changed: rows whose flags really changed. modified: UIDs that failed UNCHANGEDSINCE.

    modseq: the account's modseq after the operation. modseqs: those that the changes got,
    ascending; more than one when it was done in slices.
    """

    changed: list[FlagChange]
    modified: list[tuple[int, int]]
    modseq: int
    modseqs: tuple[int, ...] = ()


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    mailbox: int
    uidvalidity: int
    uid: int
    modseq: int


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be added. internal_date: unix seconds."""

    content: Content
    flags: int = 0
    keywords: tuple[bytes, ...] = ()
    internal_date: int


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """`count` messages under one UID after the other, from `uid` on."""

    mailbox: int
    uidvalidity: int
    uid: int
    count: int
    modseq: int


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """source and target: ranges of UIDs, in the same order (RFC 4315 §3). Empty: nothing found.

    modseq: the newest of the account that the messages were in.
    """

    uidvalidity: int
    source: list[tuple[int, int]]
    target: list[tuple[int, int]]
    modseq: int


class Expunged(msgspec.Struct, frozen=True, kw_only=True):
    uids: list[tuple[int, int]]
    modseq: int


def unix(moment: datetime) -> int:
    """Aware moment to unix seconds."""
    return int(moment.timestamp())
