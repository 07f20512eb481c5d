"""Moving the WAL into the database file without making commits wait.

A thread of its own runs passive checkpoints on its own connection: they copy pages and sync while
the writer goes on. The WAL can only start anew when everything in it was copied and nobody
writes, so past `WAL_OCTETS_MAX` the writer itself finishes the (then short) rest between two
groups. Both are hints to SQLite: correctness does not depend on them.
Source: https://sqlite.org/wal.html §2.3.
"""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

from postroad.database.connection import BUSY_TIMEOUT_MS, PAGE_OCTETS, open_checkpointer

PASSIVE_PAGES = (8 << 20) // PAGE_OCTETS
"""A passive checkpoint for each so many new pages of WAL."""
RESTART_PAGES = (64 << 20) // PAGE_OCTETS
"""Past this the WAL is made to start anew."""
RESTART_TIMEOUT_MS = 50
"""Commits wait no longer than this for a reader that is in the way."""
IDLE_S = 5.0
"""After so long without a commit, what is left is copied too."""


class Checkpointer:
    def __init__(self, data_dir: Path, writer: apsw.Connection) -> None:
        self._writer = writer
        self._connection = open_checkpointer(data_dir)
        self._pages = 0
        self._copied_at = 0
        self._restart_at = RESTART_PAGES
        self._wake = threading.Event()
        self._stopping = False
        writer.set_wal_hook(self._wal_grew)
        self._thread = threading.Thread(target=self._run, name="postroad-checkpoint", daemon=True)
        self._thread.start()

    def _wal_grew(self, connection: apsw.Connection, name: str, pages: int) -> int:
        if pages < self._pages:
            self._copied_at = 0  # it has started anew
        self._pages = pages
        return apsw.SQLITE_OK

    def wants_restart(self) -> bool:
        """Between two groups. Also starts a passive checkpoint when enough has come together."""
        if self._pages - self._copied_at > PASSIVE_PAGES:
            self._copied_at = self._pages
            self._wake.set()
        return self._pages > self._restart_at

    def restart(self) -> None:
        """On the writer's thread, between two groups."""
        self._writer.set_busy_timeout(RESTART_TIMEOUT_MS)
        try:
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            self._restart_at = RESTART_PAGES
            self._pages = self._copied_at = 0
        except apsw.Error:
            # A reader is in the way, or the disk: nothing is lost, the WAL is longer for a while.
            self._restart_at = self._pages + RESTART_PAGES // 4
        finally:
            self._writer.set_busy_timeout(BUSY_TIMEOUT_MS)

    def _run(self) -> None:
        while not self._stopping:
            busy = self._wake.wait(IDLE_S)
            self._wake.clear()
            if self._stopping:
                break
            if busy or self._pages != self._copied_at:
                self._copied_at = self._pages
                try:
                    self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                except apsw.Error:
                    continue  # busy or a full disk: the WAL keeps everything, try again later
        self._connection.close()

    def finish(self) -> None:
        """At the end, on the writer's connection: a stopped server's data is one file."""
        self._writer.set_busy_timeout(RESTART_TIMEOUT_MS)
        try:
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error:
            return  # somebody still reads: the WAL has it, and the next start copies it

    def close(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()
