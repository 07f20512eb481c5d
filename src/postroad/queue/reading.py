"""Reading the queue and the history of messages. Implements `queue.contract.Queue`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from postroad.database.contract import Database, Row
from postroad.queue.contract import Due, QueuedMessage, QueuedRecipient

PAGE_ROWS = 1000
"""Rows read at once where all are walked: a few milliseconds, nothing held open in between."""

_MESSAGE = (
    "SELECT number, message, blob, head, size, reverse_path, body, smtputf8, ret, envid, account,"
    " accepted, expires FROM queue_message"
)
_records = msgspec.msgpack.Decoder(list[tuple[float, bytes]])


def _recipient(row: Row) -> QueuedRecipient:
    return QueuedRecipient(
        recipient=row[0],
        path=row[1],
        domain=row[2],
        notify=tuple(row[3].split()),
        orcpt=row[4],
        tries=row[5],
        next_attempt=row[6],
        last_attempt=row[7],
        last_reply=row[8],
        last_remote=row[9],
        attempting=bool(row[10]),
    )


class MailQueue:
    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self) -> Iterator[Due]:
        message, recipient = "", -1
        while True:
            rows = list(
                self._database.execute(
                    "SELECT next_attempt, message, recipient, domain FROM queue_recipient"
                    " WHERE (message, recipient) > (?, ?) ORDER BY message, recipient LIMIT ?",
                    (message, recipient, PAGE_ROWS),
                )
            )
            yield from (Due(*row) for row in rows)
            if len(rows) < PAGE_ROWS:
                return
            _, message, recipient, _ = rows[-1]

    def due_of(self, message: str) -> list[Due]:
        rows = self._database.execute(
            "SELECT next_attempt, message, recipient, domain FROM queue_recipient"
            " WHERE message = ? ORDER BY recipient",
            (message,),
        )
        return [Due(*row) for row in rows]

    def message(self, message: str) -> QueuedMessage | None:
        with self._database.snapshot():
            row = self._database.first(_MESSAGE + " WHERE message = ?", (message,))
            return None if row is None else self._whole(row)

    def messages(self) -> Iterator[QueuedMessage]:
        after = 0
        while True:
            with self._database.snapshot():
                rows = self._database.execute(
                    _MESSAGE + " WHERE number > ? ORDER BY number LIMIT 100", (after,)
                )
                found = [(row[0], self._whole(row)) for row in rows]
            if not found:
                return
            for after, message in found:  # noqa: B007  # the last number is where to go on
                yield message

    def _whole(self, row: Row) -> QueuedMessage:
        recipients = self._database.execute(
            "SELECT recipient, path, domain, notify, orcpt, tries, next_attempt, last_attempt,"
            " last_reply, last_remote, attempting FROM queue_recipient WHERE message = ?"
            " ORDER BY recipient",
            (row[1],),
        )
        return QueuedMessage(
            message=row[1],
            blob=row[2],
            head=row[3],
            size=row[4],
            reverse_path=row[5],
            body=row[6],
            smtputf8=bool(row[7]),
            ret=row[8],
            envid=row[9],
            account=row[10],
            accepted=row[11],
            expires=row[12],
            recipients=tuple(map(_recipient, recipients)),
        )

    def history(self, message: str) -> list[tuple[float, bytes]]:
        rows = self._database.execute(
            "SELECT records FROM history WHERE message = ? ORDER BY number", (message,)
        )
        return [record for (records,) in rows for record in _records.decode(records)]
