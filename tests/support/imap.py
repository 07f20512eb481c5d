"""A plain IMAP client for tests: sends lines, gives back what the server said."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType

from postroad.net.memory import MemoryStream, pipe
from postroad.service.imapd import IMAPService
from support.sites import PASSWORD
from support.strict import Watcher

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
MESSAGE = (
    b"From: Ann <ann@one.example>\r\nTo: bob@two.example\r\nSubject: first\r\n"
    b"Date: Mon, 23 Nov 2026 10:00:00 +0200\r\nMessage-ID: <1@one.example>\r\n\r\nHello\r\n"
)


class Client:
    """One session over a memory stream. `async with Client(service) as client:`"""

    def __init__(self, service: IMAPService, *, tls: bool = False, octets_max: int = 1 << 16):
        self.stream, server = pipe(client=("127.0.0.1", 40000), octets_max=octets_max)
        self.server: MemoryStream = server
        self.task = asyncio.ensure_future(service.handle(server))
        self.unread = b""
        self.count = 0
        self.watcher = Watcher()
        """Whatever a test expects, every response is held to the grammar."""

    async def __aenter__(self) -> Client:
        self.greeting = await self.response()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.stream.close()
        done, _ = await asyncio.wait([self.task], timeout=5)
        if not done:
            self.task.cancel()
            await asyncio.wait([self.task])
            if error is None:
                raise AssertionError("the session goes on although the client has left")
        if error is None:
            self.task.result()

    async def octets(self) -> None:
        octets = await self.stream.read(5)
        if not octets:
            raise EOFError(self.unread)
        self.watcher.received(octets)
        self.unread += octets

    async def line(self) -> bytes:
        while b"\r\n" not in self.unread:
            await self.octets()
        line, end, self.unread = self.unread.partition(b"\r\n")
        return line + end

    async def response(self) -> bytes:
        """One response with its literals, without the last CRLF."""
        out = b""
        while True:
            out += await self.line()
            literal = _LITERAL.search(out)
            if literal is None:
                return out[:-2]
            size = int(literal[1])
            while len(self.unread) < size:
                await self.octets()
            out, self.unread = out + self.unread[:size], self.unread[size:]

    async def send(self, octets: bytes) -> None:
        self.watcher.sent(octets)
        await self.stream.write(octets)

    async def until(self, tag: bytes) -> list[bytes]:
        """Responses up to the tagged one, which is the last."""
        out = []
        while True:
            out.append(await self.response())
            if out[-1].startswith(tag + b" "):
                return out

    async def ask(self, command: bytes) -> list[bytes]:
        """Sends a command (literals non-synchronizing); the responses, the tagged one last,
        without its tag."""
        self.count += 1
        tag = b"t%d" % self.count
        await self.send(tag + b" " + command + b"\r\n")
        out = await self.until(tag)
        out[-1] = out[-1][len(tag) + 1 :]
        return out

    async def ok(self, command: bytes) -> list[bytes]:
        out = await self.ask(command)
        assert out[-1].startswith(b"OK"), out
        return out

    async def login(self, user: str = "ann@one.example") -> None:
        await self.ok(b'LOGIN %b "%b"' % (user.encode(), PASSWORD.encode()))

    async def append(
        self, message: bytes = MESSAGE, mailbox: bytes = b"INBOX", flags: bytes = b""
    ) -> int:
        head = b"APPEND %b %b{%d+}\r\n" % (mailbox, flags + b" " if flags else b"", len(message))
        out = await self.ok(head + message)
        found = re.search(rb"APPENDUID \d+ (\d+)", out[-1])
        assert found is not None, out
        return int(found[1])
