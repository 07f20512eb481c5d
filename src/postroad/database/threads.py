"""Threads that run one function each time and call back on the loop: for calls that block.

Lighter than an executor: no future, one queue, one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

SWITCH_INTERVAL_S = 0.0002
"""How long a thread waits for the interpreter lock before it demands it. With Python's 5 ms, a
commit that has ended tells nobody for up to seconds while the loop is busy; with this, 20 ms."""

Job = Callable[[], None]
Done = Callable[[Exception | None], object]


class Threads:
    """`count` threads that take jobs in order."""

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, Job, Done] | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        for thread in self._threads:
            thread.start()

    def run(self, job: Job, done: Done) -> None:
        """Runs `job` on a thread, then `done` on the running loop with its error or None."""
        self._jobs.put((asyncio.get_running_loop(), job, done))

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            loop, job, done = item
            error: Exception | None = None
            try:
                job()
            except Exception as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(done, error)
            except RuntimeError:
                continue  # the loop is closed: nobody waits any more

    def close(self) -> None:
        """Ends the threads after the jobs they have. Blocks."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
