"""The indexer: builds every account's search index behind the deliveries, never before them.

One for the whole server, in the process that runs the queue. It hears what came, waits until it is
calm, and works through one account at a time, a block at a time, resting twice as long as it
works. An account that somebody searches comes first and with little rest. Killed at any moment,
it goes on from what was written.
Accounts with few new messages wait: searches read those in no time.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from postroad.database.contract import Database, Notice, Topic
from postroad.mail.errors import StateError, Unavailable
from postroad.store.search.building import lag_of, lags
from postroad.store.search.index import LACKING_MIN
from postroad.store.search.operations import AskForIndex, WriteBlock
from postroad.trace import Event, Trace

CALM_S = 3.0
"""After a message came: others follow, and fill the same block."""
FIRST_S = 5.0
"""After the start: nobody shall wait for it."""
REST, REST_WANTED = 2.0, 0.25
"""Times the work, in between: a third of one core, or most of it when somebody waits."""
TROUBLE_S = 30.0
"""Wait after octets could not be read; then those that still cannot are passed over."""
FAILURES_MAX = 3
"""Of one account; then it waits for its next message or search."""
FAILURES_KEPT_MAX = 1000
REFUSALS_MAX = 5
"""In a row: somebody else works on the account."""
STEPS_MAX = 1000
"""Then the builder looks anew at what there is, and gives back the memory that it took."""
TOLD_MIN = 1000
"""Messages indexed in one go that are worth a line of the log."""
ASK_EVERY_S = 30.0
ASKED_MAX = 1000


class AccountBuilder(Protocol):
    passes_over: bool
    messages: int

    def step(self) -> WriteBlock | None: ...


class AccountTidier(Protocol):
    is_done: bool

    def is_worth_it(self) -> bool: ...
    def step(self) -> WriteBlock | None: ...


class Buildable(Protocol):
    """What of the index is needed; all of it blocks."""

    def builder(self, account: int) -> AccountBuilder: ...
    def tidier(self, account: int) -> AccountTidier: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountIndexed(Event):
    account: int
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingFailed(Event):
    """Searches read what is not indexed. why: the disk's words, or a traceback."""

    account: int
    why: str


