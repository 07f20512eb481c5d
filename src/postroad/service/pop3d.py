"""POP3 for clients: the core meets a stream, the INBOX is the maildrop.

A session sees the INBOX as it was at login, alone among POP3 sessions (IMAP goes on beside it).
DELE only marks; QUIT removes in one unit of work, and an end without QUIT removes nothing. RETR
changes no flag: RFC 1939 knows none, and other devices keep seeing what they have not read.
Source: RFC 1939 §3-§7, RFC 2449 §5-§8, RFC 2595 §4, RFC 5034 §4, RFC 3206 §4, RFC 6856 §2,
RFC 8314 §3.3. Departs: RFC 6856 §2 (messages with UTF-8 headers go out as they are, with UTF8 or
without: rewriting them would break signatures); APOP (RFC 1939 §7) needs the password in plain.
"""

from __future__ import annotations

import asyncio
import secrets
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import assert_never

from postroad import __version__
from postroad.directory.values import Account
from postroad.mail import limits
from postroad.mail.errors import ProtocolError, StateError, Unavailable
from postroad.mail.uidset import UIDSet
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.protocol.pop3 import commands as c
from postroad.protocol.pop3 import replies
from postroad.protocol.pop3.maildrop import Maildrop
from postroad.protocol.pop3.server import NEED_DATA, Bad, ServerConnection, State
from postroad.protocol.sasl import decode_initial, decode_response, encode_challenge
from postroad.service.authenticate import (
    Authenticated,
    Exchange,
    Rejected,
    check_password,
    login_allowed,
    mechanisms,
)
from postroad.service.maildrop_lock import InUse, maildrop_lock
from postroad.service.site import Site
from postroad.store.operations import Expunge
from postroad.store.values import MessageRow, Want
from postroad.trace import Event

SLICE_OCTETS = 256 << 10
"""Of a message, read and written at a time."""
ON_LOOP_OCTETS_MAX = 64 << 10
"""What is read without a thread: one small pack record."""
FLUSH_OCTETS = 64 << 10
WRITE_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class POP3SessionEnded(Event):
    """how: "quit", "closed", "timed out", "drained", "too many errors", "too many failures"."""

    peer: str
    login: str
    how: str
    retrieved: int
    octets: int
    deleted: int


class _End(Exception):
    """The session is over; the goodbye has been said."""


