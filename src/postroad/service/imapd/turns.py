"""A turn for the others: long work yields to the loop between slices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

AT_ONCE = 5000
"""Numbers that are gone through on the loop: some hundred microseconds."""


async def turn() -> None:
    """Lets whoever is ready run."""
    await asyncio.sleep(0)


async def apart(work: Callable[[], T], size: int) -> T:
    """The result of going through so many numbers: on a thread when they are many."""
    return work() if size <= AT_ONCE else await asyncio.to_thread(work)
