"""The database in a process that does not write it: reads here, writes through the store process.

Same behaviour and order as `LocalDatabase`: what `submit` returned is seen by the next read, and
a notice comes when its commit can be read. Uses asyncio's unix streams, not `net`: the floor of
the state lies below the net, and a socket in our own directory needs neither TLS nor deadlines
of a stranger.

When the store process goes away, what was sent and not answered raises Unavailable (it may or
may not have been done; `Append` and `Enqueue` with the same message id do it once when they are
sent again), and the connection is made anew. Then subscribers are told to look at everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from postroad.database import wire
from postroad.database.contract import Notice, Operation, Row, SQLValue, Unsubscribe
from postroad.database.reading import Reader, Snapshot
from postroad.database.subscribers import Subscribers
from postroad.mail.errors import Unavailable

PENDING_MAX = 10_000
"""Units of this process that wait for an answer; past it callers defer."""
RECONNECT_WAIT_S = 5.0
"""How long a new unit waits for the store process to come back: it restarts within a second."""
RECONNECT_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class _Link(asyncio.Protocol):
    """One connection to the store process."""

    def __init__(self, database: RemoteDatabase) -> None:
        self._database = database
        self._frames = wire.Frames()
        self.transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        try:
            for frame in self._frames.receive(data):
                if self.greeted.done():
                    self._database._received(wire.received_decoder.decode(frame))
                else:
                    self._greet(wire.hello_decoder.decode(frame))
        except (wire.WireError, ValueError) as error:
            self._fail(f"the store process is not understood: {error}")
            self.transport.abort()

    def _greet(self, hello: wire.Hello) -> None:
        if hello.version != wire.VERSION:
            raise wire.WireError(f"it speaks version {hello.version}, we {wire.VERSION}")
        self.greeted.set_result(None)

    def _fail(self, text: str) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(Unavailable(text))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the store process closed the connection")
        self._database._lost(self)


class RemoteDatabase:
    """Implements `contract.Database`. Made and used on one loop."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._reader = Reader(data_dir)
        self._subscribers = Subscribers()
        self._link: _Link | None = None
        self._linked = asyncio.Event()
        self._pending: dict[int, tuple[asyncio.Future[list[Any]], tuple[Operation[Any], ...]]] = {}
        self._number = 0
        self._calls: list[wire.Call] = []
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def connect(cls, data_dir: Path, *, timeout_s: float = 30.0) -> RemoteDatabase:
        """Waits for the store process to be there. Raises: Unavailable."""
        database = cls(data_dir)
        try:
            async with asyncio.timeout(timeout_s):
                await database._reconnect()
        except TimeoutError as error:
            raise Unavailable(f"no store process answers in {data_dir}") from error
        return database

    async def close(self) -> None:
        """Idempotent. What is not answered yet raises Unavailable."""
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._link is not None and self._link.transport is not None:
            self._link.transport.abort()
        self._fail_pending("the database is closed")
        self._reader.close()
        await asyncio.sleep(0)

    # -- reads --------------------------------------------------------------------------------

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        return self._reader.execute(sql, params)

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None:
        return self._reader.first(sql, params)

    def snapshot(self) -> Snapshot:
        return self._reader.snapshot()

    def subscribe(self, account: int, callback: Callable[[Notice], None]) -> Unsubscribe:
        return self._subscribers.subscribe(account, callback)

    # -- writes -------------------------------------------------------------------------------

    async def submit(self, *operations: Operation[Any]) -> list[Any]:
        if self._closed:
            raise Unavailable("the database is closed")
        if len(self._pending) >= PENDING_MAX:
            raise Unavailable("too many units of work wait for the store process")
        if self._link is None:
            await self._wait_for_link()
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._number += 1
        self._pending[self._number] = (future, operations)
        self._calls.append(wire.Call(self._number, operations))
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_soon(self._flush)
        return await future

    async def _wait_for_link(self) -> None:
        try:
            async with asyncio.timeout(RECONNECT_WAIT_S):
                await self._linked.wait()
        except TimeoutError as error:
            raise Unavailable("the store process is away") from error
        if self._link is None:
            raise Unavailable("the store process is away")

    def _flush(self) -> None:
        """Sends all calls of this turn of the loop in one frame."""
        calls, self._calls = self._calls, []
        link = self._link
        if not calls or link is None or link.transport is None:
            return  # the link was lost meanwhile, and `_lost` has answered them
        try:
            link.transport.write(wire.frame(calls))
        except (wire.WireError, TypeError, ValueError) as error:
            self._refuse(calls, error)

    def _refuse(self, calls: list[wire.Call], error: Exception) -> None:
        """A frame could not be made: one by one, and only the culprit fails."""
        link = self._link
        assert link is not None and link.transport is not None
        for call in calls:
            try:
                link.transport.write(wire.frame([call]))
            except (wire.WireError, TypeError, ValueError) as fault:
                future, _ = self._pending.pop(call.number)
                if not future.done():
                    future.set_exception(fault)

    # -- what comes back ----------------------------------------------------------------------

    def _received(self, frame: wire.Received) -> None:
        if frame.notices:
            self._subscribers.send(frame.notices)
        for answer in frame.answers:
            future, operations = self._pending.pop(answer.number)
            if future.done():
                continue  # its caller was cancelled; the unit stands
            if answer.kind == wire.Kind.DONE:
                future.set_result(wire.results_of(answer, operations))
            else:
                future.set_exception(wire.error_of(answer))

    def _fail_pending(self, text: str) -> None:
        pending, self._pending = self._pending, {}
        self._calls = []
        for future, _ in pending.values():
            if not future.done():
                future.set_exception(Unavailable(text))

    def _lost(self, link: _Link) -> None:
        if self._link is not link:
            return
        self._link = None
        self._linked.clear()
        self._fail_pending("the store process went away: whether it was done is not known")
        if not self._closed:
            self._reconnecting = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        await self._reconnect()
        self._subscribers.send_everything()

    async def _reconnect(self) -> None:
        """Tries until it is connected or cancelled."""
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            try:
                with wire.socket_address(self.data_dir) as path:
                    _, link = await loop.create_unix_connection(lambda: _Link(self), path)
                await link.greeted
            except (OSError, Unavailable):
                await asyncio.sleep(RECONNECT_PAUSES_S[min(tries, len(RECONNECT_PAUSES_S) - 1)])
                tries += 1
                continue
            self._link = link
            self._linked.set()
            return
