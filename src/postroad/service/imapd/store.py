"""STORE: flags changed for a set of messages, and what the client is told of it.

Source: RFC 3501 §6.4.6, RFC 7162 §3.1.3 (UNCHANGEDSINCE, MODIFIED).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.messages import Store, StoreMode
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.expunge import READ_ONLY
from postroad.service.imapd.session import Answer, Session
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View
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
    if view.read_only:
        return READ_ONLY
    uids = view.uids_of(command.messages, uid=command.uid)
    if command.unchangedsince >= 0:
        enable_condstore(session)
    if not uids:
        return Answer("There are no such messages", expunges=command.uid)
    known = await _known(session, view, uids, command) if command.silent else {}
    [stored] = await session.site.database.submit(
        operations.StoreFlags(
            account=view.account,
            mailbox=view.mailbox,
            uids=list(uids.ranges),
            mode=int(_MODES[command.mode]),
            flags=int(command.flags),
            keywords=command.keywords,
            unchangedsince=command.unchangedsince,
        )
    )
    assert isinstance(stored, FlagsStored), "the operation says so"
    session.dirty = True
    await _tell(session, view, uids, command, stored, known)
    pipelined = session.core.has_pending
    code = b""
    if stored.modified:
        failed = UIDSet.of_ranges(stored.modified)
        code = b"MODIFIED " + render.numbers(failed if command.uid else view.numbers_of(failed))
    elif view.misses(uids):
        code = b"EXPUNGEISSUED"
    return Answer("Stored", code, expunges=command.uid and not pipelined)


def _rows(session: Session, view: View, uids: UIDSet) -> Iterator[list[MessageRow]]:
    return session.site.store.messages(view.account, view.mailbox, uids)


async def _known(session: Session, view: View, uids: UIDSet, command: Store) -> _Known:
    """Flags before this STORE, of messages whose flags the client has been told.

    From these it can work out the new flags by itself; of others it is told, .SILENT or not,
    since somebody else changed them meanwhile (RFC 3501 §6.4.6). REPLACE says all there is.
    """
    known: _Known = {}
    if command.mode is StoreMode.REPLACE:
        return known
    for rows in _rows(session, view, uids):
        for row in rows:
            if row.modseq <= view.modseq:
                known[row.uid] = (row.flags, row.keywords)
        await turn()
    return known


def _words(keywords: Iterable[bytes]) -> set[bytes]:
    return {word.lower() for word in keywords}


def _foretold(command: Store, row: MessageRow, known: _Known) -> bool:
    """Whether the flags are now what the client must think, having heard nothing."""
    given, bits = _words(command.keywords), int(command.flags)
    before = known.get(row.uid)
    if command.mode is StoreMode.REPLACE:
        return int(row.flags) == bits and _words(row.keywords) == given
    if before is None:
        return False
    flags, words = int(before[0]), _words(before[1])
    if command.mode is StoreMode.ADD:
        return int(row.flags) == flags | bits and _words(row.keywords) == words | given
    return int(row.flags) == flags & ~bits and _words(row.keywords) == words - given


async def _tell(
    session: Session,
    view: View,
    uids: UIDSet,
    command: Store,
    stored: FlagsStored,
    known: _Known,
) -> None:
    """FETCH responses: all addressed messages that were not refused, or as .SILENT has it."""
    modseqs = session.condstore
    changed = {change.uid: change.modseq for change in stored.changed}
    refused = UIDSet.of_ranges(stored.modified)
    for rows in _rows(session, view, uids):
        told = []
        silent = []
        for row in rows:
            if changed.get(row.uid) == row.modseq:
                view.remember(row.uid, row.modseq)
            if row.uid in refused:
                continue
            if not command.silent or not _foretold(command, row, known):
                told.append(row)
            elif modseqs and row.uid in changed:
                silent.append(row)
        session.put(*view.new_keywords(told))
        session.put(*view.flag_lines(told, modseqs=modseqs, uids=command.uid))
        session.put(*_modseq_lines(view, silent, uids=command.uid))
        if session.is_full:
            await session.flush()
        await turn()


def _modseq_lines(view: View, rows: list[MessageRow], *, uids: bool) -> list[bytes]:
    """With CONDSTORE even .SILENT tells the new mod-sequence (RFC 7162 §3.1.3)."""
    return [
        b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (seq, row.uid, row.modseq)
        if uids
        else b"* %d FETCH (MODSEQ (%d))\r\n" % (seq, row.modseq)
        for seq, row in zip(view.seqs(rows), rows, strict=True)
    ]
