"""The clock and the dice of the machine."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from datetime import UTC, datetime

_DICE = random.SystemRandom()


class SystemClock:
    """The Clock of real life."""

    __slots__ = ()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random_bits(self, bits: int) -> int:
        return secrets.randbits(bits)

    def uniform(self, low: float, high: float) -> float:
        return _DICE.uniform(low, high)
