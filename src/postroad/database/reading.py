"""Reading on the caller's thread, one connection for each thread that reads.

Every statement is read to its end at once: a cursor left open would hold an old snapshot, and
the statements after it would see the past.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

import apsw

from postroad.database.connection import open_reader
from postroad.database.contract import Row, SQLValue
from postroad.mail.errors import Unavailable


class _PerThread(threading.local):
    connection: apsw.Connection | None = None
    depth = 0


class Snapshot:
    """`with database.snapshot():` reads inside see one commit. May be nested."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._reader.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader.end()


class Reader:
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._mine = _PerThread()
        self._all: list[apsw.Connection] = []
        self._closed = False

    def _connection(self) -> apsw.Connection:
        connection = self._mine.connection
        if connection is None:
            if self._closed:
                raise Unavailable("the database is closed")
            try:
                connection = open_reader(self._data_dir)
            except apsw.Error as error:
                raise Unavailable(f"database: {error}") from error
            self._mine.connection = connection
            self._all.append(connection)
        return connection

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        """Raises: Unavailable."""
        try:
            return iter(
                (self._mine.connection or self._connection()).execute(sql, params).fetchall()
            )
        except apsw.Error as error:
            raise self._failure(error) from error

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None:
        """Raises: Unavailable."""
        try:
            row = (self._mine.connection or self._connection()).execute(sql, params).fetchone()
        except apsw.Error as error:
            raise self._failure(error) from error
        return cast("Row | None", row)

    def _failure(self, error: apsw.Error) -> Exception:
        """A faulty statement is our bug; anything else is the disk's, and temporary."""
        bug = isinstance(error, apsw.SQLError | apsw.BindingsError | apsw.ThreadingViolationError)
        return error if bug else Unavailable(f"database: {error}")

    def snapshot(self) -> Snapshot:
        return Snapshot(self)

    def begin(self) -> None:
        if self._mine.depth == 0:
            self.execute("BEGIN DEFERRED")
        self._mine.depth += 1

    def end(self) -> None:
        self._mine.depth -= 1
        if self._mine.depth == 0:
            self.execute("COMMIT")

    def close(self) -> None:
        self._closed = True
        for connection in self._all:
            connection.close(True)
        self._all.clear()
        self._mine.connection = None
