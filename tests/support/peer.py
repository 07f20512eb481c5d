"""A mail server that does what a test tells it, and a Dialer that leads to such peers in memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.net.memory import MemoryStream, pipe
from postroad.protocol.smtp.data import DotDecoder

DROP = "drop"
"""The peer closes the connection instead of replying."""
RESET = "reset"
SILENCE = "silence"
GARBAGE = "!! this is no reply"

Step: TypeAlias = "str | list[str]"
"""A reply, or several to be given one after another; past the last, the peer is friendly."""

FRIENDLY = {
    "GREETING": "220 mx.test ESMTP",
    "STARTTLS": "220 2.0.0 go ahead",
    "RSET": "250 2.0.0 ok",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    ".": "250 2.0.0 taken",
    "QUIT": "221 2.0.0 bye",
    "HELO": "250 mx.test",
}


@dataclass
class Taken:
    """One message as the peer got it. mail, rcpts: the command lines."""

    mail: str
    rcpts: list[str]
    octets: bytes
    tls: bool


@dataclass
class Peer:
    """script: what it says to a verb ("GREETING" and "." among them) in place of being friendly;
    a key may be a verb and a part of the line: "RCPT bob@"."""

    script: Mapping[str, Step] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 1000000", "ENHANCEDSTATUSCODES")
    tls: str = "none"
    """"none", "ok", "broken" (hangs up in the handshake), "garbage" (what is no
    handshake), "injected" (plaintext behind 220)."""
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    context: ssl.SSLContext | None = None
    """For real sockets; in memory TLS is played."""
    gate: asyncio.Event | None = None
    """When there is one, the reply to the end of data waits for it."""

    def __post_init__(self) -> None:
        self._steps = {
            key: [step] * 10_000 if isinstance(step, str) else list(step)
            for key, step in self.script.items()
        }

    def reply_to(self, verb: str, line: str) -> str:
        for key, steps in self._steps.items():
            name, _, part = key.partition(" ")
            if name == verb and part in line and steps:
                return steps.pop(0)
        return FRIENDLY.get(verb, "500 5.5.1 what?")

    async def serve(self, stream: Stream) -> None:
        self.connections += 1
        try:
            await _Session(self, stream).run()
        except (Disconnected, TimedOut, TLSFailed):
            pass
        finally:
            await stream.close()


class _Session:
    def __init__(self, peer: Peer, stream: Stream) -> None:
        self.peer = peer
        self.stream = stream
        self.buffer = b""
        self.mail = ""
        self.rcpts: list[str] = []

    async def say(self, text: str) -> bool:
        """Whether the session goes on."""
        if text == RESET:
            self.stream.abort()
            return False
        if text == DROP:
            return False
        if text == SILENCE:
            await asyncio.sleep(3600)
        await self.stream.write(text.replace("\n", "\r\n").encode() + b"\r\n")
        return not text.startswith("421")

    async def line(self) -> str | None:
        while b"\r\n" not in self.buffer:
            octets = await self.stream.read(60)
            if not octets:
                return None
            self.buffer += octets
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    async def run(self) -> None:
        if not await self.say(self.peer.reply_to("GREETING", "")):
            return
        while (line := await self.line()) is not None:
            self.peer.commands.append(line)
            verb = line.split(" ")[0].split(":")[0].upper()
            if not await self.answer(verb, line):
                return

    async def answer(self, verb: str, line: str) -> bool:
        reply = self.peer.reply_to(verb, line)
        if verb == "EHLO" and reply.startswith("500 5.5.1"):
            offered = list(self.peer.extensions)
            if self.peer.tls != "none" and self.stream.tls is None:
                offered.append("STARTTLS")
            lines = ["mx.test greets you", *offered]
            marks = ["-"] * (len(lines) - 1) + [" "]
            reply = "\n".join(f"250{mark}{text}" for mark, text in zip(marks, lines, strict=True))
        if verb == "DATA" and reply.startswith("354") and not self.rcpts:
            reply = "503 5.5.1 no recipients" if "DATA" not in self.peer.script else reply
        if verb == "STARTTLS" and reply.startswith("220"):
            return await self.start_tls(reply)
        if not await self.say(reply):
            return False
        match verb:
            case "MAIL" if reply.startswith("2"):
                self.mail, self.rcpts = line, []
            case "RCPT" if reply.startswith("2"):
                self.rcpts.append(line)
            case "RSET":
                self.mail, self.rcpts = "", []
            case "DATA" if reply.startswith("354"):
                return await self.take()
            case "QUIT":
                return False
        return True

    async def start_tls(self, reply: str) -> bool:
        if self.peer.tls == "injected":
            reply += "\n250 injected"
        await self.say(reply)
        if self.peer.tls == "broken":
            return False
        if self.peer.tls == "garbage":
            await self.stream.write(b"\x15\x03\x01\x00\x02\x02\x28" * 3)
            return False
        await self.stream.start_tls_server(self.peer.context)  # type: ignore[arg-type]  # played
        self.buffer = b""
        return True

    async def take(self) -> bool:
        early = self.peer.reply_to("BLOCK", "")
        if not early.startswith("500"):
            await self.stream.read(60)
            return await self.say(early) and False
        decoder, octets = DotDecoder(), []
        while not decoder.ended:
            piece = self.buffer or await self.stream.read(60)
            self.buffer = b""
            if not piece:
                return False
            octets.append(decoder.feed(piece))
        self.buffer = decoder.leftover
        if self.peer.gate is not None:
            await self.peer.gate.wait()
        reply = self.peer.reply_to(".", "")
        if reply.startswith("2") or reply in (DROP, SILENCE, RESET):
            message = b"".join(octets)
            self.peer.taken.append(Taken(self.mail, self.rcpts, message, bool(self.stream.tls)))
        return await self.say(reply)


class PeerDialer:
    """Implements `net.contract.Dialer`: addresses lead to peers, to nobody, or nowhere at all.

    dialled: every address that was tried, in order.
    """

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self.peers = dict(peers)
        self.dialled: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(
        self, address: str, port: int, *, timeout_s: float = 30.0, source: str | None = None
    ) -> MemoryStream:
        self.dialled.append(address)
        peer = self.peers.get(address)
        await asyncio.sleep(0)
        if peer is None:
            raise Disconnected("connection refused")
        ours, theirs = pipe(server=(address, port))
        task = asyncio.get_running_loop().create_task(peer.serve(theirs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ours
