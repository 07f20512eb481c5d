"""What one session knows of its mailbox: sequence numbers, UIDs, and what may be told when.

The view is the client's picture, not the store's: messages that others expunged keep their number
until the client may be told, and new ones have none until it has been. UIDs are never reused and
new ones are the highest, hence a range of UIDs up to the view's last one means the same messages
here and in the store.
Source: RFC 3501 §2.3.1, §5.2, §5.5, §7.3, §7.4.1; RFC 7162 §3.1.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter

from postroad.mail.errors import ProtocolError
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap import render
from postroad.protocol.imap.sequence import SequenceSet
from postroad.store.contract import FlagsRow
from postroad.store.keywords import unpack
from postroad.store.values import Changes, Mailbox, MessageRow


class View:
    """The selected mailbox of one session.

    modseq: all changes up to here are told, or kept in `vanished`.
    vanished: expunged, but not told yet.
    own: UIDs that its session changed itself, with the modseq of the change: told already.
    keywords: those the client knows as FLAGS (RFC 3501 §7.2.6).
    """

    __slots__ = (
        "account", "first_recent", "keywords", "mailbox", "modseq", "name", "own", "read_only",
        "uids", "uidvalidity", "vanished",
    )  # fmt: skip

    def __init__(
        self,
        mailbox: Mailbox,
        uids: array[int],
        *,
        read_only: bool,
        first_recent: int,
        keywords: frozenset[bytes],
    ) -> None:
        self.account = mailbox.account
        self.mailbox = mailbox.mailbox
        self.name = mailbox.name
        self.uidvalidity = mailbox.uidvalidity
        self.modseq = mailbox.highestmodseq
        self.uids = uids
        self.read_only = read_only
        self.first_recent = first_recent
        self.keywords = keywords
        self.vanished: UIDSet | None = None
        self.own: dict[int, int] | None = None

    def is_of(self, mailbox: Mailbox) -> bool:
        return (self.account, self.mailbox) == (mailbox.account, mailbox.mailbox)

    # -- numbers ------------------------------------------------------------------------------

    @property
    def exists(self) -> int:
        return len(self.uids)

    @property
    def recent(self) -> int:
        return len(self.uids) - bisect_left(self.uids, self.first_recent)

    @property
    def last_uid(self) -> int:
        return self.uids[-1] if self.uids else 0

    def seq(self, uid: int) -> int | None:
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else None

    def seqs(self, rows: Sequence[MessageRow]) -> Sequence[int]:
        """The numbers of ascending rows, all of which the view knows."""
        if not rows:
            return ()
        uids = self.uids
        at = bisect_left(uids, rows[0].uid)
        stop = at + len(rows)
        if stop <= len(uids) and uids[stop - 1] == rows[-1].uid:
            return range(at + 1, stop + 1)
        numbers = []
        for row in rows:
            at = bisect_left(uids, row.uid, at)
            numbers.append(at + 1)
        return numbers

    def uids_of(self, messages: SequenceSet, *, uid: bool, strict: bool = True) -> UIDSet:
        """The UIDs meant by a set of UIDs or of sequence numbers.

        strict: sequence numbers that do not exist are a fault (RFC 3501 §9, seq-number), apart
        from ranges that end in `*` over an empty mailbox, which clients send all the same.
        Raises: ProtocolError.
        """
        uids = self.uids
        count = len(uids)
        if uid:
            return self.known(messages.resolve(self.last_uid))
        if strict and messages.largest(count) > count and (count or not messages.only_to_star):
            raise ProtocolError("There is no message of that number")
        return UIDSet.of_ranges(
            (uids[low - 1], uids[min(high, count) - 1])
            for low, high in messages.resolve(count).ranges
            if low <= count
        )

    def known(self, wanted: UIDSet) -> UIDSet:
        """Without what is newer than the view."""
        last = self.last_uid
        ranges = wanted.ranges
        if not ranges or ranges[-1][1] <= last:
            return wanted
        return UIDSet(tuple((low, min(high, last)) for low, high in ranges if low <= last))

    def numbers(self, found: Sequence[int]) -> Sequence[int]:
        """The numbers of ascending UIDs, all of which the view knows."""
        if not found:
            return ()
        uids = self.uids
        at = bisect_left(uids, found[0])
        stop = at + len(found)
        if stop <= len(uids) and uids[stop - 1] == found[-1]:
            return range(at + 1, stop + 1)
        at = 0
        out = []
        for uid in found:
            if uids[at] != uid:
                at = bisect_left(uids, uid, at)
            at += 1
            out.append(at)
        return out

    def count(self, wanted: UIDSet) -> int:
        """How many messages of the view are in a set of UIDs."""
        uids = self.uids
        return sum(bisect_right(uids, high) - bisect_left(uids, low) for low, high in wanted.ranges)

    def numbers_of(self, wanted: UIDSet) -> UIDSet:
        """The sequence numbers of a set of UIDs."""
        uids = self.uids
        spans = (
            (bisect_left(uids, low) + 1, bisect_right(uids, high)) for low, high in wanted.ranges
        )
        return UIDSet.of_ranges((low, high) for low, high in spans if low <= high)

    def misses(self, wanted: UIDSet) -> bool:
        """Whether a message of the set is known to be expunged, though not told."""
        gone = self.vanished
        return gone is not None and any(self.count(UIDSet((pair,))) for pair in _meet(gone, wanted))

    # -- what happened ------------------------------------------------------------------------

    def remember(self, uid: int, modseq: int) -> None:
        """The view's own session changed the message and has told its client: it is no news."""
        if self.own is None:
            self.own = {}
        self.own[uid] = modseq

    def forget(self, uid: int) -> None:
        """The client was not told after all."""
        if self.own is not None:
            self.own.pop(uid, None)

    def apply(self, changes: Changes, *, expunges: bool, modseqs: bool) -> list[bytes]:
        """Takes in what happened; returns the responses that tell it.

        expunges: EXPUNGE may be sent now; else such news waits.
        """
        out: list[bytes] = []
        self._vanish(changes.vanished)
        if expunges and self.vanished is not None:
            out += self._expunge(self.vanished)
            self.vanished = None
        own, self.own = self.own, None
        last = self.last_uid
        told: list[MessageRow] = []
        added = False
        for row in changes.changed:
            if row.uid > last:
                self.uids.append(row.uid)
                added = True
            elif own is None or own.get(row.uid) != row.modseq:
                told.append(row)
        if added:
            out.append(b"* %d EXISTS\r\n* %d RECENT\r\n" % (self.exists, self.recent))
        if told:
            out += self.new_keywords(told)
            out += self.flag_lines(told, modseqs=modseqs)
        self.modseq = max(self.modseq, changes.highestmodseq)
        return out

    def flag_lines(
        self, rows: Sequence[MessageRow], *, modseqs: bool, uids: bool = True
    ) -> list[bytes]:
        """FETCH responses with FLAGS and, when wanted, UID and MODSEQ.

        News always names the UID; the answer to a STORE by numbers does not (RFC 3501 §6.4.6).
        """
        render_flags = self.flag_renderer()
        out = []
        for seq, row in zip(self.seqs(rows), rows, strict=True):
            uid = b"UID %d " % row.uid if uids else b""
            modseq = b" MODSEQ (%d)" % row.modseq if modseqs else b""
            flags = render_flags(row)
            out.append(b"* %d FETCH (%bFLAGS (%b)%b)\r\n" % (seq, uid, flags, modseq))
        return out

    def flag_renderer(self) -> FlagRenderer:
        return FlagRenderer(self.first_recent)

    def new_keywords(self, rows: Sequence[MessageRow]) -> list[bytes]:
        """A FLAGS response when a keyword shows up that the client has not been told of."""
        return self.new_words({word for row in rows if row.keywords for word in row.keywords})

    def new_words(self, words: set[bytes]) -> list[bytes]:
        """The same for keywords by themselves."""
        fresh = words - self.keywords
        if not fresh:
            return []
        self.keywords |= fresh
        return [flags_response(self.keywords)]

    def _vanish(self, gone: UIDSet) -> None:
        met = [pair for pair in self.known(gone).ranges if self.count(UIDSet((pair,)))]
        if met:
            before = self.vanished.ranges if self.vanished is not None else ()
            self.vanished = UIDSet.of_ranges((*before, *met))

    def _expunge(self, gone: UIDSet) -> list[bytes]:
        """Takes messages out, told from the highest down: so each number is right when read."""
        uids = self.uids
        out: list[bytes] = []
        kept = array("L")
        at = 0
        for low, high in gone.ranges:
            start, stop = bisect_left(uids, low), bisect_right(uids, high)
            kept += uids[at:start]
            out += [b"* %d EXPUNGE\r\n" % number for number in range(start + 1, stop + 1)]
            at = stop
        kept += uids[at:]
        self.uids = kept
        out.reverse()
        return out


