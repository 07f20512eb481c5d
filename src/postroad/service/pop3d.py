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
from contextlib import ExitStack
from dataclasses import dataclass

from postroad import __version__
from postroad.directory.values import Account
from postroad.mail import limits
from postroad.mail.errors import ProtocolError, StateError, Unavailable
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.protocol.pop3 import commands as c
from postroad.protocol.pop3 import replies
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
from postroad.service.pop3_transaction import CutShort, Outbound, Transaction
from postroad.service.site import Site
from postroad.trace import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class POP3SessionEnded(Event):
    """how: "quit", "closed", "timed out", "drained", "too many errors", "too many failures",
    "account removed"."""

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
        self._out = Outbound(stream)
        self._transaction: Transaction | None = None
        self._account: Account | None = None
        self._locks = ExitStack()
        self._bad = 0
        self._failures = 0
        self._how = "closed"
        self._drained = False
        self._is_checked = False
        """The account was there when the last octets came."""
        self._reading: asyncio.Task[None] | None = None

    # -- the outermost frame ------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self._converse()
        except _End:
            pass
        except TimedOut:
            self._how = "timed out"
        except (Disconnected, TLSFailed, CutShort):
            self._how = "closed"
        finally:
            self._locks.close()
            self._core.close()
            done = self._transaction
            self.site.trace(
                POP3SessionEnded(
                    session=self.session,
                    peer=self.stream.peer[0],
                    login=self._account.address if self._account else "",
                    how=self._how,
                    retrieved=done.retrieved if done else 0,
                    octets=done.octets if done else 0,
                    deleted=done.deleted if done else 0,
                )
            )

    def drain(self) -> None:
        """Ends the session: now when it waits for the client, else after its command."""
        self._drained = True
        if self._reading is not None:
            self._reading.cancel()

    async def _converse(self) -> None:
        self._out.say(replies.ok(f"{self.site.hostname} POP3 server ready"))
        while True:
            event = self._core.next_event()
            if self._drained:
                await self._goodbye("drained", "SYS/TEMP", "the server is stopping")
            if event is NEED_DATA:
                await self._read()
            elif isinstance(event, Bad):
                self._out.say(replies.err(event.text))
                await self._count_bad()
            else:
                await self._answer(event)
            if self._out.is_full:
                await self._out.flush()

    async def _answer(self, command: c.Command) -> None:
        """A fault of ours or of the disk costs the command, never more."""
        try:
            await self._obey(command)
        except Unavailable:
            self._out.say(replies.err("temporary failure, try again later", "SYS/TEMP"))

    async def _read(self) -> None:
        self._is_checked = False
        await self._out.flush()
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

    async def _goodbye(self, how: str, code: str, text: str) -> None:
        """Raises: _End."""
        self._how = how
        self._out.say(replies.err(text, code))
        await self._out.flush()
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
                self._out.say(replies.ok("UTF-8 it is"))
            case c.User():
                self._user()
            case c.Pass():
                await self._pass(command)
            case c.Auth():
                await self._auth(command)
            case c.AuthResponse():
                raise AssertionError("responses are read where the exchange is")
            case _:
                assert self._transaction is not None, "the core lets these through after login only"
                if not self._is_checked and not self._transaction.is_open:
                    await self._goodbye("account removed", "SYS/PERM", "the account is gone")
                self._is_checked = True
                await self._transaction.obey(command)

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
            self._out.say(octets)

    def _can_start_tls(self) -> bool:
        return self.stream.tls is None and self.site.tls.clients is not None

    async def _stls(self) -> None:
        context = self.site.tls.clients
        if not self._can_start_tls() or context is None:
            self._out.say(replies.err("TLS is there already" if self.stream.tls else "no TLS here"))
            return
        if self._core.has_unread:
            await self._goodbye(
                "too many errors", "SYS/PERM", "nothing may follow STLS before the handshake"
            )
        self._out.say(replies.ok("begin TLS now"))
        await self._out.flush()
        await self.stream.start_tls_server(context, limits.TLS_HANDSHAKE_TIMEOUT_S)
        self._core.tls_started()

    def _user(self) -> None:
        if login_allowed(self.site, self.stream):
            self._out.say(replies.ok("send PASS"))
        else:
            self._core.user = None
            self._out.say(replies.err("login needs TLS: STLS first"))

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
                self._out.say(octets)
            return
        if not offered:
            self._out.say(replies.err("login needs TLS: STLS first"))
            return
        try:
            exchange = Exchange(self.site, self.stream, command.mechanism, self.session)
            data = decode_initial(command.initial)
        except ProtocolError:
            self._out.say(replies.err("no such mechanism, or malformed base64"))
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
                    self._out.say(replies.challenge(encode_challenge(challenge.octets)))
            line = await self._response()
            if line == b"*":
                self._out.say(replies.err("cancelled"))
                return None
            try:
                data = decode_response(line)
            except ProtocolError:
                self._out.say(replies.err("malformed base64"))
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
        self._out.say(replies.err("wrong login or password", "AUTH"))

    async def _enter(self, account: Account) -> None:
        """Locks the maildrop and takes the snapshot (RFC 1939 §4). Raises: Unavailable."""
        with ExitStack() as undo:
            try:
                note = undo.enter_context(
                    maildrop_lock(self.site.run_dir, self.site, account.account)
                )
            except InUse:
                self._out.say(replies.err("another session has this maildrop", "IN-USE"))
                return
            transaction = await Transaction.open(self.site, account.account, self._out, note)
            self._locks = undo.pop_all()
        drop = transaction.drop
        self._transaction = transaction
        self._account = account
        self._core.authenticated()
        self._out.say(replies.ok(f"{drop.count} messages ({drop.size} octets)"))

    async def _quit(self) -> None:
        """RFC 1939 §6: the UPDATE state. Removal is durable before it is confirmed."""
        if self._transaction is not None:
            try:
                await self._transaction.update()
            except (Unavailable, StateError):
                await self._goodbye("quit", "SYS/TEMP", "the marked messages were not removed")
        self._locks.close()
        self._how = "quit"
        self._out.say(replies.ok("goodbye"))
        await self._out.flush()
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
            context = self._site.tls.clients
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
