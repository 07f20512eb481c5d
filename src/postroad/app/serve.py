"""`postroad serve`: the main process, from the configuration to the last signal.

With workers it is the store process: it writes for everybody, and looks after the workers and the
process that runs the queue. Without, it does everything. Either way the command line reaches the
store through the same socket.

SIGTERM and SIGINT drain and stop, a second one stops at once; SIGHUP reads the configuration and
the certificate again. Privileges go before any data is opened.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from postroad.app.config import Config, ConfigError, load
from postroad.app.connect import demand_data
from postroad.app.crew import Crew, LocalCrew
from postroad.app.housekeeping import keep_house
from postroad.app.logs import ServerLog
from postroad.app.loop import raise_descriptor_limit, run_loop
from postroad.app.master_key import check_keys, note_key
from postroad.app.notify import notify, notify_reloading
from postroad.app.pack_keeping import PackKeeper
from postroad.app.preload import preload
from postroad.app.sockets import CannotStart, Sockets, bind_all, close_all, drop_privileges
from postroad.app.wiring import (
    ConfigurationReloaded,
    ReloadFailed,
    certificate_of,
    needs_restart,
    quota_defaults,
    server_secret,
)
from postroad.database.local import LocalDatabase
from postroad.mail.errors import Fault, StateError
from postroad.service.stored import StoreServer
from postroad.trace import Event

if TYPE_CHECKING:
    from postroad.app.supervisor import Supervisor

GRACE_S = 8.0
"""How long sessions and deliveries under way may take to end after SIGTERM."""
LOCK_TIMEOUT_S = 10.0
"""A command, or the server before us, may still have the data directory."""
STOPPED_AT_ONCE = 1
"""Exit code after a second SIGTERM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStarted(Event):
    hostname: str
    workers: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStopping(Event):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStopped(Event):
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecovered(Event):
    """Rows without octets that a crash left, which nobody was told 250 for, were removed."""

    messages: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMissing(Event):
    """Messages that were answered are not in the database: its log was cut off, or an older one
    was put in its place. `postroad verify --repair` says more."""

    messages: int


def serve(path: Path) -> int:
    """Runs until told to stop; returns the exit code.

    Raises: ConfigError, CannotStart, StateError, Unavailable, before it is ready.
    """
    began = time.monotonic()
    config = load(path)
    raise_descriptor_limit()
    demand_data(config.data_dir)
    workers = config.workers
    sets = bind_all(config, max(workers, 1))
    log: ServerLog | None = None
    supervisor: Supervisor | None = None
    try:
        drop_privileges(config, partial(preload, tokens=bool(config.oauth.issuer)))
        _demand_certificate(config)
        if workers:
            supervisor = _forked(config, sets)
        log = ServerLog(config.log)
        server = Server(path, config, sets, log, supervisor, began)
        return run_loop(server.run(), uvloop=config.server.uvloop)
    finally:
        close_all(sets)
        if supervisor is not None:
            supervisor.abandon()
        if log is not None:
            log.close()


def _demand_certificate(config: Config) -> None:
    """Asked as the user who serves. Raises: CannotStart."""
    try:
        certificate_of(config)
    except OSError as error:
        raise CannotStart(
            f"[tls] {error.filename}: {error.strerror}. Set certificate and key to PEM files that "
            "the server's user can read"
        ) from error
    except ValueError as error:
        raise CannotStart(f"[tls] {error}") from error


def _forked(config: Config, sets: list[Sockets]) -> Supervisor:
    """The workers, with everything they need imported before, so that they share it."""
    from postroad.app.supervisor import Supervisor

    supervisor = Supervisor(config, sets)
    supervisor.fork()
    return supervisor