_PLAIN = tuple(render.flags(bits) for bits in range(32))
_PLAIN_RECENT = tuple(render.flags(bits, recent=True) for bits in range(32))


class FlagRenderer:
    """Flags as FETCH tells them, \\Recent included; each combination is rendered once."""

    __slots__ = ("_first_recent", "_known")

    def __init__(self, first_recent: int) -> None:
        self._first_recent = first_recent
        self._known: dict[tuple[int, tuple[bytes, ...], bool], bytes] = {}

    def __call__(self, row: MessageRow) -> bytes:
        recent = row.uid >= self._first_recent
        if not row.keywords:
            return (_PLAIN_RECENT if recent else _PLAIN)[row.flags]
        return self._worded(int(row.flags), row.keywords, recent)

    def _worded(self, flags: int, keywords: tuple[bytes, ...], recent: bool) -> bytes:
        key = (flags, keywords, recent)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = render.flags(*key)
        return found

    def texts(self, rows: Sequence[FlagsRow]) -> list[bytes]:
        """The same for ascending rows as `Store.flags` gives them."""
        first = self._first_recent
        if rows[0][0] < first <= rows[-1][0]:
            at = bisect_left(rows, first, key=itemgetter(0))
            return self.texts(rows[:at]) + self.texts(rows[at:])
        recent = rows[0][0] >= first
        plain = _PLAIN_RECENT if recent else _PLAIN
        return [
            self._worded(flags, unpack(packed), recent) if packed else plain[flags]
            for _, _, flags, packed in rows
        ]

    def column(self, rows: Sequence[MessageRow]) -> list[bytes]:
        """The same for many ascending rows, most of which have no keywords."""
        first = self._first_recent
        if not rows or rows[0].uid < first <= rows[-1].uid:
            return [self(row) for row in rows]
        plain = _PLAIN_RECENT if rows[0].uid >= first else _PLAIN
        return [self(row) if row.keywords else plain[row.flags] for row in rows]


def flags_response(keywords: frozenset[bytes]) -> bytes:
    return b"* FLAGS (%b)\r\n" % render.flags(31, sorted(keywords))


def _meet(one: UIDSet, other: UIDSet) -> list[tuple[int, int]]:
    """What is in both."""
    out = []
    for low, high in one.ranges:
        for first, last in other.ranges:
            if first <= high and low <= last:
                out.append((max(low, first), min(high, last)))
    return out
