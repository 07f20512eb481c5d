"""A turn for the others: long work yields to the loop between slices."""

from __future__ import annotations

import asyncio


async def turn() -> None:
    """Lets whoever is ready run."""
    await asyncio.sleep(0)
