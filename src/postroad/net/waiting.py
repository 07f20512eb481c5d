"""Waiting for one future with a deadline, without a task.

Knows no socket. A future is a seat for one waiter: whoever brings news sets its result.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from typing import TypeVar

from postroad.net.contract import TimedOut

T = TypeVar("T")


def expire(future: Future[T]) -> None:
    """Ends the wait of whoever sits on `future`."""
    if not future.done():
        future.set_exception(TimedOut("the peer kept us waiting"))


def wake(seat: Future[None]) -> None:
    """Ends the wait of whoever sits there, well."""
    if not seat.done():
        seat.set_result(None)


async def wait_until(loop: AbstractEventLoop, future: Future[T], deadline: float) -> T:
    """The future's result, if it comes before `deadline` (of `loop.time()`).

    Raises: TimedOut, and what the future was given.
    """
    handle = loop.call_at(deadline, expire, future)
    try:
        return await future
    finally:
        handle.cancel()
