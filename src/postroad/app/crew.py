"""What one process runs: the front (its services) and, in one of them, the queue runner.

A queue runner that falls over is a bug of ours: it is traced and started again, since mail waits.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from typing import Protocol

from postroad.app.config import Config
from postroad.app.sockets import Sockets
from postroad.app.wiring import Front, build_site, reload_site
from postroad.database.contract import Database
from postroad.mail.secret import Secret
from postroad.service.indexer import Asker, Indexer
from postroad.service.queue_runner import QueueRunner
from postroad.store.mailboxes import MailStore
from postroad.store.search.index import MailIndex
from postroad.trace import Event, Trace

RUNNER_PAUSE_S = 5.0
RUNNER_GRACE_S = 8.0
"""For deliveries under way when the settings change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRunnerCrashed(Event):
    """It is started again. fault: the traceback."""

    fault: str


class Crew(Protocol):
    """What serves: in this process, or in others that it looks after."""

    async def start(self) -> None:
        """Returns once everybody accepts."""
        ...

    async def reload(self, old: Config, new: Config) -> None: ...

    async def drain(self, grace_s: float) -> None: ...


class LocalCrew:
    """Everything of one process. sockets: () for one that only runs the queue."""

    def __init__(
        self,
        config: Config,
        database: Database,
        secret: Secret,
        trace: Trace,
        sockets: Sockets,
        *,
        runs_queue: bool,
    ) -> None:
        self._site = build_site(config, database, secret, trace)
        self._front = Front(self._site, config, sockets)
        self._runner = QueueRunner(self._site) if runs_queue else None
        self._running: asyncio.Task[None] | None = None
        self._indexes = runs_queue and config.search.index
        self._indexer: Indexer | None = None
        self._indexing: asyncio.Task[None] | None = None
        self._draining = False

    async def start(self) -> None:
        self._front.start()
        if self._runner is not None:
            self._running = asyncio.create_task(self._keep_running())
        self._index.lacking = Asker(self._site.database)
        if self._indexes:
            self._start_indexing()

    @property
    def _index(self) -> MailIndex:
        store = self._site.store
        assert isinstance(store, MailStore), "`build_site` made it"
        return store.index

    def _start_indexing(self) -> None:
        self._indexer = Indexer(self._site.database, self._index, self._site.trace)
        self._indexing = asyncio.create_task(self._indexer.run())

    async def _stop_indexing(self) -> None:
        if self._indexer is not None and self._indexing is not None:
            await self._indexer.drain()
            await asyncio.wait([self._indexing])
            self._indexer = self._indexing = None

    async def reload(self, old: Config, new: Config) -> None:
        reload_site(self._site, old, new)
        if self._runner is not None and (old.dns, old.delivery) != (new.dns, new.delivery):
            await self._runner.drain(RUNNER_GRACE_S)  # a new one takes over, with the new settings
        if self._runner is not None and old.search != new.search:
            await self._stop_indexing()
            if new.search.index:
                self._start_indexing()

    async def drain(self, grace_s: float) -> None:
        self._draining = True
        waits = [self._front.drain(grace_s), self._stop_indexing()]
        if self._runner is not None:
            waits.append(self._runner.drain(grace_s))
        await asyncio.gather(*waits)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _keep_running(self) -> None:
        while True:
            assert self._runner is not None
            crashed = False
            try:
                await asyncio.create_task(self._runner.run())  # `drain` waits for its task
            except Exception:
                crashed = True
                self._site.trace(QueueRunnerCrashed(fault=traceback.format_exc()))
            if self._draining:
                return
            if crashed:
                await asyncio.sleep(RUNNER_PAUSE_S)
            self._runner = QueueRunner(self._site)
