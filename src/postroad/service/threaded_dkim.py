"""DKIM verification of large messages on a thread, with DNS asked on the loop it belongs to.

Hashing some megabytes takes as long as a thousand commands of other sessions.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar

from postroad.dns.resolver import MX, Answer, Resolver
from postroad.mailauth.dkim import DKIMResult, verify_dkim

T = TypeVar("T")


class _OnLoop:
    """A Resolver for another thread's loop."""

    def __init__(self, resolver: Resolver, loop: AbstractEventLoop) -> None:
        self._resolver = resolver
        self._loop = loop

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(question, self._loop))

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._ask(self._resolver.txt(name))

    async def mx(self, name: str) -> Answer[MX]:
        return await self._ask(self._resolver.mx(name))

    async def a(self, name: str) -> Answer[str]:
        return await self._ask(self._resolver.a(name))

    async def aaaa(self, name: str) -> Answer[str]:
        return await self._ask(self._resolver.aaaa(name))

    async def ptr(self, address: str) -> Answer[str]:
        return await self._ask(self._resolver.ptr(address))

    async def tlsa(self, name: str) -> Answer[tuple[int, int, int, bytes]]:
        return await self._ask(self._resolver.tlsa(name))


async def verify_on_thread(
    resolver: Resolver, octets: bytes | memoryview, now: datetime
) -> list[DKIMResult]:
    """`verify_dkim`, elsewhere. Its own questions have the resolver's deadlines."""
    there = _OnLoop(resolver, asyncio.get_running_loop())

    def work() -> list[DKIMResult]:
        return asyncio.run(verify_dkim(there, octets, now))

    return await asyncio.to_thread(work)
