"""The way of a process's units of work to the writer, with what its blobs must know of them.

Contents that go to an encrypted account are sealed here, in the process that makes them. If a unit
was not durable, the blobs that were stored for it are not named again: a retry stores them anew
(decision 4). Everything else passes through.
Implements `database.contract.Database`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from postroad.database.contract import Database, Notice, Operation, Row, SQLValue, Unsubscribe
from postroad.mail.errors import Unavailable
from postroad.store.blobs import BlobStore
from postroad.store.keys import Cipher, Keys
from postroad.store.operations import Copy, Move
from postroad.store.recoding import recode
from postroad.store.sealing import opened_blob, sealed_content
from postroad.store.units import AppendAll
from postroad.store.upkeep import Recheck
from postroad.store.values import Content

THREAD_OCTETS_MIN = 65_536
"""Reading and sealing less takes some 100 us."""
PER_TURN = 20
"""Messages of one unit that are made ready before others have a turn."""


class Gate:
    __slots__ = ("_blobs", "_database", "_keys")

    def __init__(self, database: Database, blobs: BlobStore, keys: Keys | None = None) -> None:
        self._database = database
        self._blobs = blobs
        self._keys = keys

    def execute(self, sql: str, params: Sequence[SQLValue] = ()) -> Iterator[Row]:
        return self._database.execute(sql, params)

    def first(self, sql: str, params: Sequence[SQLValue] = ()) -> Row | None:
        return self._database.first(sql, params)

    def snapshot(self) -> Any:
        return self._database.snapshot()

    def subscribe(self, account: int, callback: Callable[[Notice], None]) -> Unsubscribe:
        return self._database.subscribe(account, callback)

    async def submit(self, *operations: Operation[Any]) -> list[Any]:
        try:
            if self._keys is None:
                return await self._database.submit(*operations)
            return await self._submit_sealed(self._keys, operations)
        except Unavailable:
            self._blobs.forget()
            raise

    async def _submit_sealed(self, keys: Keys, operations: tuple[Operation[Any], ...]) -> list[Any]:
        opened: dict[str, str] = {}
        unit = [await self._ready(keys, operation, opened) for operation in operations]
        crossing = [
            found for found in (self._crossing(keys, operation) for operation in unit) if found
        ]
        results = await self._database.submit(*unit, *crossing)
        for recheck in crossing:
            try:
                await recode(self._database, self._blobs, keys, recheck.account)
            except Unavailable:
                continue  # what was copied can be read; the housekeeping comes to it
        return results[: len(unit)]

    async def _ready(
        self, keys: Keys, operation: Operation[Any], opened: dict[str, str]
    ) -> Operation[Any]:
        """The operation, what it brings sealed as its account wants it. opened: blobs of this
        unit that somebody needs in the clear."""
        blob = getattr(operation, "blob", None)
        if isinstance(blob, str):  # of the queue: mail for others is nobody's here
            plain = await self._in_the_clear(blob, opened)
            return operation if plain == blob else msgspec.structs.replace(operation, blob=plain)
        if isinstance(operation, AppendAll):
            return await self._ready_all(keys, operation, opened)
        content = getattr(operation, "content", None)
        if not isinstance(content, Content):
            return operation
        account = getattr(operation, "account")  # noqa: B009  # whichever it is
        ready = await self._ready_content(keys.sealing(account), content, opened)
        return operation if ready is content else msgspec.structs.replace(operation, content=ready)

    async def _ready_all(
        self, keys: Keys, operation: AppendAll, opened: dict[str, str]
    ) -> AppendAll:
        """The same for each of its messages."""
        cipher = keys.sealing(operation.account)
        messages = []
        for count, message in enumerate(operation.messages, 1):
            content = await self._ready_content(cipher, message.content, opened)
            if content is not message.content:
                message = msgspec.structs.replace(message, content=content)
            messages.append(message)
            if not count % PER_TURN:
                await asyncio.sleep(0)
        return msgspec.structs.replace(operation, messages=tuple(messages))

    async def _ready_content(
        self, cipher: Cipher | None, content: Content, opened: dict[str, str]
    ) -> Content:
        if cipher is not None:
            sealed: Content = await self._apart(
                content.size, sealed_content, content, cipher, self._blobs
            )
            return sealed
        plain = await self._in_the_clear(content.blob, opened)
        return content if plain == content.blob else msgspec.structs.replace(content, blob=plain)

    async def _in_the_clear(self, blob: str, opened: dict[str, str]) -> str:
        """The blob itself when it is not sealed; else one that is not, made once in a unit."""
        if blob not in opened:
            opened[blob] = blob
            if self._blobs.owner(blob):
                opened[blob] = await asyncio.to_thread(opened_blob, blob, self._blobs)
        return opened[blob]

    async def _apart(self, octets: int, work: Callable[..., Any], *about: Any) -> Any:
        if octets < THREAD_OCTETS_MIN:
            return work(*about)
        return await asyncio.to_thread(work, *about)

    def _crossing(self, keys: Keys, operation: Operation[Any]) -> Recheck | None:
        """What a copy into another account asks for, when either of them is or was encrypted: its
        rows are copied by the writer as they are."""
        if not isinstance(operation, Copy | Move):
            return None
        to = operation.to_account
        if not to or to == operation.account:
            return None
        if keys.cipher(to) is None and keys.cipher(operation.account) is None:
            return None
        row = self._database.first("SELECT seq FROM sqlite_sequence WHERE name = 'content'")
        position = 0 if row is None else int(row[0])
        return Recheck(account=to, position=position, wrapped=keys.new_key(to))
