"""SQLite connections as Postroad opens them: one writer, a reader each thread, a checkpointer.

Source: https://sqlite.org/wal.html; decision 5 holds the measurements behind the numbers.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

DATABASE_NAME = "postroad.db"
PAGE_OCTETS = 8192
"""Of a new database. Content rows are 1.5 to 2.5 KB: four fit, and few overflow."""
BUSY_TIMEOUT_MS = 10_000
"""A reader waits so long while a checkpoint or recovery holds the file; normally it never waits."""
WRITER_CACHE_KIB = 64 << 10
READER_CACHE_KIB = 8 << 10
MMAP_OCTETS = 1 << 30
"""Readers map so much of the file: pages come from the page cache without a copy or a call."""
WAL_KEPT_OCTETS = 64 << 20
"""The WAL file is cut back to this when it starts anew."""


def prepare_directory(data_dir: Path) -> None:
    """Creates the data directory, for its owner alone."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def open_writer(data_dir: Path) -> apsw.Connection:
    """The one connection that writes; creates the database. Used on one thread at a time."""
    path = data_dir / DATABASE_NAME
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(
        str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    )
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("page_size", PAGE_OCTETS)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("journal_size_limit", WAL_KEPT_OCTETS)
    connection.pragma("temp_store", "memory")
    connection.pragma("cache_size", -WRITER_CACHE_KIB)
    return connection


def open_checkpointer(data_dir: Path) -> apsw.Connection:
    connection = apsw.Connection(str(data_dir / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(0)
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", 0)
    return connection


def open_reader(data_dir: Path) -> apsw.Connection:
    """A connection that cannot write. It opens the file for writing, as WAL's index asks for it.

    Raises: apsw.CantOpenError when there is no database.
    """
    connection = apsw.Connection(str(data_dir / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("query_only", 1)
    connection.pragma("cache_size", -READER_CACHE_KIB)
    connection.pragma("mmap_size", MMAP_OCTETS)
    connection.pragma("temp_store", "memory")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection
