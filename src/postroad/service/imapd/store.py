"""STORE: flags changed for a set of messages, and what the client is told of it.

Source: RFC 3501 §6.4.6; RFC 4314 §4 (rights); RFC 7162 §3.1.3 (UNCHANGEDSINCE, MODIFIED), §3.2.4.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator
from functools import lru_cache

from postroad.mail.rights import flags_allowed
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.fetch import Fetch, Item
from postroad.protocol.imap.messages import Store, StoreMode
from postroad.service.imapd import long
from postroad.service.imapd.enable import enable_condstore
from postroad.service.imapd.expunge import READ_ONLY
from postroad.service.imapd.fetch import UID_REQUIRED, without
from postroad.service.imapd.personal import digest_as_read
from postroad.service.imapd.reading import Reader
from postroad.service.imapd.session import Answer, Session, no
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View
from postroad.store import operations
from postroad.store.keywords import unpack
from postroad.store.selected import Digest
from postroad.store.values import FlagMode, FlagsStored

SPELT_MAX = 1 << 16
"""Different sets of keywords that are remembered of the messages of one STORE."""

_MODES = {
    StoreMode.ADD: FlagMode.ADD,
    StoreMode.REMOVE: FlagMode.REMOVE,
    StoreMode.REPLACE: FlagMode.REPLACE,
}


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
    known = Known(session, view, command) if command.silent else None
    if known is not None:
        await known.read(uids)
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
    if not command.flags and not command.keywords:
        return bool(allowed)
    return bool(int(command.flags) & allowed) or (bool(command.keywords) and view.may("w"))


def _code(session: Session, view: View, uids: UIDSet, command: Store, stored: FlagsStored) -> bytes:
    if stored.modified:
        failed = UIDSet.of_ranges(stored.modified)
        return b"MODIFIED " + render.numbers(failed if command.uid else view.numbers_of(failed))
    return b"EXPUNGEISSUED" if view.misses(uids) else b""


async def _tell(
    session: Session,
    view: View,
    uids: UIDSet,
    command: Store,
    stored: FlagsStored,
    known: Known | None,
) -> None:
    """FETCH responses: all addressed messages that were not refused, or as .SILENT has it."""
    uids = without(uids, UIDSet.of_ranges(stored.modified))
    items = (Item.UID, Item.FLAGS) if command.uid or session.condstore else (Item.FLAGS,)
    if known is None:
        await _fetch(session, view, command, uids, items)
        return
    surprising, changed = await known.compare(uids, frozenset(stored.modseqs))
    await _fetch(session, view, command, UIDSet.of(surprising), items)
    if session.condstore:  # even .SILENT tells the new mod-sequence (RFC 7162 §3.1.3)
        heard = uids if command.unchangedsince >= 0 else UIDSet.of(changed)
        silent = without(heard, UIDSet.of(surprising))
        await _fetch(session, view, command, silent, (Item.UID, Item.MODSEQ))


async def _fetch(
    session: Session, view: View, command: Store, uids: UIDSet, items: tuple[Item, ...]
) -> None:
    """What FETCH would answer, with MODSEQ and UID where CONDSTORE wants them."""
    if uids:
        asked = Fetch(command.tag, command.uid, command.messages, items, ())
        await Reader(session, view, asked).plain(uids)


class Known:
    """Flags before this STORE, of messages whose flags the client has been told.

    From these it can work out the new flags by itself; of others it is told, .SILENT or not,
    since somebody else changed them meanwhile (RFC 3501 §6.4.6). REPLACE says all there is.
    """

    __slots__ = (
        "_before", "_bits", "_command", "_expected", "_flags", "_session", "_spelt", "_view",
        "_worded", "_words",
    )  # fmt: skip

    def __init__(self, session: Session, view: View, command: Store) -> None:
        self._session = session
        self._view = view
        self._command = command
        self._flags = int(command.flags)
        self._before = array("Q")
        """As digests have them, ascending: ten octets a message, with `_worded`."""
        self._worded = array("H")
        """Beside each its keywords, as a place in `_spelt`."""
        self._spelt: dict[bytes, int] = {b"": 0}
        self._bits: dict[int, int] = {}
        self._words: dict[int, bytes] = {}
        """Of the digest in hand."""
        self._expected: dict[bytes, frozenset[bytes]] = {}

    async def read(self, uids: UIDSet) -> None:
        if self._command.mode is StoreMode.REPLACE:
            return
        told = self._view.settled_flags
        async for digest in self._digests(uids):
            packed = digest.packed
            if max(digest.modseqs) > told:
                pairs = zip(packed, digest.modseqs, strict=True)
                packed = [value for value, modseq in pairs if modseq <= told]
            self._keep(packed, digest.words)

    def _keep(self, packed: list[int], words: dict[int, bytes]) -> None:
        if not words:
            self._before.extend(packed)
            self._worded.frombytes(bytes(2 * len(packed)))
            return
        spelt = self._spelt
        for value in packed:
            word = words.get(value >> 6, b"")
            place = spelt.get(word)
            if place is None:
                if len(spelt) == SPELT_MAX:
                    continue  # it is as if the client did not know
                place = spelt[word] = len(spelt)
            self._before.append(value)
            self._worded.append(place)

    def _recall(self, digest: Digest) -> None:
        """What was known of the messages of one digest."""
        low = bisect_left(self._before, digest.packed[0] & ~63)
        high = bisect_right(self._before, digest.packed[-1] | 63)
        self._bits = {value >> 6: value & 31 for value in self._before[low:high]}
        self._words = {}
        places = self._worded[low:high]
        if any(places):
            spelt = list(self._spelt)
            pairs = zip(self._before[low:high], places, strict=True)
            self._words = {value >> 6: spelt[place] for value, place in pairs if place}

    async def compare(self, uids: UIDSet, own: frozenset[int]) -> tuple[array[int], array[int]]:
        """UIDs whose flags are not what the client must think, having heard nothing; and those
        that changed under the modseqs `own`."""
        surprising, changed = array("I"), array("I")
        async for digest in self._digests(uids):
            self._recall(digest)
            surprising.extend(self._surprising(digest))
            pairs = zip(digest.packed, digest.modseqs, strict=True)
            changed.extend([value >> 6 for value, modseq in pairs if modseq in own])
        return surprising, changed

    async def _digests(self, uids: UIDSet) -> AsyncIterator[Digest]:
        view, store = self._view, self._session.site.store
        for digest in store.digests(view.account, view.mailbox, uids, modseqs=True):
            yield digest_as_read(store, view, digest)
            await turn()

    def _surprising(self, digest: Digest) -> list[int]:
        flags, before = self._flags, self._bits.get
        packed = digest.packed
        match self._command.mode:
            case StoreMode.ADD:
                found = [v >> 6 for v in packed if v & 31 != before(v >> 6, -1) | flags]
            case StoreMode.REMOVE:
                found = [v >> 6 for v in packed if v & 31 != before(v >> 6, -1) & ~flags]
            case StoreMode.REPLACE:
                found = [v >> 6 for v in packed if v & 31 != flags]
        if not digest.words and not self._words and not self._command.keywords:
            return found
        uids = (value >> 6 for value in packed)
        return found + [uid for uid in uids if not self._has_words(uid, digest)]

    def _has_words(self, uid: int, digest: Digest) -> bool:
        before = self._words.get(uid, b"")
        expected = self._expected.get(before)
        if expected is None:
            expected = self._expected[before] = self._words_after(before)
        return _folded(digest.words.get(uid, b"")) == expected

    def _words_after(self, before: bytes) -> frozenset[bytes]:
        given = frozenset(word.lower() for word in self._command.keywords)
        match self._command.mode:
            case StoreMode.ADD:
                return _folded(before) | given
            case StoreMode.REMOVE:
                return _folded(before) - given
            case StoreMode.REPLACE:
                return given


@lru_cache(maxsize=1024)
def _folded(packed: bytes) -> frozenset[bytes]:
    return frozenset(unpack(packed.lower()))
