"""STORE: flags changed for a set of messages, and what the client is told of it.

Source: RFC 3501 §6.4.6; RFC 4314 §4 (rights); RFC 7162 §3.1.3 (UNCHANGEDSINCE, MODIFIED), §3.2.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from postroad.mail.rights import flags_allowed
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.messages import Store, StoreMode
from postroad.service.imapd import long
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.expunge import READ_ONLY
from postroad.service.imapd.fetch import UID_REQUIRED
from postroad.service.imapd.personal import as_read
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View, response_head
from postroad.store import operations
from postroad.store.values import FlagMode, FlagsStored, MessageRow

_MODES = {
    StoreMode.ADD: FlagMode.ADD,
    StoreMode.REMOVE: FlagMode.REMOVE,
    StoreMode.REPLACE: FlagMode.REPLACE,
}

_Known: TypeAlias = dict[int, tuple[int, tuple[bytes, ...]]]


async def store(session: Session, command: Store) -> Answer:
    view = session.selected
    if session.uid_only and not command.uid:
        return UID_REQUIRED
    if view.read_only:
        return READ_ONLY
    if not _may(view, command):
        return no("You have no right to change these flags", b"NOPERM")
    if not session.uid_only:
        await view.number()
    uids = view.uids_of(command.messages, uid=command.uid)
    if command.unchangedsince >= 0:
        enable_condstore(session)
    if not uids:
        return Answer("There are no such messages", expunges=command.uid)
    known = await _known(session, view, uids, command) if command.silent else {}
    stored = await long.submit(
        session,
        operations.StoreFlags(
            account=view.account,
            mailbox=view.mailbox,
            uids=list(uids.ranges),
            mode=int(_MODES[command.mode]),
            flags=int(command.flags),
            keywords=command.keywords,
            unchangedsince=command.unchangedsince,
            reader=view.reader,
            rights="".join(sorted(view.rights & frozenset("swt"))),
        ),
    )
    session.dirty = True
    for modseq in stored.modseqs:
        view.remember(modseq)
    await _tell(session, view, uids, command, stored, known)
    code = _code(session, view, uids, command, stored)
    return Answer("Stored", code, expunges=command.uid and not session.core.has_pending)


def _may(view: View, command: Store) -> bool:
    """Whether a flag among those named may be changed; the others are left as they are.

    Source: RFC 4314 §4 (STORE does not fail while one flag can be changed).
    """
    allowed = flags_allowed(view.rights)
    if command.mode is StoreMode.REPLACE and not command.flags and not command.keywords:
        return bool(allowed)
    return bool(int(command.flags) & allowed) or (bool(command.keywords) and view.may("w"))


def _code(session: Session, view: View, uids: UIDSet, command: Store, stored: FlagsStored) -> bytes:
    if stored.modified:
        failed = UIDSet.of_ranges(stored.modified)
        return b"MODIFIED " + render.numbers(failed if command.uid else view.numbers_of(failed))
    return b"EXPUNGEISSUED" if view.misses(uids) else b""


def _rows(session: Session, view: View, uids: UIDSet) -> Iterator[list[MessageRow]]:
    store = session.site.store
    for rows in store.messages(view.account, view.mailbox, uids):
        yield as_read(store, view, rows)


async def _known(session: Session, view: View, uids: UIDSet, command: Store) -> _Known:
    """Flags before this STORE, of messages whose flags the client has been told.

    From these it can work out the new flags by itself; of others it is told, .SILENT or not,
    since somebody else changed them meanwhile (RFC 3501 §6.4.6). REPLACE says all there is.
    """
    known: _Known = {}
    if command.mode is StoreMode.REPLACE:
        return known
    told = view.settled_flags
    for rows in _rows(session, view, uids):
        for row in rows:
            if row.modseq <= told:
                known[row.uid] = (row.flags, row.keywords)
        await turn()
    return known


def _words(keywords: Iterable[bytes]) -> set[bytes]:
    return {word.lower() for word in keywords}


class _Foretold:
    """Whether flags are now what the client must think, having heard nothing."""

    __slots__ = ("_bits", "_known", "_mode", "_words")

    def __init__(self, command: Store, known: _Known) -> None:
        self._mode = command.mode
        self._bits = int(command.flags)
        self._words = _words(command.keywords)
        self._known = known

    def __call__(self, row: MessageRow) -> bool:
        if self._mode is StoreMode.REPLACE:
            return int(row.flags) == self._bits and self._has(row, self._words)
        before = self._known.get(row.uid)
        if before is None:
            return False
        flags, keywords = before
        if self._mode is StoreMode.ADD:
            if int(row.flags) != int(flags) | self._bits:
                return False
            same = not self._words and row.keywords == keywords
            return same or self._has(row, _words(keywords) | self._words)
        if int(row.flags) != int(flags) & ~self._bits:
            return False
        same = not self._words and row.keywords == keywords
        return same or self._has(row, _words(keywords) - self._words)

    @staticmethod
    def _has(row: MessageRow, words: set[bytes]) -> bool:
        return _words(row.keywords) == words


async def _tell(
    session: Session,
    view: View,
    uids: UIDSet,
    command: Store,
    stored: FlagsStored,
    known: _Known,
) -> None:
    """FETCH responses: all addressed messages that were not refused, or as .SILENT has it."""
    manner = session.manner
    refused = UIDSet.of_ranges(stored.modified)
    own = frozenset(stored.modseqs)
    foretold = _Foretold(command, known)
    done = 0
    for rows in _rows(session, view, uids):
        done += len(rows)
        if refused:
            rows = [row for row in rows if row.uid not in refused]
        silent: list[MessageRow] = []
        if command.silent:
            told = []
            for row in rows:
                if not foretold(row):
                    told.append(row)
                elif row.modseq in own:
                    silent.append(row)
        else:
            told = rows
        session.put(*view.new_keywords(told))
        session.put(*view.flag_lines(told, manner, uids=command.uid))
        if manner.modseqs:
            session.put(*_modseq_lines(session, view, silent))
        if session.is_full:
            await session.flush()
        await session.progress(done)
        await turn()


def _modseq_lines(session: Session, view: View, rows: list[MessageRow]) -> list[bytes]:
    """With CONDSTORE even .SILENT tells the new mod-sequence (RFC 7162 §3.1.3)."""
    head = response_head(session.manner, uids=True) + b"MODSEQ (%d))\r\n"
    if session.uid_only:
        return [head % (row.uid, row.modseq) for row in rows]
    numbers = view.seqs(rows)
    return [head % (seq, row.uid, row.modseq) for seq, row in zip(numbers, rows, strict=True)]