class Server:
    """The main process."""

    def __init__(
        self,
        path: Path,
        config: Config,
        sets: list[Sockets],
        log: ServerLog,
        supervisor: Supervisor | None,
        began: float,
    ) -> None:
        self._path = path
        self._config = config
        self._sets = sets
        self._log = log
        self._began = began
        self._stop: asyncio.Event = asyncio.Event()
        self._at_once: asyncio.Event = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._supervisor = supervisor
        self._crew: Crew | None = None
        self._database: LocalDatabase | None = None

    def _keep_removed_days(self) -> int:
        return self._config.accounts.keep_removed_days

    async def run(self) -> int:
        """Raises: CannotStart, StateError, Unavailable."""
        self._listen_to_signals()
        database = await self._open()
        stored = StoreServer(database, self._log)
        keeping: list[asyncio.Task[None]] = []
        try:
            check_keys(self._config.storage.master_key, database)
            note_key(self._config.data_dir, self._config.storage.master_key)
            await stored.start()
            await database.submit(quota_defaults(self._config))
            self._database = database
            secret = server_secret(self._config.data_dir)
            crew: Crew
            if self._supervisor is not None:
                self._supervisor.report_to(self._log)
                crew = self._supervisor
            else:
                crew = LocalCrew(
                    self._config, database, secret, self._log, self._sets[0], runs_queue=True
                )
            await crew.start()
            self._crew = crew
            keeper = PackKeeper(database, self._config.storage, self._log)
            keeping = [
                asyncio.create_task(keep_house(database, self._log, self._keep_removed_days)),
                asyncio.create_task(keeper.run()),
            ]
            if not self._stop.is_set():
                self._announce()
                await self._stop.wait()
            return await self._drain(crew)
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            await stored.close()
            await database.close()
            self._log(ServerStopped(seconds=round(time.monotonic() - self._began, 1)))

    async def _open(self) -> LocalDatabase:
        """Raises: StateError(INUSE) when somebody keeps the data directory; Unavailable."""
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                database = LocalDatabase.open(self._config.data_dir)
                break
            except StateError as error:
                if error.fault is not Fault.INUSE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
        recovered = database.recovered
        if recovered.messages or recovered.queued:
            self._log(DataRecovered(messages=len(recovered.messages), queued=len(recovered.queued)))
        if recovered.missing:
            self._log(DataMissing(messages=recovered.missing))
        return database

    def _announce(self) -> None:
        gc.collect()
        gc.freeze()  # what start-up made is never garbage
        config = self._config
        seconds = round(time.monotonic() - self._began, 2)
        ports = ", ".join(f"{name} {port}" for name, port in config.ports().items())
        addresses = " ".join(config.listen.addresses)
        self._log(
            ServerStarted(hostname=config.server.hostname, workers=config.workers, seconds=seconds)
        )
        print(
            f"postroad ready: {config.server.hostname} on {addresses} ({ports}); "
            f"workers {config.workers}; {seconds} s",
            flush=True,
        )
        notify("READY=1", f"STATUS=serving as {config.server.hostname}")

    # -- signals ------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop, "SIGTERM")
        loop.add_signal_handler(signal.SIGINT, self._on_stop, "SIGINT")
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    def _on_stop(self, name: str) -> None:
        if self._stop.is_set():
            self._at_once.set()
            return
        self._log(ServerStopping(signal=name))
        notify("STOPPING=1")
        self._stop.set()

    async def _drain(self, crew: Crew) -> int:
        """Exit code 0, or STOPPED_AT_ONCE when a second signal cut it short."""
        draining = asyncio.create_task(crew.drain(GRACE_S))
        hurry = asyncio.create_task(self._at_once.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if draining.done():
            draining.result()
            return 0
        draining.cancel()
        await crew.drain(0)
        return STOPPED_AT_ONCE

    def _on_reload(self) -> None:
        if self._crew is None or self._stop.is_set():
            return
        if self._reloading is not None and not self._reloading.done():
            self._reload_again = True
            return
        self._reloading = asyncio.create_task(self._reload(self._crew))

    async def _reload(self, crew: Crew) -> None:
        notify_reloading()
        while True:
            self._reload_again = False
            await self._reload_once(crew)
            if not self._reload_again:
                break
        notify("READY=1")

    async def _reload_once(self, crew: Crew) -> None:
        """What cannot be used changes nothing; what needs a restart is named and left."""
        import msgspec

        try:
            new = await asyncio.to_thread(load, self._path)
            certificate_of(new)
        except (ConfigError, OSError, ValueError) as error:
            self._log(ReloadFailed(why=str(error)))
            return
        left = needs_restart(self._config, new)
        old = self._config
        new = msgspec.structs.replace(
            new, server=old.server, listen=old.listen, storage=old.storage
        )
        try:
            await crew.reload(self._config, new)
        except (OSError, ValueError) as error:
            self._log(ReloadFailed(why=str(error)))
            return
        if self._database is not None:
            await self._database.submit(quota_defaults(new))
        self._config = new
        self._log.configure(new.log)
        self._log(ConfigurationReloaded(needs_restart=left))
