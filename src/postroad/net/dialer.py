"""Dialling one IP address, with a deadline.

Knows no names: who dials has resolved them, and decides in which order addresses are tried.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from asyncio import Future
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from postroad.net.contract import Dialer, Disconnected
from postroad.net.transport import SocketStream
from postroad.net.waiting import wait_until, wake

_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EALREADY})
_BIND_ADDRESS_NO_PORT = 24
"""Linux's IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect(), not one for all peers."""


class NetDialer:
    """The Dialer of real sockets.

    sources: addresses of ours to dial from; the first of each IP version is the default one. A
    server that listens on one address sends from it, as its SPF record and PTR say.
    """

    __slots__ = ("_sources",)

    def __init__(self, sources: Sequence[str] = ()) -> None:
        self._sources: dict[int, str] = {}
        for source in sources:
            self._sources.setdefault(ipaddress.ip_address(source).version, source)

    async def dial(
        self, address: str, port: int, *, timeout_s: float = 30.0, source: str | None = None
    ) -> SocketStream:
        """Raises: TimedOut; Disconnected (refused, unreachable, no such source address)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            version = ipaddress.ip_address(address).version
        except ValueError as error:
            raise Disconnected(f"not an IP address: {address!r}") from error
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with ExitStack() as undo:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                undo.callback(sock.close)
                sock.setblocking(False)
                bound = source or self._sources.get(version)
                if bound is not None:
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                    sock.bind((bound, 0))
                code = sock.connect_ex((address, port))
            except (OSError, OverflowError) as error:
                raise Disconnected(getattr(error, "strerror", None) or str(error)) from error
            if code in _IN_PROGRESS:
                await self._connected(sock, deadline)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise Disconnected(os.strerror(code).lower())
            stream = SocketStream(sock, loop=loop, peer=(address, port))
            undo.pop_all()
            return stream

    async def _connected(self, sock: socket.socket, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        seat: Future[None] = loop.create_future()
        loop.add_writer(sock.fileno(), wake, seat)
        try:
            await wait_until(loop, seat, deadline)
        finally:
            loop.remove_writer(sock.fileno())


if TYPE_CHECKING:
    _dialer: Dialer = NetDialer()
