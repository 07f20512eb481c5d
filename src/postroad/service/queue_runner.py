"""The queue runner: every queued recipient gets its attempt when it is due.

A heap holds when each message is due at each destination; notices of the database bring new ones.
Each destination has a *lane*: jobs in order, and a few workers, each with a courier that keeps its
connection from message to message. Bounds hold for all lanes together, for each lane, for each
connection, and for the octets of messages in memory.

A destination that gives no session at all is suspended for a moment: its due messages are put off
with the same words, one worker tries, and the first session opens the lane again. An operator's
"retry now" opens it too.

One message, recipient or peer never harms another: whatever goes wrong inside an attempt is caught
at its outermost frame, traced, and the attempt is made again later.
Source: RFC 5321 §4.5.4.1 (sending strategy), §4.5.4 (reuse of connections).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TypeAlias

from postroad.database.contract import Notice, Topic
from postroad.delivery.outcome import Deferred
from postroad.delivery.remote import Courier, Road
from postroad.mail.errors import Unavailable
from postroad.mail.reply import Reply
from postroad.net.tls import opportunistic_context
from postroad.service.queue_attempt import Attempt, AttemptBroke, due_part
from postroad.service.site import Site
from postroad.service.turns import Turns

Key: TypeAlias = tuple[str, str]
"""Our message id, and the destination's key domain."""

CONNECTIONS_MAX = 100
"""To all destinations together."""
CONNECTIONS_PER_DESTINATION_MAX = 10
"""What receivers bear from one address without complaint."""
MESSAGES_PER_CONNECTION_MAX = 100
"""Then it is closed: long-lived connections pin one host of many."""
CONNECTION_IDLE_S = 5.0
"""How long a connection waits for the next message."""
OCTETS_IN_MEMORY_MAX = 256 << 20
"""Of the messages being carried at one time; a greater one is carried alone."""
SUSPENSION_S_MAX = 60
PAUSE_S_MAX = 60.0
"""The heap is looked at so often at least: the wall clock may have jumped."""
TROUBLE_S = 10
"""Wait after a fault of ours or of the disk."""
LANES_REMEMBERED_MAX = 10_000
YIELD_EVERY = 200
STEPS_PER_TURN = 4
"""Of attempts, in one turn of the loop: a commit wakes a hundred couriers at once, half a
millisecond each."""


@dataclass(slots=True, eq=False)
class Lane:
    """One destination. A job is a key, or an attempt that was begun and found no connection.

    limit: workers it may have. starting: workers that have not looked for a job yet.
    failure: why the destination is suspended until `suspended_until`.
    """

    domain: str
    limit: int
    jobs: deque[Key | Attempt] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    couriers: set[Courier] = field(default_factory=set)
    starting: int = 0
    idle: int = 0
    suspended_until: float = 0.0
    failure: Reply | None = None

    @property
    def workers(self) -> int:
        return self.starting + len(self.couriers)


