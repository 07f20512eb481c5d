"""What an operation holds while it is applied, and what it leaves to be done at the commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import apsw

from postroad.database.contract import Notice, Row, SQLValue


class WriteTransaction:
    """One per group; `mark` and `back_to` cut out a unit that is refused."""

    __slots__ = ("_connection", "blobs", "notices")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.notices: list[Notice] = []
        self.blobs: list[str] = []

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        """Runs the statement to its end before it returns: a half-read UPDATE is a trap."""
        return iter(self._connection.execute(sql, params).fetchall())

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None:
        rows = self._connection.execute(sql, params).fetchall()
        return cast(Row, rows[0]) if rows else None

    def execute_many(self, sql: str, rows: Sequence[Sequence[SQLValue]]) -> list[Row]:
        return cast("list[Row]", self._connection.executemany(sql, rows).fetchall())

    def changes(self) -> int:
        return self._connection.changes()

    def notify(self, notice: Notice) -> None:
        self.notices.append(notice)

    def sync_blob(self, blob: str) -> None:
        self.blobs.append(blob)

    def mark(self) -> tuple[int, int]:
        self._connection.execute("SAVEPOINT unit")
        return len(self.notices), len(self.blobs)

    def keep(self) -> None:
        self._connection.execute("RELEASE unit")

    def back_to(self, mark: tuple[int, int]) -> None:
        self._connection.execute("ROLLBACK TO unit")
        self._connection.execute("RELEASE unit")
        notices, blobs = mark
        del self.notices[notices:]
        del self.blobs[blobs:]
