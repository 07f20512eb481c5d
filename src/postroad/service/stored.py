"""The store process: the one writer, served to the workers over a unix socket.

Takes frames of calls, submits each call as one unit, and sends back notices and answers, those of
one group of commits in one frame. Trusts its clients: the socket lies in the data directory,
which only its owner may enter. Even so a client can make nothing grow: it is not read from while
it has `IN_FLIGHT_MAX` units under way, and dropped when it does not read its answers.
Uses asyncio's unix server, not `net`: there is no stranger, no TLS and no deadline here.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import msgspec

import postroad.directory.operations as directory_operations
import postroad.queue.operations as queue_operations
import postroad.store.metadata as metadata_operations
import postroad.store.operations as store_operations
import postroad.store.search.operations as search_operations
import postroad.store.sharing as sharing_operations
import postroad.store.transfers as transfer_operations
import postroad.store.units as unit_operations
import postroad.store.upkeep as upkeep_operations
import postroad.store.urls as url_operations
from postroad.database import wire
from postroad.database.contract import Notice, Operation
from postroad.database.local import LocalDatabase
from postroad.database.writer import Unit
from postroad.mail.errors import Unavailable
from postroad.trace import Event, Trace, discard

IN_FLIGHT_MAX = 2_000
"""Units of one client under way; past it the client waits in its socket."""
UNREAD_OCTETS_MAX = 64 << 20
"""Answers and notices a client has not taken; past it the client is stuck, and is dropped."""
CLIENTS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreClientDropped(Event):
    """A worker's connection was ended by us."""

    reason: str


def operations_of(*modules: object) -> tuple[type[Operation[Any]], ...]:
    """Every operation that the modules define: the registry of what may cross the border."""
    found = {
        item
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Operation) and item is not Operation
    }
    return tuple(sorted(found, key=lambda item: item.__name__))


OPERATIONS = operations_of(
    store_operations,
    sharing_operations,
    metadata_operations,
    unit_operations,
    url_operations,
    upkeep_operations,
    search_operations,
    transfer_operations,
    queue_operations,
    directory_operations,
)


def _decoder() -> msgspec.msgpack.Decoder[list[tuple[int, list[Operation[Any]]]]]:
    operation: Any = Union[OPERATIONS]  # noqa: UP007  # made at run time
    calls: Any = list[tuple[int, list[operation]]]
    return msgspec.msgpack.Decoder(calls)


class _Client(asyncio.Protocol):
    """One worker."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._frames = wire.Frames()
        self._transport: asyncio.Transport | None = None
        self._in_flight = 0
        self._paused = False
        self._notices: list[Notice] = []
        self._answers: list[wire.Answer] = []
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._server.clients) >= CLIENTS_MAX:
            self.drop("too many clients")
            return
        self._server.clients.add(self)
        transport.write(wire.frame(wire.Hello(wire.VERSION, os.getpid())))

    def connection_lost(self, exc: Exception | None) -> None:
        """Units under way go on: they may be committed already."""
        self._transport = None
        self._server.clients.discard(self)
        self._server.idle_check()

    def drop(self, reason: str) -> None:
        if self._transport is not None:
            self._server.trace(StoreClientDropped(reason=reason))
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.receive(data):
                for number, operations in self._server.decoder.decode(frame):
                    self._submit(number, operations)
        except (wire.WireError, msgspec.MsgspecError) as error:
            self.drop(f"not understood: {error}")

    def _submit(self, number: int, operations: list[Operation[Any]]) -> None:
        self._in_flight += 1
        unit = Unit(operations, lambda unit: self._settled(number, unit))
        try:
            self._server.database.submit_unit(unit)
        except Unavailable as error:
            unit.error = error
            self._settled(number, unit)
        if self._in_flight >= IN_FLIGHT_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _settled(self, number: int, unit: Unit) -> None:
        self._in_flight -= 1
        self._answers.append(wire.answer_of(number, unit.results, unit.error))
        self._flush_soon()
        if self._paused and self._in_flight < IN_FLIGHT_MAX // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if not self._in_flight:
            self._server.idle_check()

    def notify(self, notices: list[Notice]) -> None:
        self._notices += notices
        self._flush_soon()

    def _flush_soon(self) -> None:
        """What one group of commits has to say goes out in one frame."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        notices, self._notices = self._notices, []
        answers, self._answers = self._answers, []
        transport = self._transport
        if transport is None:
            return
        transport.write(wire.frame((notices, answers)))
        if transport.get_write_buffer_size() > UNREAD_OCTETS_MAX:
            self.drop("it does not read its answers")

    @property
    def busy(self) -> bool:
        return self._in_flight > 0 or self._flushing

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class StoreServer:
    """Serves `database` at data_dir/run/store.sock."""

    def __init__(self, database: LocalDatabase, trace: Trace = discard) -> None:
        self.database = database
        self.trace = trace
        self.decoder = _decoder()
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()

    @property
    def path(self) -> Path:
        return self.database.data_dir / wire.SOCKET_PATH

    async def start(self) -> None:
        """Listens when it returns. The lock on the data directory says that an old socket file is
        nobody's. Raises: Unavailable."""
        self.database.listen(self._notify)
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self.path.unlink(missing_ok=True)
            loop = asyncio.get_running_loop()
            with wire.socket_address(self.database.data_dir) as path:
                self._server = await loop.create_unix_server(lambda: _Client(self), path)
            self.path.chmod(0o600)
        except OSError as error:
            raise Unavailable(f"{self.path}: {error}") from error

    def _notify(self, notices: list[Notice]) -> None:
        if notices:
            for client in self.clients:
                client.notify(notices)

    def idle_check(self) -> None:
        if not any(client.busy for client in self.clients):
            self._idle.set()

    async def close(self, timeout_s: float = 10.0) -> None:
        """Accepts no client any more, answers what is under way, closes. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        deadline = asyncio.get_running_loop().time() + timeout_s
        while any(client.busy for client in self.clients):
            self._idle.clear()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                await asyncio.wait_for(self._idle.wait(), min(left, 0.1))
            except TimeoutError:
                continue
        for client in tuple(self.clients):
            client.close()
        self.path.unlink(missing_ok=True)
