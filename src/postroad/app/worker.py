"""A worker process: `python -m postroad.app.worker`, started by `app.supervisor` only.

Standard input brings JSON lines: first `Start`, then `Reload` and `Drain`; its end means that the
parent is gone, and the store with it: the worker ends at once. Standard output says `ready`.
The parent has bound the sockets, which come as open descriptors, and has given up root.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys

import msgspec

from postroad.app.config import Config
from postroad.app.crew import LocalCrew
from postroad.app.logs import ServerLog
from postroad.app.loop import run_loop
from postroad.app.wiring import ConfigurationReloaded, ReloadFailed, server_secret
from postroad.database.remote import RemoteDatabase

PARENT_GONE = 70
LINE_OCTETS_MAX = 1 << 20


class Start(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """sockets: service name and descriptor."""

    config: Config
    sockets: list[tuple[str, int]]
    runs_queue: bool


class Reload(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    config: Config


class Drain(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    grace_s: float


Order = Start | Reload | Drain
_decoder: msgspec.json.Decoder[Start | Reload | Drain] = msgspec.json.Decoder(Order)


async def _orders() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_OCTETS_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _next_order(reader: asyncio.StreamReader) -> Start | Reload | Drain:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        os._exit(PARENT_GONE)  # nothing can be written any more, so nothing can be saved
    return _decoder.decode(line)


async def work(start: Start, reader: asyncio.StreamReader, log: ServerLog) -> None:
    config = start.config
    sockets = [(name, socket.socket(fileno=fd)) for name, fd in start.sockets]
    database = await RemoteDatabase.connect(config.data_dir)
    crew = LocalCrew(
        config,
        database,
        server_secret(config.data_dir),
        log,
        sockets,
        runs_queue=start.runs_queue,
    )
    await crew.start()
    gc.collect()
    gc.freeze()  # what start-up made is never garbage: the collector need not look again
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        match await _next_order(reader):
            case Reload(config=new):
                try:
                    await crew.reload(config, new)
                except (OSError, ValueError) as error:
                    log(ReloadFailed(why=str(error)))
                    continue
                log.configure(new.log)
                log(ConfigurationReloaded())
                config = new
            case Drain(grace_s=grace_s):
                await crew.drain(grace_s)
                await database.close()
                return
            case Start():
                raise AssertionError("a worker is started once")


def _first_line() -> bytes:
    """Not an octet more: what follows is the loop's to read."""
    line = bytearray()
    while not line.endswith(b"\n"):
        octet = os.read(0, 1)
        if not octet:
            sys.exit(PARENT_GONE)
        line += octet
    return bytes(line)


def command() -> list[str]:
    """How the parent starts one."""
    return [sys.executable, "-m", "postroad.app.worker"]


def main() -> None:
    """Signals of the terminal are the parent's to hear; it says what to do."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    start = _decoder.decode(_first_line())
    assert isinstance(start, Start)
    log = ServerLog(start.config.log)

    async def run() -> None:
        await work(start, await _orders(), log)

    try:
        run_loop(run(), uvloop=start.config.server.uvloop)
    finally:
        log.close()


if __name__ == "__main__":
    main()