class OctetBudget:
    """How many octets of messages may be in memory; whoever asks for more waits."""

    def __init__(self, octets_max: int) -> None:
        self._octets_max = octets_max
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, octets: int) -> None:
        while self._held and self._held + octets > self._octets_max:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._held += octets

    def give(self, octets: int) -> None:
        self._held -= octets
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class QueueRunner:
    """One for the whole server. `run` until `drain`."""

    def __init__(
        self,
        site: Site,
        *,
        connections_max: int = CONNECTIONS_MAX,
        connections_per_destination_max: int = CONNECTIONS_PER_DESTINATION_MAX,
        connection_idle_s: float = CONNECTION_IDLE_S,
    ) -> None:
        self._site = site
        self._road = Road(
            hostname=site.hostname,
            resolver=site.resolver,
            dialer=site.dialer,
            jitter=lambda: site.clock.uniform(0.0, 1.0),
            monotonic=site.clock.monotonic,
            port=site.delivery_port,
            tls=opportunistic_context(),
        )
        self._connections_max = connections_max
        self._per_destination_max = connections_per_destination_max
        self._idle_s = connection_idle_s
        self._heap: list[tuple[int, Key]] = []
        self._due_at: dict[Key, int] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._fresh: dict[str, None] = {}
        self._lanes: dict[str, Lane] = {}
        self._starved: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._worker_count = 0
        self._budget = OctetBudget(OCTETS_IN_MEMORY_MAX)
        self._turns = Turns(STEPS_PER_TURN)
        self._wake = asyncio.Event()
        self._draining = False
        self._running: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None

    # -- From outside -------------------------------------------------------------------------
    async def run(self) -> None:
        """Serves the queue until `drain`, or until cancelled."""
        self._running = asyncio.current_task()
        unsubscribe = self._site.database.subscribe(0, self._hear)
        try:
            self._fresh[""] = None
            async with asyncio.TaskGroup() as self._group:
                while not self._draining:
                    self._wake.clear()
                    await self._take_fresh()
                    self._start_due()
                    self._forget_lanes()
                    await self._pause()
        finally:
            unsubscribe()

    async def drain(self, grace_s: float) -> None:
        """Begins nothing more, lets what is under way end, and cuts it only after the grace.

        An attempt that is cut stays marked as begun, and the next start makes it again.
        """
        self._draining = True
        self._wake.set()
        for lane in self._lanes.values():
            lane.arrived.set()
        if self._running is None:
            return
        _, late = await asyncio.wait({self._running}, timeout=grace_s)
        if late:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(late)

    # -- What is due --------------------------------------------------------------------------
    def _hear(self, notice: Notice) -> None:
        if notice.topic is Topic.QUEUE:
            self._fresh[notice.subject] = None
            self._wake.set()

    async def _take_fresh(self) -> None:
        """Puts what notices named into the heap; "" names the whole queue."""
        fresh, self._fresh = self._fresh, {}
        queue = self._site.queue
        seen = 0
        try:
            for message in list(fresh):
                for due in queue.due_of(message) if message else queue.due():
                    self._schedule((due.message, due.domain), due.next_attempt, hinted=True)
                    seen += 1
                    if seen % YIELD_EVERY == 0:
                        await asyncio.sleep(0)
                del fresh[message]
        except Unavailable as error:
            self._fresh = {**fresh, **self._fresh}
            self._site.trace(AttemptBroke(domain="", what=error.what))
            await self._site.clock.sleep(1.0)
            self._wake.set()

    def _schedule(self, key: Key, moment: int, *, hinted: bool = False) -> None:
        """hinted: somebody outside changed the queue, perhaps an operator's "retry now"."""
        if key in self._busy:
            self._again.add(key)
            return
        known = self._due_at.get(key)
        if known is not None and known <= moment:
            return
        if hinted and known is not None:
            lane = self._lanes.get(key[1])
            if lane is not None:
                lane.suspended_until = 0.0
        self._due_at[key] = moment
        heapq.heappush(self._heap, (moment, key))

    def _start_due(self) -> None:
        now = self._now()
        while self._heap and self._heap[0][0] <= now:
            moment, key = heapq.heappop(self._heap)
            if self._due_at.get(key) != moment:
                continue  # another entry replaced this one
            del self._due_at[key]
            self._busy.add(key)
            lane = self._lanes.get(key[1])
            if lane is None:
                lane = self._lanes[key[1]] = Lane(key[1], self._per_destination_max)
            lane.jobs.append(key)
            self._dispatch(lane)

    async def _pause(self) -> None:
        """Until something is due or heard of."""
        if self._wake.is_set() or self._draining:
            return
        delay = PAUSE_S_MAX
        if self._heap:
            moment = self._site.clock.now().timestamp()
            delay = min(max(self._heap[0][0] - moment, 0.0), delay)
        sleeper = asyncio.ensure_future(self._site.clock.sleep(delay))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    # -- Lanes --------------------------------------------------------------------------------
    def _dispatch(self, lane: Lane) -> None:
        """Wakes or starts workers for the lane's jobs, as far as the bounds let it."""
        if lane.idle and lane.jobs:
            lane.arrived.set()
        limit = 1 if lane.failure is not None else lane.limit
        while len(lane.jobs) > lane.idle + lane.starting and lane.workers < limit:
            if self._draining:
                return
            if self._worker_count >= self._connections_max:
                self._starve(lane)
                return
            lane.starting += 1
            self._worker_count += 1
            self._spawn(self._work(lane))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _starve(self, lane: Lane) -> None:
        """The lane waits for a worker's place; idle workers elsewhere make room."""
        self._starved[lane.domain] = None
        for other in self._lanes.values():
            if other.idle:
                other.arrived.set()
                return

    def _leave(self, lane: Lane, courier: Courier) -> None:
        """A worker's place is free: for whoever waited longest, else for this lane's jobs."""
        lane.couriers.discard(courier)
        self._worker_count -= 1
        if lane.jobs and lane.workers == 0:
            self._starved.setdefault(lane.domain, None)
        elif lane.workers == 0 and lane.failure is None and not lane.jobs:
            self._lanes.pop(lane.domain, None)
        starved, self._starved = self._starved, {}
        for domain in starved:
            waiting = self._lanes.get(domain)
            if waiting is not None:
                self._dispatch(waiting)

    def _forget_lanes(self) -> None:
        """Suspensions that are over, once there are many."""
        if len(self._lanes) > LANES_REMEMBERED_MAX:
            now = self._now()
            for lane in list(self._lanes.values()):
                if not lane.jobs and not lane.workers and lane.suspended_until <= now:
                    self._lanes.pop(lane.domain, None)

    # -- Workers ------------------------------------------------------------------------------
    async def _work(self, lane: Lane) -> None:
        """One worker: jobs of its lane over one connection, settling one while it begins the next.

        A fault in here ends the worker, never the runner.
        """
        courier = Courier(self._road, lane.domain)
        lane.starting -= 1
        lane.couriers.add(courier)
        settling: asyncio.Task[None] | None = None
        try:
            while (job := await self._next_job(lane, courier)) is not None:
                attempt = job if isinstance(job, Attempt) else await self._lease(job)
                if attempt is None:
                    continue
                if not await self._make(attempt, lane, courier):
                    break
                if settling is not None:
                    await settling
                settling = self._spawn(self._settle(attempt))
            await courier.close()
        except Exception as error:
            self._trace_fault(lane.domain, "", error)
        finally:
            self._leave(lane, courier)
            courier.abort()

    async def _next_job(self, lane: Lane, courier: Courier) -> Key | Attempt | None:
        """The lane's next job; None when the worker should leave."""
        while not self._draining:
            if lane.jobs:
                if courier.messages >= MESSAGES_PER_CONNECTION_MAX:
                    if self._starved:
                        return None
                    await courier.close()
                    continue
                return lane.jobs.popleft()
            if not courier.is_connected or self._starved:
                return None
            lane.idle += 1
            lane.arrived.clear()
            try:
                async with asyncio.timeout(self._idle_s):
                    await lane.arrived.wait()
            except TimeoutError:
                if not lane.jobs:
                    return None
            finally:
                lane.idle -= 1
        return None

    async def _lease(self, key: Key) -> Attempt | None:
        """The attempt that is due; None when there is none now."""
        name, domain = key
        try:
            await self._turns.take()
            message = self._site.queue.message(name)
            if message is None:
                self._release(key, None)
                return None
            due, later = due_part(message, domain, self._now())
            if not due:
                self._release(key, later)
                return None
            await self._budget.take(message.size)
            return Attempt(self._site, message, due, later)
        except Exception as error:
            self._trace_fault(domain, name, error)
            self._release(key, self._now() + TROUBLE_S)
            return None

    async def _make(self, attempt: Attempt, lane: Lane, courier: Courier) -> bool:
        """Makes the attempt. False: it was put back, since the peer grants no more connections."""
        now = self._site.clock.now().timestamp()
        if lane.failure is not None and now < lane.suspended_until:
            text = f"Suspended for a moment, after: {lane.failure}"
            attempt.put_off(Deferred(Reply.of(451, "4.4.1", text[:500])))
            return True
        try:
            await attempt.begin()
            await self._turns.take()
            await attempt.carry(courier)
        except Exception as error:
            attempt.break_off(error)
            await courier.close()
            return True
        failure = courier.last_failure
        if failure is None:
            if lane.failure is not None and courier.is_connected:
                lane.failure = None
                lane.limit = self._per_destination_max
                self._dispatch(lane)
            return True
        others = len(lane.couriers) - 1
        if others:  # they have a connection, or will find out that nobody gets one
            lane.limit = others
            lane.jobs.appendleft(attempt)
            return False
        lane.failure = failure
        lane.suspended_until = now + min(SUSPENSION_S_MAX, self._site.retry_schedule_s[0])
        return True

    async def _settle(self, attempt: Attempt) -> None:
        due: int | None = self._now() + TROUBLE_S
        try:
            await self._turns.take()
            due = await attempt.settle()
        except Exception as error:
            self._trace_fault(attempt.domain, attempt.message.message, error)
        finally:
            self._budget.give(attempt.message.size)
            self._release((attempt.message.message, attempt.domain), due)

    def _release(self, key: Key, due: int | None) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._fresh[key[0]] = None
            self._wake.set()
        if due is not None:
            self._schedule(key, due)
            if self._heap[0][1] == key:
                self._wake.set()

    def _trace_fault(self, domain: str, message: str, error: Exception) -> None:
        what = f"{type(error).__name__}: {error}"
        self._site.trace(AttemptBroke(message=message, domain=domain, what=what))

    def _now(self) -> int:
        return int(self._site.clock.now().timestamp())
