"""Long operations: done in slices, and the client hears that the server is still at it.

Source: RFC 9585 §4, §5 (INPROGRESS).
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from postroad.database.contract import Operation
from postroad.service.imapd.session import PROGRESS_EVERY_S, Session
from postroad.store import slices

Result = TypeVar("Result")


async def submit(session: Session, operation: Operation[Result]) -> Result:
    """The operation's result, once it is durable. Raises: what `Database.submit` does."""
    database = session.site.database
    if not operation.is_long():
        [result] = await database.submit(operation)
        return result  # type: ignore[no-any-return]  # the operation says what it returns
    count = 0

    async def progress(done: int) -> None:
        nonlocal count
        count = done

    task = asyncio.ensure_future(slices.submit(database, operation, progress))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=PROGRESS_EVERY_S)
            if not task.done():
                await session.progress(count)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