class Indexer:
    """`run` until `drain`."""

    def __init__(
        self,
        database: Database,
        index: Buildable,
        trace: Trace,
        *,
        calm_s: float = CALM_S,
        first_s: float = FIRST_S,
        trouble_s: float = TROUBLE_S,
        told_min: int = TOLD_MIN,
    ) -> None:
        self._database = database
        self._index = index
        self._trace = trace
        self._calm_s = calm_s
        self._first_s = first_s
        self._trouble_s = trouble_s
        self._told_min = told_min
        self._waiting: OrderedDict[int, float] = OrderedDict()
        self._wanted: OrderedDict[int, None] = OrderedDict()
        self._again: OrderedDict[int, float] = OrderedDict()
        self._failures: dict[int, int] = {}
        self._look_at_all = True
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self._running = asyncio.current_task()
        unsubscribe = self._database.subscribe(0, self._hear)
        try:
            await self._pause(self._first_s)
            while not self._stop.is_set():
                self._news.clear()
                account, wait = await self._next()
                if account:
                    await self._work(account)
                else:
                    await self._for_news(wait)
        finally:
            unsubscribe()

    async def drain(self) -> None:
        """Ends after the block under way."""
        self._stop.set()
        self._news.set()
        if self._running is not None:
            await asyncio.wait([self._running])

    # -- what there is to do ------------------------------------------------------------------

    def _hear(self, notice: Notice) -> None:
        if notice.topic is Topic.SEARCH and notice.account:
            self._wanted[notice.account] = None
        elif notice.topic is not Topic.MESSAGES:
            return
        elif notice.account:
            now = asyncio.get_running_loop().time()
            self._waiting.setdefault(notice.account, now + self._calm_s)
        else:
            self._look_at_all = True  # notices may have been lost
        self._news.set()

    async def _next(self) -> tuple[int, float | None]:
        """The account to be worked on, or 0 and how long to wait (None: for news)."""
        if self._look_at_all:
            self._look_at_all = False
            await self._look()
        if self._wanted:
            return next(iter(self._wanted)), None
        now = asyncio.get_running_loop().time()
        soonest: float | None = None
        for waiting in (self._waiting, self._again):  # each in the order of its moments
            if waiting:
                account, due = next(iter(waiting.items()))
                if due <= now:
                    del waiting[account]
                    return account, None
                soonest = due - now if soonest is None else min(soonest, due - now)
        return 0, soonest

    async def _look(self) -> None:
        """At every account."""
        try:
            found = await asyncio.to_thread(lags, self._database)
        except Unavailable as error:
            self._trace(IndexingFailed(account=0, why=str(error)))
            return
        for lag in found:
            if lag.messages >= LACKING_MIN:
                self._at_once(lag.account)

    def _at_once(self, account: int) -> None:
        self._waiting[account] = 0.0
        self._waiting.move_to_end(account, last=False)

    async def _for_news(self, wait_s: float | None) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), wait_s)
        except TimeoutError:
            return

    async def _pause(self, seconds: float) -> None:
        """Cut short by the end."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    # -- doing it -----------------------------------------------------------------------------

    async def _work(self, account: int) -> None:
        """Whatever goes wrong with one account never harms another."""
        try:
            if account not in self._wanted:
                lag = await asyncio.to_thread(lag_of, self._database, account)
                if lag < LACKING_MIN:
                    return
            if await self._build(account):
                self._wanted.pop(account, None)
                await self._tidy(account)
            elif not self._stop.is_set():
                self._at_once(account)
        except StateError as error:
            self._failed(account, str(error))
        except Unavailable as error:
            self._failed(account, str(error))
            if self._failures[account] <= FAILURES_MAX:
                now = asyncio.get_running_loop().time()
                self._again[account] = now + self._trouble_s
                self._again.move_to_end(account)
        except Exception:
            self._failed(account, traceback.format_exc())

    def _failed(self, account: int, why: str) -> None:
        self._wanted.pop(account, None)
        self._failures[account] = self._failures.get(account, 0) + 1
        if len(self._failures) > FAILURES_KEPT_MAX:
            del self._failures[next(iter(self._failures))]
        self._trace(IndexingFailed(account=account, why=why))

    async def _build(self, account: int) -> bool:
        """False when it was left for another that somebody waits for, or for the end.

        Raises: StateError (refused again and again), Unavailable.
        """
        refusals = steps = messages = 0
        builder: AccountBuilder | None = None
        while not self._stop.is_set():
            began = asyncio.get_running_loop().time()
            if builder is None or steps >= STEPS_MAX:
                builder, steps = await asyncio.to_thread(self._index.builder, account), 0
            before = builder.messages
            builder.passes_over = account in self._failures
            operation = await asyncio.to_thread(builder.step)
            if operation is None:
                if messages >= self._told_min:
                    self._trace(AccountIndexed(account=account, messages=messages))
                return True
            try:
                await self._database.submit(operation)
            except StateError:
                refusals += 1
                if refusals > REFUSALS_MAX:
                    raise
                builder = None
                continue
            messages += builder.messages - before
            refusals = 0
            steps += 1
            self._failures.pop(account, None)
            await self._rest(account, began)
            if self._wanted and account not in self._wanted:
                return False
        return False

    async def _tidy(self, account: int) -> None:
        """Raises: StateError, Unavailable."""
        tidier = await asyncio.to_thread(self._index.tidier, account)
        if not await asyncio.to_thread(tidier.is_worth_it):
            return
        while not self._stop.is_set() and not tidier.is_done:
            began = asyncio.get_running_loop().time()
            operation = await asyncio.to_thread(tidier.step)
            if operation is not None:
                await self._database.submit(operation)
            await self._rest(account, began)
            if self._wanted:
                return

    async def _rest(self, account: int, began: float) -> None:
        worked = asyncio.get_running_loop().time() - began
        await self._pause(worked * (REST_WANTED if account in self._wanted else REST))


class Asker:
    """Tells the indexer, wherever it runs, what is searched and not indexed. Called in any thread.

    Made on the loop that serves.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._asked: OrderedDict[int, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, account: int) -> None:
        now = self._loop.time()
        if now - self._asked.get(account, float("-inf")) >= ASK_EVERY_S:
            self._loop.call_soon_threadsafe(self._ask, account, now)

    def _ask(self, account: int, now: float) -> None:
        if now - self._asked.get(account, float("-inf")) < ASK_EVERY_S:
            return
        self._asked[account] = now
        self._asked.move_to_end(account)
        while len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)
        task = self._loop.create_task(self._tell(account))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, account: int) -> None:
        try:
            await self._database.submit(AskForIndex(account=account))
        except (StateError, Unavailable):
            self._asked.pop(account, None)  # it was a hint; the next search gives it again
