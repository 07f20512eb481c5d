"""Which messages of a maildrop lack a final CRLF: RETR adds one, and LIST must count it.

Mail that came by SMTP always has it; what an IMAP client appended may not. Its last octets are
read once: what was found is noted in the maildrop's lock file, which its session holds alone. A
note that cannot be read or written costs only another look.
Source: RFC 1939 §3 (an answer ends with CRLF before the dot), §5 (LIST tells the exact size).
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.service.site import Site
from postroad.store.values import Mailbox, MessageRow, Want

NOTE_OCTETS_MAX = 1 << 20


class Note(msgspec.Struct, frozen=True, array_like=True):
    """unended: ranges of UIDs below `below` without a final CRLF."""

    uidvalidity: int
    below: int
    unended: list[tuple[int, int]]


_decoder = msgspec.json.Decoder(Note)


async def unended_messages(site: Site, account: int, inbox: Mailbox, note: int | None) -> UIDSet:
    """The UIDs of `inbox` whose octets do not end in CRLF. note: descriptor of the lock file."""
    known = _read(note) if note is not None else None
    if known is None or known.uidvalidity != inbox.uidvalidity or known.below > inbox.uidnext:
        known = Note(inbox.uidvalidity, 1, [])
    if known.below == inbox.uidnext:
        return UIDSet.of_ranges(known.unended)
    found = [uid for first, last in known.unended for uid in range(first, last + 1)]
    fresh = UIDSet.of_ranges([(known.below, inbox.uidnext - 1)])
    whole = True
    for rows in site.store.messages(account, inbox.mailbox, fresh, Want.OCTETS):
        appended = [row for row in rows if not row.head]  # trace fields are on what came by SMTP
        if appended:
            uids, all_read = await asyncio.to_thread(_examine, site, appended)
            found += uids
            whole = whole and all_read
        await asyncio.sleep(0)
    unended = UIDSet.of(found)
    if note is not None and whole:
        _write(note, Note(inbox.uidvalidity, inbox.uidnext, list(unended.ranges)))
    return unended


def _examine(site: Site, rows: list[MessageRow]) -> tuple[list[int], bool]:
    """(UIDs without a final CRLF, whether all could be read)."""
    found, whole = [], True
    for row in rows:
        try:
            tail = site.store.octets_range(row, max(row.size - 2, 0), row.size)
        except Unavailable:
            whole = False  # RETR will say so
            continue
        if tail and tail != b"\r\n":
            found.append(row.uid)
    return found, whole


def _read(note: int) -> Note | None:
    try:
        return _decoder.decode(os.pread(note, NOTE_OCTETS_MAX, 0))
    except (OSError, msgspec.DecodeError):
        return None


def _write(note: int, known: Note) -> None:
    octets = msgspec.json.encode(known)
    try:
        os.ftruncate(note, 0)
        if len(octets) <= NOTE_OCTETS_MAX:
            os.pwrite(note, octets, 0)
    except OSError:
        return  # a full disk: the next login looks again
