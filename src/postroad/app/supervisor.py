"""The workers of a server, and the process that runs the queue: started, watched, restarted.

The sockets stay open here, so that a worker's death costs its sessions and nothing else: new
connections wait in the backlog until its successor accepts.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from postroad.app.child import Child
from postroad.app.config import Config
from postroad.app.sockets import CannotStart, Sockets
from postroad.app.worker import Drain, Reload, Start, command
from postroad.app.worker import main as worker_main
from postroad.trace import Event, Trace, discard

READY_TIMEOUT_S = 60.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
LIVED_WELL_S = 60.0
"""A worker that lived so long is restarted at once."""
DRAIN_SLACK_S = 3.0
"""What a worker may take beyond the grace before it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    worker: str
    pid: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(Event):
    """It is started again after `retry_s`. code: exit code, negative for a signal."""

    worker: str
    pid: int
    code: int
    retry_s: float


class _Worker:
    """One place in the crew, and the process that fills it."""

    def __init__(self, name: str, sockets: Sockets, config: Config) -> None:
        self.name = name
        self.config = config
        self.sockets = sockets
        self.child: Child | None = None
        self._stopping = False
        self._watching: asyncio.Task[None] | None = None

    @property
    def descriptors(self) -> list[int]:
        return [sock.fileno() for _, sock in self.sockets]

    async def settle(self, trace: Trace) -> None:
        """Gives it its orders and waits until it accepts. Raises: CannotStart."""
        child = self.child
        assert child is not None
        began = time.monotonic()
        await child.attach()
        self._tell(
            Start(
                config=self.config,
                sockets=[(name, sock.fileno()) for name, sock in self.sockets],
                runs_queue=not self.sockets,
            )
        )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await child.read_line()
        except TimeoutError:
            line = b""
        if line != b"ready\n":
            child.kill()
            await child.wait()
            raise CannotStart(f"{self.name} did not become ready: the lines above say why")
        seconds = round(time.monotonic() - began, 3)
        trace(WorkerStarted(worker=self.name, pid=child.pid, seconds=seconds))

    def watch(self, trace: Trace) -> None:
        self._watching = asyncio.create_task(self._watch(trace))

    async def _watch(self, trace: Trace) -> None:
        """Starts another process whenever this one ends, until the server stops."""
        backoff = BACKOFF_FIRST_S
        while True:
            child = self.child
            assert child is not None
            began = time.monotonic()
            code = await child.wait()
            if self._stopping:
                return
            if time.monotonic() - began > LIVED_WELL_S:
                backoff = BACKOFF_FIRST_S
            trace(WorkerLost(worker=self.name, pid=child.pid, code=code, retry_s=backoff))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_MAX_S)
            try:
                self.child = Child.start(command(), self.descriptors)
                await self.settle(trace)
            except (CannotStart, OSError):
                continue  # the next turn sees that it is gone, and waits longer

    def reload(self, config: Config) -> None:
        self.config = config
        self._tell(Reload(config=config))

    async def drain(self, grace_s: float) -> None:
        """Returns when the process has ended; it is killed when it takes too long."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        child = self.child
        if child is None:
            return
        try:
            self._tell(Drain(grace_s=grace_s))
            async with asyncio.timeout(grace_s + DRAIN_SLACK_S):
                await child.wait()
        except TimeoutError:
            pass
        finally:
            child.kill()
        await child.wait()

    def _tell(self, order: Start | Reload | Drain) -> None:
        if self.child is not None:
            self.child.tell(msgspec.json.encode(order) + b"\n")


class Supervisor:
    """A `Crew` of processes: one worker for each set of sockets, and the queue's."""

    def __init__(self, config: Config, sets: list[Sockets]) -> None:
        self._workers = [
            _Worker(f"worker {number}", sockets, config) for number, sockets in enumerate(sets, 1)
        ]
        self._workers.append(_Worker("queue", [], config))
        self._trace: Trace = discard

    def fork(self) -> None:
        """Makes the processes, which wait for their orders. This process has no thread yet."""
        for worker in self._workers:
            theirs = [w for w in self._workers if w is not worker]
            worker.child = Child.fork(
                worker_main,
                [other.child for other in theirs if other.child is not None],
                [fd for other in theirs for fd in other.descriptors],
            )

    def report_to(self, trace: Trace) -> None:
        self._trace = trace

    async def start(self) -> None:
        """Raises: CannotStart."""
        await asyncio.gather(*(worker.settle(self._trace) for worker in self._workers))
        for worker in self._workers:
            worker.watch(self._trace)

    async def reload(self, old: Config, new: Config) -> None:
        for worker in self._workers:
            worker.reload(new)

    async def drain(self, grace_s: float) -> None:
        await asyncio.gather(*(worker.drain(grace_s) for worker in self._workers))

    def abandon(self) -> None:
        """Before a loop ran: the processes go with us."""
        for worker in self._workers:
            if worker.child is not None:
                worker.child.kill()