class POP3Session:
    """One connection."""

    def __init__(self, site: Site, stream: Stream) -> None:
        self.site = site
        self.stream = stream
        self.session = secrets.token_hex(6)
        self._core = ServerConnection()
        self._out: list[bytes] = []
        self._out_octets = 0
        self._maildrop: Maildrop | None = None
        self._account: Account | None = None
        self._inbox = 0
        self._locks = ExitStack()
        self._bad = 0
        self._failures = 0
        self._how = "closed"
        self._retrieved = 0
        self._octets = 0
        self._deleted = 0
        self._drained = False
        self._reading: asyncio.Task[None] | None = None

    # -- the outermost frame ------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self._converse()
        except _End:
            pass
        except TimedOut:
            self._how = "timed out"
        except (Disconnected, TLSFailed):
            self._how = "closed"
        finally:
            self._locks.close()
            self._core.close()
            self.site.trace(
                POP3SessionEnded(
                    session=self.session,
                    peer=self.stream.peer[0],
                    login=self._account.address if self._account else "",
                    how=self._how,
                    retrieved=self._retrieved,
                    octets=self._octets,
                    deleted=self._deleted,
                )
            )

    def drain(self) -> None:
        """Ends the session: now when it waits for the client, else after its command."""
        self._drained = True
        if self._reading is not None:
            self._reading.cancel()

    async def _converse(self) -> None:
        self._say(replies.ok(f"{self.site.hostname} POP3 server ready"))
        while True:
            event = self._core.next_event()
            if self._drained:
                await self._goodbye("drained", "SYS/TEMP", "the server is stopping")
            if event is NEED_DATA:
                await self._read()
            elif isinstance(event, Bad):
                self._say(replies.err(event.text))
                await self._count_bad()
            else:
                await self._answer(event)
            if self._out_octets > FLUSH_OCTETS:
                await self._flush()

    async def _answer(self, command: c.Command) -> None:
        """A fault of ours or of the disk costs the command, never more."""
        try:
            await self._obey(command)
        except Unavailable:
            self._say(replies.err("temporary failure, try again later", "SYS/TEMP"))

    async def _read(self) -> None:
        await self._flush()
        self._reading = asyncio.current_task()
        try:
            octets = await self.stream.read(limits.POP3_IDLE_TIMEOUT_S)
        except asyncio.CancelledError:
            if not self._drained:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            await self._goodbye("drained", "SYS/TEMP", "the server is stopping")
        finally:
            self._reading = None
        if not octets:
            raise _End
        self._core.receive_data(octets)

    def _say(self, octets: bytes) -> None:
        self._out.append(octets)
        self._out_octets += len(octets)

    async def _flush(self) -> None:
        if self._out:
            out, self._out, self._out_octets = self._out, [], 0
            await self.stream.write(out, WRITE_TIMEOUT_S)

    async def _goodbye(self, how: str, code: str, text: str) -> None:
        """Raises: _End."""
        self._how = how
        self._say(replies.err(text, code))
        await self._flush()
        raise _End

    async def _count_bad(self) -> None:
        self._bad += 1
        if self._bad >= limits.POP3_BAD_COMMANDS_MAX:
            await self._goodbye("too many errors", "SYS/PERM", "too many errors, goodbye")

    # -- one command --------------------------------------------------------------------------

    async def _obey(self, command: c.Command) -> None:
        match command:
            case c.Capa():
                self._capa()
            case c.Quit():
                await self._quit()
            case c.Stls():
                await self._stls()
            case c.Utf8():
                self._say(replies.ok("UTF-8 it is"))
            case c.User():
                self._user()
            case c.Pass():
                await self._pass(command)
            case c.Auth():
                await self._auth(command)
            case c.AuthResponse():
                raise AssertionError("responses are read where the exchange is")
            case _:
                await self._obey_in_transaction(command)

    async def _obey_in_transaction(
        self, command: c.Stat | c.List | c.Uidl | c.Retr | c.Dele | c.Top | c.Noop | c.Rset
    ) -> None:
        drop = self._maildrop
        assert drop is not None, "the core lets these through after login only"
        match command:
            case c.Noop():
                self._say(replies.ok())
            case c.Stat():
                self._say(replies.ok(f"{drop.count} {drop.size}"))
            case c.Rset():
                drop.unmark_all()
                self._say(replies.ok(f"{drop.count} messages, none marked"))
            case c.List(number):
                if number is None:
                    lines = drop.scan_listing()
                    await self._listing(f"{drop.count} messages ({drop.size} octets)", lines)
                elif self._is_there(drop, number):
                    self._say(replies.ok(f"{number} {drop.octets(number)}"))
            case c.Uidl(number):
                if number is None:
                    await self._listing("unique ids follow", drop.unique_id_listing())
                elif self._is_there(drop, number):
                    self._say(replies.ok(f"{number} {drop.unique_id(number)}"))
            case c.Dele(number):
                if self._is_there(drop, number):
                    drop.mark(number)
                    self._say(replies.ok(f"message {number} goes at QUIT"))
            case c.Retr(number):
                if self._is_there(drop, number):
                    await self._retr(drop, number)
            case c.Top(number, lines_max):
                if self._is_there(drop, number):
                    await self._top(drop, number, lines_max)
            case _:
                assert_never(command)

    # -- before login -------------------------------------------------------------------------

    def _capa(self) -> None:
        """RFC 2449 §5, §6; what cannot be used now is not announced."""
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"]
        lines.append("UTF8 USER")
        if self._core.state is State.AUTHORIZATION:
            if offered := mechanisms(self.site, self.stream):
                lines += ["USER", "SASL " + " ".join(offered)]
            if self._can_start_tls():
                lines.append("STLS")
        lines.append(f"IMPLEMENTATION Postroad-{__version__}")
        for octets in replies.listing("capabilities follow", (line.encode() for line in lines)):
            self._say(octets)

    def _can_start_tls(self) -> bool:
        return self.stream.tls is None and self.site.tls.server is not None

    async def _stls(self) -> None:
        context = self.site.tls.server
        if not self._can_start_tls() or context is None:
            self._say(replies.err("TLS is there already" if self.stream.tls else "no TLS here"))
            return
        if self._core.has_unread:
            await self._goodbye(
                "too many errors", "SYS/PERM", "nothing may follow STLS before the handshake"
            )
        self._say(replies.ok("begin TLS now"))
        await self._flush()
        await self.stream.start_tls_server(context, limits.TLS_HANDSHAKE_TIMEOUT_S)
        self._core.tls_started()

    def _user(self) -> None:
        if login_allowed(self.site, self.stream):
            self._say(replies.ok("send PASS"))
        else:
            self._core.user = None
            self._say(replies.err("login needs TLS: STLS first"))

    async def _pass(self, command: c.Pass) -> None:
        login, self._core.user = self._core.user, None
        assert login is not None, "the core lets PASS through after USER only"
        account = await check_password(
            self.site, self.stream, login, command.password, self.session
        )
        if account is None:
            await self._refuse_login()
        else:
            await self._enter(account)

    async def _auth(self, command: c.Auth) -> None:
        offered = mechanisms(self.site, self.stream)
        if not command.mechanism:
            for octets in replies.listing("mechanisms follow", (name.encode() for name in offered)):
                self._say(octets)
            return
        if not offered:
            self._say(replies.err("login needs TLS: STLS first"))
            return
        try:
            exchange = Exchange(self.site, self.stream, command.mechanism, self.session)
            data = decode_initial(command.initial)
        except ProtocolError:
            self._say(replies.err("no such mechanism, or malformed base64"))
            await self._count_bad()
            return
        self._core.begin_exchange()
        try:
            account = await self._exchange(exchange, data)
        finally:
            self._core.end_exchange()
        if account is not None:
            await self._enter(account)

    async def _exchange(self, exchange: Exchange, data: bytes | None) -> Account | None:
        """The account; None when it failed, and that has been answered."""
        while True:
            match await exchange.respond(data):
                case Authenticated(account):
                    return account
                case Rejected():
                    await self._refuse_login()
                    return None
                case challenge:
                    self._say(replies.challenge(encode_challenge(challenge.octets)))
            line = await self._response()
            if line == b"*":
                self._say(replies.err("cancelled"))
                return None
            try:
                data = decode_response(line)
            except ProtocolError:
                self._say(replies.err("malformed base64"))
                await self._count_bad()
                return None

    async def _response(self) -> bytes:
        while not isinstance(event := self._core.next_event(), c.AuthResponse):
            assert event is NEED_DATA, "within an exchange every line is a response"
            await self._read()
        return event.line

    async def _refuse_login(self) -> None:
        """The delay is behind us: `authenticate` has taken it."""
        self._failures += 1
        if self._failures >= limits.LOGIN_FAILURES_MAX:
            await self._goodbye("too many failures", "AUTH", "too many failures, goodbye")
        self._say(replies.err("wrong login or password", "AUTH"))

    async def _enter(self, account: Account) -> None:
        """Locks the maildrop and takes the snapshot (RFC 1939 §4). Raises: Unavailable."""
        with ExitStack() as undo:
            try:
                undo.enter_context(maildrop_lock(self.site.run_dir, self.site, account.account))
            except InUse:
                self._say(replies.err("another session has this maildrop", "IN-USE"))
                return
            drop = await self._snapshot(account.account)
            self._locks = undo.pop_all()
        self._maildrop = drop
        self._account = account
        self._core.authenticated()
        self._say(replies.ok(f"{drop.count} messages ({drop.size} octets)"))

    async def _snapshot(self, account: int) -> Maildrop:
        store = self.site.store
        inbox = store.mailbox(account, "INBOX")
        if inbox is None:
            raise Unavailable(f"account {account} has no INBOX")
        self._inbox = inbox.mailbox
        uids, sizes = array("L"), array("Q")
        everything = UIDSet.of_ranges([(1, max(inbox.uidnext - 1, 1))])
        for rows in store.messages(account, inbox.mailbox, everything):
            uids.extend(row.uid for row in rows)
            sizes.extend(row.size for row in rows)
            await asyncio.sleep(0)
        return Maildrop(inbox.uidvalidity, uids, sizes)

    # -- after login --------------------------------------------------------------------------

    def _is_there(self, drop: Maildrop, number: int) -> bool:
        """False when that has been answered."""
        if fault := drop.fault(number):
            self._say(replies.err(fault))
            return False
        return True

    async def _listing(self, first: str, lines: Iterator[bytes]) -> None:
        for octets in replies.listing(first, lines):
            self._say(octets)
            await self._flush()

    def _row(self, drop: Maildrop, number: int, want: Want) -> MessageRow | None:
        """None, and answered, when another session has expunged it meanwhile."""
        assert self._account is not None
        uids = UIDSet.of([drop.uid(number)])
        for rows in self.site.store.messages(self._account.account, self._inbox, uids, want):
            for row in rows:
                return row
        self._say(replies.err(f"message {number} was removed by another session", "SYS/PERM"))
        return None

    async def _retr(self, drop: Maildrop, number: int) -> None:
        row = self._row(drop, number, Want.OCTETS)
        if row is not None:
            await self._send(f"{row.size} octets", self._slices(row, 0))
            self._retrieved += 1

    async def _top(self, drop: Maildrop, number: int, lines_max: int) -> None:
        row = self._row(drop, number, Want.OCTETS | Want.HEADER)
        if row is not None:
            assert row.header is not None
            await self._send("top of the message follows", self._top_slices(row, lines_max))

    async def _send(self, first: str, slices: AsyncIterator[bytes]) -> None:
        """A message, stuffed. What fails before the first octet is answered; later only the end
        of the connection can say that the message is not whole."""
        stuffer = replies.DotStuffer()
        self._say(replies.ok(first))
        sent = False
        try:
            async for octets in slices:
                self._say(stuffer.feed(octets))
                if self._out_octets > FLUSH_OCTETS:
                    sent = True
                    await self._flush()
                self._octets += len(octets)
        except Unavailable:
            if not sent:
                self._take_back(first)
                raise
            self._how = "closed"
            raise _End from None
        self._say(stuffer.end())

    def _take_back(self, first: str) -> None:
        """Unsays the beginning of an answer that nobody has seen."""
        at = len(self._out) - 1 - self._out[::-1].index(replies.ok(first))
        del self._out[at:]
        self._out_octets = sum(len(octets) for octets in self._out)

    async def _slices(
        self, row: MessageRow, start: int, step: int = SLICE_OCTETS
    ) -> AsyncIterator[bytes]:
        """The octets from `start` on. Raises: Unavailable."""
        while start < row.size:
            stop = min(start + step, row.size)
            if row.size <= ON_LOOP_OCTETS_MAX:
                octets = self.site.store.octets_range(row, start, stop)
            else:
                octets = await asyncio.to_thread(self.site.store.octets_range, row, start, stop)
            if len(octets) != stop - start:
                raise Unavailable("a stored message is shorter than its row says")
            yield octets
            start = stop

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

    async def _quit(self) -> None:
        """RFC 1939 §6: the UPDATE state. Removal is durable before it is confirmed."""
        drop, account = self._maildrop, self._account
        marked = drop.marked if drop is not None else UIDSet()
        if marked and account is not None:
            operation = Expunge(
                account=account.account,
                mailbox=self._inbox,
                uids=list(marked.ranges),
                only_deleted=False,
            )
            try:
                await self.site.database.submit(operation)
            except (Unavailable, StateError):
                await self._goodbye("quit", "SYS/TEMP", "the marked messages were not removed")
            self._deleted = len(marked)
        self._locks.close()
        self._how = "quit"
        self._say(replies.ok("goodbye"))
        await self._flush()
        raise _End


class POP3Service:
    """Serves 110, or 995 with `implicit_tls`. `drain` ends sessions soon; new ones at once."""

    def __init__(self, site: Site, implicit_tls: bool = False) -> None:
        self._site = site
        self._implicit_tls = implicit_tls
        self._sessions: set[POP3Session] = set()
        self._draining = False

    async def handle(self, stream: Stream) -> None:
        """Serves one stream to its end and closes it."""
        session = POP3Session(self._site, stream)
        self._sessions.add(session)
        try:
            context = self._site.tls.server
            if self._implicit_tls and stream.tls is None and context is not None:
                await stream.start_tls_server(context, limits.TLS_HANDSHAKE_TIMEOUT_S)
            if self._draining:
                session.drain()
            await session.run()
        except (TLSFailed, TimedOut, Disconnected):
            return
        finally:
            self._sessions.discard(session)
            await stream.close()

    def drain(self) -> None:
        self._draining = True
        for session in tuple(self._sessions):
            session.drain()
