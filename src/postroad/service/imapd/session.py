"""One IMAP session: reads events, runs commands, tells news, and ends well.

A command is a coroutine that puts untagged responses and returns its `Answer`; whatever news the
view may tell comes between the two. Nothing is written outside `flush`, which waits for the peer.
Source: RFC 3501 §3, §5.4, §5.5, §7.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from postroad.database.contract import Notice, Topic, Unsubscribe
from postroad.directory.values import Account
from postroad.mail import limits
from postroad.mail.errors import Fault, ProtocolError, StateError, Unavailable
from postroad.net.contract import Disconnected, Stream, TimedOut
from postroad.protocol.imap import render
from postroad.protocol.imap.commands import Command, Expunge
from postroad.protocol.imap.messages import Copy
from postroad.protocol.imap.server import (
    NEED_DATA,
    Bad,
    Continue,
    Event,
    Line,
    ServerConnection,
    State,
)
from postroad.service.imapd import context, news, rights
from postroad.service.imapd.answers import SILENCE, Answer, Farewell, no, words
from postroad.service.imapd.events import IMAPCommandCrashed, IMAPCommandDeferred
from postroad.service.imapd.languages import DEFAULT
from postroad.service.imapd.output import Output
from postroad.service.imapd.turns import turn
from postroad.service.imapd.view import View
from postroad.service.site import Site

if TYPE_CHECKING:
    from asyncio import Task, TimerHandle

    from postroad.service.imapd.watch import Watch

FAREWELL_TIMEOUT_S = 5.0
"""For a client that takes nothing any more, before it is left without a word."""
PROGRESS_EVERY_S = 5.0
"""Between two notices of a long command: soon enough for a person who waits, and far below what a
client gives up after."""


Handler: TypeAlias = "Callable[[Session, Command], Awaitable[Answer]]"

_SILENT_FAULTS = frozenset((Fault.CONFLICT,))


class Session(Output):
    __slots__ = (
        "_bad", "_deadline", "_farewell", "_progress_at", "_pusher",
        "_tag", "_task", "_unsubscribe", "_unwatch", "_waiting", "account", "core", "dirty",
        "failures", "handlers", "id", "idling", "partial", "reason",
        "rekeyed", "retry", "site", "view", "watch",
    )  # fmt: skip

    def __init__(
        self, site: Site, stream: Stream, session: str, handlers: dict[type[Command], Handler]
    ) -> None:
        self.site = site
        self.id = session
        self.handlers = handlers
        self.core = ServerConnection()
        super().__init__(stream, self.core.enabled)
        self.account: Account | None = None
        self.view: View | None = None
        self.dirty = False
        """There may be news of the selected mailbox."""
        self.rekeyed = False
        """URLs of the selected mailbox that this user made are void (RFC 4467 §7)."""
        self.retry: TimerHandle | None = None
        """News could not be read: they are left alone until it fires."""
        self.idling = False
        self.partial = False
        """A literal is half written: nothing else can be said any more."""
        self.failures = 0
        self.reason = ""
        self.watch: Watch | None = None
        """What NOTIFY asked for; None: as without it."""
        self._bad = 0
        self._deadline = 0.0
        self._farewell: Farewell | None = None
        self._progress_at = 0.0
        """When the command in hand may next say how far it is."""
        self._pusher: Task[None] | None = None
        self._tag = b""
        self._task: Task[object] | None = None
        self._unsubscribe: Unsubscribe | None = None
        self._unwatch: Unsubscribe | None = None
        self._waiting = False

    # -- reading ------------------------------------------------------------------------------

    async def next_event(self) -> Event:
        """The next event; what was put is written before the session waits."""
        while (event := self.core.next_event()) is NEED_DATA:
            await self.flush()
            octets = await self._read()
            if not octets:
                raise Disconnected("closed by the client")
            self.core.receive_data(octets)
        self._restart_clock()
        return event

    def _restart_clock(self) -> None:
        self._deadline = self.site.clock.monotonic() + self.core.patience()

    async def _read(self) -> bytes:
        """Counts from the last event: octets that dribble in buy no time."""
        if self.watch is not None and self.watch.interest.eager:
            while self._has_news and not self.idling and self.core.is_between_commands:
                await self._tell_unasked()
        left = self._deadline - self.site.clock.monotonic()
        if left <= 0:
            raise TimedOut("idle for too long")
        if self._farewell is not None and (self.idling or self.core.is_between_commands):
            raise self._farewell
        self._waiting = True
        try:
            octets = await self.stream.read(left)
        except BaseException:
            self._waiting = self.idling = False
            await self._stop_pushing(FAREWELL_TIMEOUT_S)
            raise
        self._waiting = False
        if not self.idling:
            await self._stop_pushing(None)
        return octets

    async def _stop_pushing(self, patience_s: float | None) -> None:
        """Waits for what is being written unasked, or gives it up: then nothing can follow it."""
        pusher = self._pusher
        if pusher is None:
            return
        _, unfinished = await asyncio.wait([pusher], timeout=patience_s)
        if unfinished:
            self.partial = True
            pusher.cancel()
            await asyncio.wait([pusher])

    async def read_line(self) -> bytes | None:
        """A line that is no command; None when it was too long."""
        self.core.expect_line()
        event = await self.next_event()
        assert isinstance(event, Line), "the core was told to expect a line"
        return event.octets

    # -- the life of a session ----------------------------------------------------------------

    async def run(self, greeting: bytes) -> None:
        """Until logout, time-out, disconnection or farewell. The caller closes the stream."""
        self._task = asyncio.current_task()
        try:
            self.put(greeting)
            self._restart_clock()
            while self.core.state is not State.LOGOUT:
                event = await self.next_event()
                if isinstance(event, Command):
                    await self._command(event)
                elif isinstance(event, Bad):
                    self._answer_bad(event)
                elif isinstance(event, Continue):
                    self.put(b"+ Ready\r\n")
                else:
                    raise AssertionError(f"nobody waits for {event}")
            await self.flush()
            self.reason = "logout"
        except Farewell as farewell:
            await self._bye(farewell)
        except TimedOut:
            await self._bye(Farewell("Idle for too long", "timed out"))
        except Disconnected as error:
            self.reason = str(error) or "disconnected"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._farewell is None or task is None or task.uncancel():
                raise
            await self._bye(self._farewell)
        finally:
            await self._leave()

    async def _bye(self, farewell: Farewell) -> None:
        self.reason = farewell.reason
        if self.partial:
            return
        text = words(farewell.text, self.language, utf8=self.utf8)
        self.put(b"* BYE " + text + b"\r\n")
        try:
            await self.flush(FAREWELL_TIMEOUT_S)
        except (Disconnected, TimedOut):
            return

    async def _leave(self) -> None:
        self.idling = False
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self.watch_with(None)
        if self.retry is not None:
            self.retry.cancel()
        if self._pusher is not None:
            self._pusher.cancel()
            await asyncio.wait([self._pusher])
        self.view = None

    def end(self, text: str, reason: str) -> None:
        """The session ends as soon as it is between commands: at once when it waits there."""
        if self._farewell is None:
            self._farewell = Farewell(text, reason)
        if (
            self._waiting
            and self._task is not None
            and (self.idling or self.core.is_between_commands)
        ):
            self._waiting = False
            self._task.cancel()

    # -- commands -----------------------------------------------------------------------------

    def _answer_bad(self, bad: Bad) -> None:
        status = b"NO" if bad.no else b"BAD"
        tag = bad.tag
        self.tagged(tag, Answer(bad.text, bad.code, status))
        if bad.fatal:
            raise Farewell("The commands cannot be told apart any more", "unsynchronised")
        if not bad.no or bad.code == b"TOOBIG":
            self._count_bad()

    def _count_bad(self) -> None:
        self._bad += 1
        if self._bad > limits.IMAP_BAD_COMMANDS_MAX:
            raise Farewell("Too many bad commands", "too many bad commands")

    async def progress(self, done: int, total: int | None = None) -> None:
        """Says how far the command in hand is, if it is long since the client heard of it.

        For commands that may take seconds, once a slice, between two responses and never within
        one: `await session.progress(count, len(rows))`. done never falls; both count whatever the
        command counts. Costs a look at the clock; writes (with all that was
        put) after PROGRESS_EVERY_S at the earliest.
        Source: RFC 9585 §4, §5.
        """
        now = self.site.clock.monotonic()
        if now < self._progress_at:
            return
        self._progress_at = now + PROGRESS_EVERY_S
        tag = render.string(self._tag)
        if total is None or done >= total:
            self.put(b"* OK [INPROGRESS (%b %d NIL)] Still at it\r\n" % (tag, done))
        else:
            self.put(b"* OK [INPROGRESS (%b %d %d)] Still at it\r\n" % (tag, done, total))
        await self.flush()

    async def _command(self, command: Command) -> None:
        self._tag = command.tag
        self._progress_at = self.site.clock.monotonic() + PROGRESS_EVERY_S
        answer = await self._execute(command)
        if answer.status == b"BAD":
            self._count_bad()
        elif self._bad:
            self._bad -= 1
        if answer is not SILENCE:
            if self.watch is not None:
                self.watch.did(self, command, answer)
            removes = isinstance(command, Expunge) or (isinstance(command, Copy) and command.move)
            await self.tell_all(expunges=answer.expunges, own=removes)
            self.tagged(command.tag, answer)
        if self.is_full:
            await self.flush()

    async def _execute(self, command: Command) -> Answer:
        """The one frame where what goes wrong in a command is caught."""
        name = type(command).__name__
        try:
            if self.view is not None:
                self._keep_to_rights(self.view)
            return await self.handlers[type(command)](self, command)
        except ProtocolError as error:
            answer = Answer(str(error), status=b"BAD", expunges=False)
        except StateError as error:
            code = b"" if error.fault in _SILENT_FAULTS else error.fault.value.encode()
            answer = no(error.text, code, expunges=False)
        except Unavailable as error:
            self.site.trace(IMAPCommandDeferred(session=self.id, command=name, what=error.what))
            answer = no("Not now, please try again later", b"UNAVAILABLE", expunges=False)
        except (Farewell, Disconnected, TimedOut):
            raise
        except Exception:
            self.site.trace(
                IMAPCommandCrashed(session=self.id, command=name, error=traceback.format_exc())
            )
            answer = no("Internal error; it has been recorded", b"SERVERBUG", expunges=False)
            self._count_bad()
        if self.partial:
            raise Disconnected("a literal was cut short")
        return answer

    # -- news ---------------------------------------------------------------------------------

    def authenticated(self, account: Account) -> None:
        self.account = account
        self.core.state = State.AUTHENTICATED
        self._unsubscribe = self.site.database.subscribe(account.account, self.notice)

    async def forget_login(self) -> None:
        """As if nobody had logged in (RFC 8437 §3); who failed to is still remembered."""
        self.watch_with(None)
        self.select(None)
        await self.stop_idling()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self.account = None
        self.language = DEFAULT
        self.core.unauthenticate()

    def select(self, view: View | None) -> None:
        """Another's mailbox is watched for as long as it is selected."""
        self.view = view
        self.dirty = self.rekeyed = False
        self.core.state = State.AUTHENTICATED if view is None else State.SELECTED
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if view is not None and view.account != self.user:
            self._unwatch = self.site.database.subscribe(view.account, self.notice)

    def watch_with(self, watch: Watch | None) -> None:
        """From now on this is what is told unasked."""
        if self.watch is not None:
            self.watch.end()
        self.watch = watch

    def notice(self, notice: Notice) -> None:
        """A hint, on the loop: marks what to look at; wakes the session when it may tell."""
        if notice.topic is Topic.ACCOUNT and notice.account == self.user:
            if self.site.directory.account_by_id(self.user) is None:
                self.end("The account is gone", "account removed")
            return
        if self.watch is not None:
            self.watch.hears(notice)
        if self.view is not None and news.concerns(self.view, notice):
            self.dirty = True
        if news.rekeys(self, notice):
            self.rekeyed = self.dirty = True
        self._wake()

    def _wake(self) -> None:
        if self._pusher is None and self._has_news and self._may_push:
            self._pusher = asyncio.get_running_loop().create_task(self._push())

    def look_again(self) -> None:
        """News that could not be read may be readable by now."""
        self.retry = None
        self._wake()

    @property
    def _has_news(self) -> bool:
        if self.retry is not None:
            return False
        watch = self.watch
        dirty = self.dirty and self.view is not None
        if watch is None:
            return dirty
        return watch.has_news or (dirty and watch.tells_selected)

    @property
    def _may_push(self) -> bool:
        """Whether the client is told what happens although no command is in progress."""
        if self.idling:
            return True
        eager = self.watch is not None and self.watch.interest.eager
        return eager and self._waiting and self.core.is_between_commands

    async def _push(self) -> None:
        """Tells news to a client that waits for it; whoever goes on waits for the end of it."""
        try:
            while self._has_news and self._may_push:
                await self._tell_unasked()
        except Farewell as farewell:
            self.end(farewell.text, farewell.reason)
        except (Disconnected, TimedOut):
            self.stream.abort()
        except Exception:
            self.site.trace(
                IMAPCommandCrashed(session=self.id, command="Idle", error=traceback.format_exc())
            )
            self.end("[SERVERBUG] Internal error", "crashed")
        finally:
            self._pusher = None

    async def _tell_unasked(self) -> None:
        delayed = self.watch is not None and self.watch.interest.delayed
        await self.tell_all(expunges=self.idling or not delayed)
        await self.flush()

    async def stop_idling(self) -> None:
        self.idling = False
        await self._stop_pushing(None)

    def tell(self, *, expunges: bool, ask: bool = False, own: bool = False) -> bool:
        """Puts what happened in the selected mailbox, if anything did; whether there is more.

        ask: without waiting for a hint. own: the client itself has removed messages, and is told
        whatever it asked NOTIFY for. Raises: Farewell when the mailbox is gone.
        """
        view, watch = self.view, self.watch
        if view is None or (watch is not None and not (own or watch.tells_selected)):
            return False
        ask = ask or self.dirty
        if not (ask or view.is_behind or view.vanished is not None):
            return False
        self.dirty = False
        if self.rekeyed:
            self.rekeyed = False
            self.put(b"* OK [URLMECH INTERNAL] The key of the mailbox is new\r\n")
        self._keep_to_rights(view)
        last = view.last
        flags = watch is None or watch.tells_flags
        try:
            more = news.tell(self, view, expunges=expunges, ask=ask, flags=flags)
        finally:
            if watch is not None:
                watch.arrived(last + 1, view.last)
        if more is None:
            raise Farewell("The selected mailbox was deleted", "mailbox deleted")
        return more

    def _keep_to_rights(self, view: View) -> None:
        """Raises: Farewell when the mailbox is another's who does not share it any more."""
        if not rights.still_readable(self, view):
            raise Farewell("You may no longer read the selected mailbox", "rights revoked")

    async def tell_all(self, *, expunges: bool, ask: bool = False, own: bool = False) -> None:
        """The same to its end, with a turn for the others after each page; then all else.

        What cannot be read is told later: no command fails for it.
        """
        try:
            await self._tell_all(expunges, ask, own)
        except Unavailable as error:
            news.defer(self, error)

    async def _tell_all(self, expunges: bool, ask: bool, own: bool) -> None:
        watch = self.watch
        expunges = expunges or (watch is not None and watch.tells_expunges)
        while self.tell(expunges=expunges, ask=ask, own=own) and self.view is not None:
            ask = False
            await self.flush()
            await turn()
            if not self.uid_only:
                try:
                    await self.view.number()
                except StateError as error:
                    raise Farewell(error.text, "mailbox deleted") from error
        await context.refresh(self)
        if watch is not None and watch.has_news:
            await watch.tell(self)

    # -- what commands ask --------------------------------------------------------------------

    @property
    def user(self) -> int:
        """The account's id, in a state where there is one."""
        assert self.account is not None, "the core lets nobody here before login"
        return self.account.account

    @property
    def selected(self) -> View:
        assert self.view is not None, "the core lets nobody here without a mailbox"
        return self.view


__all__ = ["SILENCE", "Answer", "Farewell", "Handler", "Session", "no"]
