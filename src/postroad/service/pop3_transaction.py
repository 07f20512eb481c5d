"""POP3 after login: the maildrop is listed, read, marked, and at QUIT what was marked goes.

Messages travel in slices with backpressure; nothing of one is kept.
Source: RFC 1939 §5-§7.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator
from typing import assert_never

from postroad.mail.errors import Unavailable
from postroad.mail.uidset import UIDSet
from postroad.net.contract import Stream
from postroad.protocol.pop3 import commands as c
from postroad.protocol.pop3 import replies
from postroad.protocol.pop3.maildrop import Maildrop
from postroad.service.maildrop_sizes import unended_messages
from postroad.service.site import Site
from postroad.store.operations import Expunge
from postroad.store.values import MessageRow, Want, unix

SLICE_OCTETS = 256 << 10
"""Of a message, read and written at a time."""
ON_LOOP_OCTETS_MAX = 64 << 10
"""What is read without a thread: one small pack record."""
FLUSH_OCTETS = 64 << 10
ROWS_AHEAD = 50
"""Some 100 KB of rows; each by itself costs as much as its message."""
WRITE_TIMEOUT_S = 300.0


class CutShort(Exception):
    """A message could not be sent to its end: only the connection's end can say so."""


class Outbound:
    """What is on its way to the client: answers to pipelined commands go out together."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []
        self._octets = 0

    @property
    def is_full(self) -> bool:
        return self._octets > FLUSH_OCTETS

    def say(self, octets: bytes) -> None:
        self._waiting.append(octets)
        self._octets += len(octets)

    async def flush(self) -> None:
        """Raises: TimedOut, Disconnected."""
        if self._waiting:
            out, self._waiting, self._octets = self._waiting, [], 0
            await self._stream.write(out, WRITE_TIMEOUT_S)


Command = c.Stat | c.List | c.Uidl | c.Retr | c.Dele | c.Top | c.Noop | c.Rset


class Transaction:
    """One session's maildrop, whose lock the caller holds.

    retrieved, octets, deleted: for the trace.
    """

    def __init__(
        self, site: Site, account: int, mailbox: int, drop: Maildrop, out: Outbound
    ) -> None:
        self.drop = drop
        self.retrieved = 0
        self.octets = 0
        self.deleted = 0
        self._site = site
        self._account = account
        self._mailbox = mailbox
        self._out = out
        self._ahead: tuple[Want, dict[int, MessageRow]] = (Want.BASE, {})

    @classmethod
    async def open(
        cls, site: Site, account: int, out: Outbound, note: int | None = None
    ) -> Transaction:
        """The INBOX as it is now. note: the lock file's descriptor. Raises: Unavailable."""
        inbox = site.store.mailbox(account, "INBOX")
        if inbox is None:
            raise Unavailable(f"account {account} has no INBOX")
        unended = await unended_messages(site, account, inbox, note)
        uids, sizes = array("L"), array("Q")
        everything = UIDSet.of_ranges([(1, max(inbox.uidnext - 1, 1))])
        for rows in site.store.messages(account, inbox.mailbox, everything):
            uids.extend(row.uid for row in rows)
            sizes.extend(row.size + 2 * (row.uid in unended) for row in rows)
            await asyncio.sleep(0)
        drop = Maildrop(inbox.uidvalidity, uids, sizes)
        return cls(site, account, inbox.mailbox, drop, out)

    @property
    def is_open(self) -> bool:
        """False once the account was removed: its sessions end."""
        inbox = self._site.store.mailbox(self._account, "INBOX")
        return inbox is not None and inbox.mailbox == self._mailbox

    async def update(self) -> None:
        """QUIT: removes what was marked, durably. Raises: Unavailable, StateError."""
        marked = self.drop.marked
        if not marked:
            return
        await self._site.database.submit(
            Expunge(
                account=self._account,
                mailbox=self._mailbox,
                uids=list(marked.ranges),
                only_deleted=False,
                now=unix(self._site.clock.now()),
            )
        )
        self.deleted = len(marked)

    async def obey(self, command: Command) -> None:
        """Answers one command. Raises: Unavailable (nothing was said yet), CutShort."""
        drop = self.drop
        match command:
            case c.Noop():
                self._out.say(replies.ok())
            case c.Stat():
                self._out.say(replies.ok(f"{drop.count} {drop.size}"))
            case c.Rset():
                drop.unmark_all()
                self._out.say(replies.ok(f"{drop.count} messages, none marked"))
            case c.List(number):
                if number is None:
                    lines = drop.scan_listing()
                    await self._listing(f"{drop.count} messages ({drop.size} octets)", lines)
                elif self._is_there(number):
                    self._out.say(replies.ok(f"{number} {drop.octets(number)}"))
            case c.Uidl(number):
                if number is None:
                    await self._listing("unique ids follow", drop.unique_id_listing())
                elif self._is_there(number):
                    self._out.say(replies.ok(f"{number} {drop.unique_id(number)}"))
            case c.Dele(number):
                if self._is_there(number):
                    drop.mark(number)
                    self._out.say(replies.ok(f"message {number} goes at QUIT"))
            case c.Retr(number):
                if self._is_there(number):
                    await self._retr(number)
            case c.Top(number, lines_max):
                if self._is_there(number):
                    await self._top(number, lines_max)
            case _:
                assert_never(command)

    def _is_there(self, number: int) -> bool:
        """False when that has been answered."""
        if fault := self.drop.fault(number):
            self._out.say(replies.err(fault))
            return False
        return True

    async def _listing(self, first: str, lines: Iterator[bytes]) -> None:
        for octets in replies.listing(first, lines):
            self._out.say(octets)
            if self._out.is_full:
                await self._out.flush()

    def _row(self, number: int, want: Want) -> MessageRow | None:
        """None, and answered, when another session has expunged it meanwhile.

        Clients ask for one after the other: the rows that follow are read along.
        """
        uid = self.drop.uid(number)
        ahead, known = self._ahead
        if ahead != want or uid not in known:
            last = self.drop.uid(min(number + ROWS_AHEAD, self.drop.last))
            uids = UIDSet(((uid, last),))
            store = self._site.store
            slices = store.messages(self._account, self._mailbox, uids, want, ROWS_AHEAD)
            known = {row.uid: row for row in next(slices, [])}
            self._ahead = want, known
        row = known.pop(uid, None)
        if row is not None:
            return row
        self._out.say(replies.err(f"message {number} was removed by another session", "SYS/PERM"))
        return None

    async def _retr(self, number: int) -> None:
        row = self._row(number, Want.OCTETS)
        if row is None:
            return
        first = f"{self.drop.octets(number)} octets"
        if row.size <= ON_LOOP_OCTETS_MAX:
            octets = self._read(row, 0, row.size)
            self._out.say(replies.ok(first) + replies.stuffed(octets))
            self.octets += row.size
        else:
            await self._send(first, self._slices(row, 0))
        self.retrieved += 1

    async def _top(self, number: int, lines_max: int) -> None:
        row = self._row(number, Want.OCTETS | Want.HEADER)
        if row is not None:
            assert row.header is not None
            await self._send("top of the message follows", self._top_slices(row, lines_max))

    async def _send(self, first: str, slices: AsyncIterator[bytes]) -> None:
        """A message, stuffed. What fails before its first octets is read is answered."""
        stuffer = replies.DotStuffer()
        begun = False
        try:
            async for octets in slices:
                if not begun:
                    begun = True
                    self._out.say(replies.ok(first))
                self._out.say(stuffer.feed(octets))
                self.octets += len(octets)
                if self._out.is_full:
                    await self._out.flush()
        except Unavailable as error:
            if begun:
                raise CutShort(error.what) from error
            raise
        if not begun:
            self._out.say(replies.ok(first))
        self._out.say(stuffer.end())

    async def _slices(
        self, row: MessageRow, start: int, step: int = SLICE_OCTETS
    ) -> AsyncIterator[bytes]:
        """The octets from `start` on. Raises: Unavailable."""
        while start < row.size:
            stop = min(start + step, row.size)
            if row.size <= ON_LOOP_OCTETS_MAX:
                yield self._read(row, start, stop)
            else:
                yield await asyncio.to_thread(self._read, row, start, stop)
            start = stop

    def _read(self, row: MessageRow, start: int, stop: int) -> bytes:
        """Raises: Unavailable."""
        octets = self._site.store.octets_range(row, start, stop)
        if len(octets) != stop - start:
            raise Unavailable("a stored message is shorter than its row says")
        return octets

    async def _top_slices(self, row: MessageRow, lines_max: int) -> AsyncIterator[bytes]:
        assert row.header is not None
        yield row.header
        left = lines_max
        if not left:
            return
        async for octets in self._slices(row, len(row.header)):
            count = octets.count(b"\n")
            if count < left:
                left -= count
                yield octets
                continue
            end = -1
            for _ in range(left):
                end = octets.index(b"\n", end + 1)
            yield octets[: end + 1]
            return
