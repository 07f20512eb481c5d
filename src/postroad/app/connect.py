"""How a command reaches the data: through the running server, or as its own writer without one.

Whoever holds the data directory's lock writes. A command that finds the lock free takes it for
as long as it runs; otherwise the server that has it does the writing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from postroad.admin.books import Books
from postroad.app.config import Config, load, locate
from postroad.mail.errors import Fault, StateError, Unavailable

if TYPE_CHECKING:
    from postroad.database.contract import Database
    from postroad.store.keys import Keys

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 2.0
"""Of a server that holds the lock: one that is starting does not answer yet."""
_RETRY_S = 0.1


def configured(config_file: str | None) -> Config:
    """Raises: ConfigError."""
    return load(locate(config_file))


@asynccontextmanager
async def books_of(config: Config, *, create: bool = False) -> AsyncIterator[Books]:
    """The books of the server, running or not. create: they may be new.

    Raises: Unavailable; StateError(INUSE) when another process has the lock and does not answer.
    """
    import asyncio

    if not create:
        demand_data(config.data_dir)
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            database, served, close = await _open(config.data_dir)
            break
        except StateError as error:
            # a server that is starting or stopping, or another command
            if error.fault is not Fault.INUSE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(_RETRY_S)
    try:
        books = books_over(database, config.server.hostname, served=served)
        yield replace(books, keys=_keys(config, database)) if config.storage.master_key else books
    finally:
        await close()


def _keys(config: Config, database: Database) -> Keys | None:
    """None when the master key cannot be read: most commands do without, the others say so."""
    from postroad.app.master_key import keys_of

    try:
        return keys_of(config.storage.master_key, database)
    except Unavailable:
        return None


def books_over(database: Database, hostname: str, *, served: bool) -> Books:
    from postroad.directory.reading import MailDirectory
    from postroad.queue.reading import MailQueue

    return Books(
        database=database,
        directory=MailDirectory(database, hostname),
        queue=MailQueue(database),
        served=served,
    )


def demand_data(data_dir: Path) -> None:
    """A server that began anew on an empty directory, because a disk is not mounted, would tell
    every sender that nobody is here, for good.

    Raises: Unavailable.
    """
    from postroad.database.connection import DATABASE_NAME

    if not (data_dir / DATABASE_NAME).is_file():
        raise Unavailable(
            f"there is no data in {data_dir}. If it is on a disk of its own, mount that; "
            "a new server is made by postroad init"
        )


async def _open(data_dir: Path) -> tuple[Database, bool, Callable[[], Awaitable[None]]]:
    """Database, whether a server does the writing, and how to let go of it."""
    from postroad.database.local import LocalDatabase

    try:
        local = LocalDatabase.open(data_dir)
        return local, False, local.close
    except StateError as error:
        if error.fault is not Fault.INUSE:
            raise
        from postroad.database.remote import RemoteDatabase

        try:
            remote = await RemoteDatabase.connect(data_dir, timeout_s=ANSWER_TIMEOUT_S)
        except Unavailable:
            raise error from None
        return remote, True, remote.close
