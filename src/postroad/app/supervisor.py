"""The workers of a server, and the process that runs the queue: started, watched, restarted.

The sockets stay open here, so that a worker's death costs its sessions and nothing else: new
connections wait in the backlog until its successor accepts.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass

import msgspec

from postroad.app.config import Config
from postroad.app.sockets import CannotStart, Sockets
from postroad.app.worker import Drain, Reload, Start, command
from postroad.trace import Event, Trace

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

    def __init__(self, name: str, sockets: Sockets, config: Config, trace: Trace) -> None:
        self.name = name
        self.config = config
        self._sockets = sockets
        self._trace = trace
        self._process: Process | None = None
        self._stopping = False
        self._watching: asyncio.Task[None] | None = None

    async def spawn(self) -> None:
        """Starts the process, which loads its modules meanwhile. Raises: OSError."""
        self._process = await asyncio.create_subprocess_exec(
            *command(),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=[sock.fileno() for _, sock in self._sockets],
        )

    async def settle(self) -> None:
        """Gives it its orders and waits until it accepts. Raises: CannotStart."""
        process = self._process
        assert process is not None and process.stdout is not None
        began = time.monotonic()
        await self._tell(
            Start(
                config=self.config,
                sockets=[(name, sock.fileno()) for name, sock in self._sockets],
                runs_queue=not self._sockets,
            )
        )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if line != b"ready\n":
            self._kill()
            await process.wait()
            raise CannotStart(f"{self.name} did not become ready: the lines above say why")
        seconds = round(time.monotonic() - began, 3)
        self._trace(WorkerStarted(worker=self.name, pid=process.pid, seconds=seconds))

    def watch(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Restarts the process whenever it ends, until the server stops."""
        backoff = BACKOFF_FIRST_S
        while True:
            process = self._process
            assert process is not None
            began = time.monotonic()
            code = await process.wait()
            if self._stopping:
                return
            if time.monotonic() - began > LIVED_WELL_S:
                backoff = BACKOFF_FIRST_S
            self._trace(WorkerLost(worker=self.name, pid=process.pid, code=code, retry_s=backoff))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_MAX_S)
            try:
                await self.spawn()
                await self.settle()
            except (CannotStart, OSError):
                continue  # the process is gone: the next turn sees that and waits longer

    async def reload(self, config: Config) -> None:
        self.config = config
        await self._tell(Reload(config=config))

    async def drain(self, grace_s: float) -> None:
        """Returns when the process has ended; it is killed when it takes too long."""
        self._stopping = True
        process = self._process
        if self._watching is not None and (process is None or process.returncode is not None):
            self._watching.cancel()  # it was waiting to start another
        if process is None:
            return
        try:
            await self._tell(Drain(grace_s=grace_s))
            async with asyncio.timeout(grace_s + DRAIN_SLACK_S):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            self._kill()
            await process.wait()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _tell(self, order: Start | Reload | Drain) -> None:
        """A worker that is gone hears nothing; its watcher knows."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return


class Supervisor:
    """A `Crew` of processes: one worker for each set of sockets, and the queue's."""

    def __init__(self, config: Config, sets: list[Sockets], trace: Trace) -> None:
        self._workers = [
            _Worker(f"worker {number}", sockets, config, trace)
            for number, sockets in enumerate(sets, 1)
        ]
        self._workers.append(_Worker("queue", [], config, trace))

    async def spawn(self) -> None:
        """Starts the processes; `start` tells them to serve, once the store answers."""
        await asyncio.gather(*(worker.spawn() for worker in self._workers))

    async def start(self) -> None:
        """Raises: CannotStart."""
        await asyncio.gather(*(worker.settle() for worker in self._workers))
        for worker in self._workers:
            worker.watch()

    async def reload(self, old: Config, new: Config) -> None:
        await asyncio.gather(*(worker.reload(new) for worker in self._workers))

    async def drain(self, grace_s: float) -> None:
        await asyncio.gather(*(worker.drain(grace_s) for worker in self._workers))
