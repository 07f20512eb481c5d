"""Turns: work that became possible all at once is done a little at a time.

One commit wakes every session or courier that waited for it. Each needs the loop for half a
millisecond only, but a hundred of them in one turn of the loop keep every other peer waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets `per_turn` callers through in each turn of the loop, in the order they came.

    Between two turns the loop looks at its sockets. Whoever is alone never waits.
    """

    def __init__(self, per_turn: int) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def take(self) -> None:
        """Returns when it is the caller's turn."""
        self._schedule()
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        self._left = self._per_turn
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its caller was cancelled
                turn.set_result(None)
                self._left -= 1
        if self._waiting:
            self._schedule()
