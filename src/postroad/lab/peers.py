"""PeerServer: a mail server on loopback that behaves as it is told, and remembers everything.

It speaks SMTP by a few lines of its own, so that our cores meet a second opinion; its TLS and its
sockets are those of `net`. What arrives is kept as octets: the envelope's lines as they were
written, the message as it was before dot-stuffing.

Source: RFC 5321 §4.1 (commands), §4.5.2 (dots), RFC 3207 §4 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from ssl import SSLContext
from types import TracebackType

from postroad.lab.background import Background
from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed, TLSInfo
from postroad.net.listener import Listener, SessionCrashed, bind
from postroad.net.tls import self_signed, server_context
from postroad.trace import Event

IDLE_S = 60.0
SILENCE_S = 3600.0
LINE_OCTETS_MAX = 65536
MESSAGE_OCTETS_MAX = 256 << 20
STUFFING = "250 2.1.0 stuffed in before TLS"

_PATH = re.compile(rb"(?:FROM|TO):\s*<([^>]*)>\s*(.*)\Z", re.IGNORECASE | re.DOTALL)

Script = str | None
"""A reply, `450 4.2.1 busy` (lines joined by newline), or None: what a good server would say."""


class TLSBehaviour(Enum):
    """What happens to TLS. The last four offer STARTTLS and answer it with 220."""

    NONE = "no STARTTLS"
    WORKS = "STARTTLS works"
    GARBAGE = "garbage follows the 220"
    CLOSES = "the connection is closed behind the 220"
    SILENT = "nothing follows the 220"
    STUFFED = "a plaintext reply is stuffed in behind the 220, then TLS works"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a peer treats its clients; a *stage* is CONNECT, EHLO, HELO, STARTTLS, MAIL, RCPT,
    DATA, DOT (the reply to the final dot), RSET, NOOP, VRFY, QUIT, or a RCPT of one address:
    `RCPT bob@two.example`.

    replies: what is said at a stage; of several, each serves once and the last ever after, counted
        over all sessions: `{"RCPT": ["451 4.7.1 later", None]}` is a greylisting of one recipient.
    greylist: the first MAIL-RCPT pair of each kind is deferred with 451 4.7.1.
    drop_at: the connection is cut instead of the reply; at DOT the message has been received.
    drop_after_octets: cut in the middle of DATA.
    silent_at: no reply, ever. delay_s: before replies at these stages, "" for all.
    trickle: replies are sent octet by octet.
    """

    replies: Mapping[str, Script | Sequence[Script]] = field(default_factory=dict)
    greylist: bool = False
    drop_at: frozenset[str] | set[str] = frozenset()
    drop_after_octets: int | None = None
    silent_at: frozenset[str] | set[str] = frozenset()
    delay_s: Mapping[str, float] = field(default_factory=dict)
    trickle: bool = False
    tls: TLSBehaviour = TLSBehaviour.WORKS
    extensions: tuple[str, ...] = (
        "PIPELINING",
        "SIZE 104857600",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message that reached its final dot.

    reverse_path, forward_paths: between the angle brackets, as received (the accepted ones).
    parameters: the text behind the paths, of MAIL first, then of each accepted RCPT.
    octets: the message with dots unstuffed. accepted: a 2yz was sent for it.
    """

    helo: bytes
    peer: tuple[str, int]
    tls: TLSInfo | None
    reverse_path: bytes
    forward_paths: tuple[bytes, ...]
    parameters: tuple[bytes, ...]
    octets: bytes
    accepted: bool
    at: float


class _Cut(Exception):
    """The connection ends here, as the script wants."""


class PeerServer:
    """Listens from construction to `close()`; its methods may be called from any thread.

    behaviour: may be replaced at any time by `behave`.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        hostname: str = "mx.peer.example",
        background: Background | None = None,
    ) -> None:
        self.hostname = hostname
        self._behaviour = behaviour or Behaviour()
        self._served: dict[str, int] = {}
        self._known: set[tuple[bytes, bytes]] = set()
        self._received: list[Received] = []
        self._dialogs: list[list[tuple[str, bytes]]] = []
        self._news = threading.Condition()
        self._own_background = background is None
        self._background = background or Background()
        self._context = _context(hostname, address)
        sock = bind(address, port)
        self._listener = Listener(sock, self._handle, name=hostname, trace=self._on_event)
        self.address: tuple[str, int] = self._listener.address
        self._closed = False
        self._faults: list[str] = []
        self._background.call(self._listener.start)

    @property
    def behaviour(self) -> Behaviour:
        return self._behaviour

    def behave(self, behaviour: Behaviour) -> None:
        """From the next command on; sequences of replies begin anew."""
        with self._news:
            self._behaviour = behaviour
            self._served.clear()

    @property
    def received(self) -> list[Received]:
        """Every message that reached its final dot, accepted or not."""
        with self._news:
            return list(self._received)

    @property
    def accepted(self) -> list[Received]:
        return [message for message in self.received if message.accepted]

    @property
    def dialogs(self) -> list[list[tuple[str, bytes]]]:
        """Each session as ("C" or "S", line) pairs; message octets are left out."""
        with self._news:
            return [list(dialog) for dialog in self._dialogs]

    def commands(self) -> list[bytes]:
        """What all clients said, line by line."""
        return [line for dialog in self.dialogs for who, line in dialog if who == "C"]

    def wait_for(
        self,
        count: int = 1,
        timeout_s: float = 30.0,
        *,
        of: Callable[[Received], bool] | None = None,
    ) -> list[Received]:
        """Waits until `count` messages (of a kind) were accepted, and returns them.

        Raises: TimeoutError that tells what was received.
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                found = [
                    message
                    for message in self._received
                    if message.accepted and (of is None or of(message))
                ]
                if len(found) >= count:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    raise TimeoutError(
                        f"{self.hostname} accepted {len(found)} of {count} messages in "
                        f"{timeout_s} s; sessions: {len(self._dialogs)}, "
                        f"last: {self._dialogs[-1][-6:] if self._dialogs else 'none'}"
                    )

    def close(self) -> None:
        """Cuts every session. Idempotent. Raises: RuntimeError with the bugs of the peer itself."""
        if self._closed:
            return
        self._closed = True
        self._background.run(self._listener.drain(0))
        if self._own_background:
            self._background.close()
        if self._faults:
            raise RuntimeError("the lab's peer itself failed:\n" + "\n".join(self._faults))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, SessionCrashed):
            self._faults.append(event.fault)

    def __enter__(self) -> PeerServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- for sessions ---------------------------------------------------------------------------

    async def _handle(self, stream: Stream) -> None:
        dialog: list[tuple[str, bytes]] = []
        with self._news:
            self._dialogs.append(dialog)
        try:
            await _Session(self, stream, dialog, self._context).run()
        except (_Cut, Disconnected, TimedOut, TLSFailed):
            stream.abort()
        finally:
            await stream.close()

    def script(self, *stages: str) -> Script:
        """What the first of these stages that is scripted says this time."""
        with self._news:
            for stage in stages:
                if stage not in self._behaviour.replies:
                    continue
                scripted = self._behaviour.replies[stage]
                if scripted is None or isinstance(scripted, str):
                    return scripted
                turn = self._served.get(stage, 0)
                self._served[stage] = turn + 1
                return scripted[min(turn, len(scripted) - 1)] if scripted else None
        return None

    def is_new(self, reverse_path: bytes, forward_path: bytes) -> bool:
        """Whether greylisting sees this pair for the first time."""
        with self._news:
            pair = reverse_path, forward_path
            new = pair not in self._known
            self._known.add(pair)
            return new

    def keep(self, message: Received) -> None:
        with self._news:
            self._received.append(message)
            self._news.notify_all()


def _context(hostname: str, address: str) -> SSLContext:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "peer.pem")
        path.write_bytes(b"".join(self_signed([hostname, address])))
        return server_context(path)


class _Session:
    """One connection of a client."""

    def __init__(
        self,
        server: PeerServer,
        stream: Stream,
        dialog: list[tuple[str, bytes]],
        context: SSLContext,
    ) -> None:
        self.server = server
        self.stream = stream
        self.dialog = dialog
        self.context = context
        self.unread = bytearray()
        self.helo = b""
        self.forget()

    def forget(self) -> None:
        """Ends the transaction, if there is one."""
        self.reverse_path: bytes | None = None
        self.forward_paths: list[bytes] = []
        self.parameters: list[bytes] = []

    @property
    def behaviour(self) -> Behaviour:
        return self.server.behaviour

    async def run(self) -> None:
        reply = f"220 {self.server.hostname} ESMTP lab"
        if not (await self.answer(["CONNECT"], reply)).startswith("2"):
            return
        while True:
            line = await self.line()
            if line is None:
                return
            verb, _, rest = line.partition(b" ")
            self.dialog.append(("C", line))
            match verb.upper():
                case b"EHLO" | b"HELO":
                    await self.greet(verb.upper().decode(), rest)
                case b"STARTTLS":
                    await self.start_tls()
                case b"MAIL":
                    await self.mail(rest)
                case b"RCPT":
                    await self.rcpt(rest)
                case b"DATA":
                    await self.data()
                case b"RSET":
                    self.forget()
                    await self.answer(["RSET"], "250 2.0.0 forgotten")
                case b"NOOP" | b"VRFY":
                    await self.answer([verb.upper().decode()], "252 2.0.0 as you like")
                case b"QUIT":
                    await self.answer(["QUIT"], "221 2.0.0 bye")
                    return
                case _:
                    await self.answer(["?"], "500 5.5.1 what?")

    # -- octets -------------------------------------------------------------------------------

    async def more(self) -> bool:
        octets = await self.stream.read(IDLE_S)
        self.unread += octets
        return bool(octets)

    async def line(self) -> bytes | None:
        """The next line without CRLF; None at the client's end."""
        while (at := self.unread.find(b"\r\n")) < 0:
            if len(self.unread) > LINE_OCTETS_MAX:
                raise _Cut
            if not await self.more():
                return None
        line = bytes(self.unread[:at])
        del self.unread[: at + 2]
        return line

    async def pause(self, stages: Sequence[str]) -> None:
        """What comes before a reply: nothing, a delay, silence, the end."""
        behaviour = self.behaviour
        if any(stage in behaviour.drop_at for stage in stages):
            raise _Cut
        if any(stage in behaviour.silent_at for stage in stages):
            await asyncio.sleep(SILENCE_S)
        delay = max(behaviour.delay_s.get(stage, 0.0) for stage in (*stages, ""))
        if delay:
            await asyncio.sleep(delay)

    async def answer(self, stages: Sequence[str], usual: str) -> str:
        """Says what the script wants at the first scripted stage, or `usual`. Returns it."""
        await self.pause(stages)
        reply = self.server.script(*stages) or usual
        await self.say(reply)
        return reply

    async def say(self, reply: str) -> None:
        lines = reply.split("\n")
        out = []
        for number, line in enumerate(lines):
            if number < len(lines) - 1 and line[3:4] == " ":
                line = f"{line[:3]}-{line[4:]}"
            self.dialog.append(("S", line.encode()))
            out.append(line.encode() + b"\r\n")
        octets = b"".join(out)
        if self.behaviour.trickle:
            for at in range(len(octets)):
                await self.stream.write(octets[at : at + 1])
                await asyncio.sleep(0.001)
        else:
            await self.stream.write(octets)

    # -- commands -------------------------------------------------------------------------------

    async def greet(self, verb: str, name: bytes) -> None:
        self.forget()
        self.helo = name
        lines = [f"250 {self.server.hostname}"]
        if verb == "EHLO":
            lines += [f"250 {extension}" for extension in self.behaviour.extensions]
            if self.behaviour.tls is not TLSBehaviour.NONE and self.stream.tls is None:
                lines.append("250 STARTTLS")
        await self.answer([verb], "\n".join(lines))

    async def start_tls(self) -> None:
        behaviour = self.behaviour.tls
        if behaviour is TLSBehaviour.NONE or self.stream.tls is not None:
            await self.answer(["STARTTLS"], "502 5.5.1 no")
            return
        go_ahead = "220 2.0.0 go ahead"
        if behaviour is TLSBehaviour.STUFFED:
            await self.pause(["STARTTLS"])
            await self.stream.write(f"{go_ahead}\r\n{STUFFING}\r\n".encode())
        elif not (await self.answer(["STARTTLS"], go_ahead)).startswith("2"):
            return
        match behaviour:
            case TLSBehaviour.GARBAGE:
                await self.more()
                await self.stream.write(b"\x15\x03\x01 this is no handshake" * 4)
                raise _Cut
            case TLSBehaviour.CLOSES:
                raise _Cut
            case TLSBehaviour.SILENT:
                await asyncio.sleep(SILENCE_S)
        if self.unread:
            raise _Cut  # plaintext behind STARTTLS
        await self.stream.start_tls_server(self.context)
        self.helo = b""
        self.forget()

    async def mail(self, rest: bytes) -> None:
        match = _PATH.match(rest)
        if match is None or self.reverse_path is not None:
            await self.say("503 5.5.1 nested MAIL" if match else "501 5.5.4 MAIL FROM:<path>")
            return
        reply = await self.answer(["MAIL"], "250 2.1.0 ok")
        if reply.startswith("2"):
            self.reverse_path = match[1]
            self.parameters = [match[2]]

    async def rcpt(self, rest: bytes) -> None:
        match = _PATH.match(rest)
        if match is None or self.reverse_path is None:
            await self.say("503 5.5.1 MAIL first" if match else "501 5.5.4 RCPT TO:<path>")
            return
        usual = "250 2.1.5 ok"
        if self.behaviour.greylist and self.server.is_new(self.reverse_path, match[1]):
            usual = "451 4.7.1 Greylisted, please come back"
        reply = await self.answer([f"RCPT {match[1].decode('utf-8', 'replace')}", "RCPT"], usual)
        if reply.startswith("2"):
            self.forward_paths.append(match[1])
            self.parameters.append(match[2])

    async def data(self) -> None:
        if not self.forward_paths or self.reverse_path is None:
            await self.say("503 5.5.1 no valid recipients")
            return
        if not (await self.answer(["DATA"], "354 go ahead")).startswith("3"):
            return
        octets = await self.message()
        reply = self.server.script("DOT") or f"250 2.0.0 kept {len(octets)} octets"
        accepted = False
        try:
            await self.pause(["DOT"])
            await self.say(reply)
            accepted = reply.startswith("2")
        finally:
            self.server.keep(
                Received(
                    helo=self.helo,
                    peer=self.stream.peer,
                    tls=self.stream.tls,
                    reverse_path=self.reverse_path,
                    forward_paths=tuple(self.forward_paths),
                    parameters=tuple(self.parameters),
                    octets=octets,
                    accepted=accepted,
                    at=time.time(),
                )
            )
        self.forget()

    async def message(self) -> bytes:
        """Until the final dot; the octets without it, unstuffed."""
        limit = self.behaviour.drop_after_octets
        searched = 0
        while True:
            if self.unread.startswith(b".\r\n"):
                end = 0
                break
            end = self.unread.find(b"\r\n.\r\n", max(searched - 4, 0))
            if limit is not None and (end if end >= 0 else len(self.unread)) >= limit:
                raise _Cut
            if end >= 0:
                end += 2
                break
            searched = len(self.unread)
            if searched > MESSAGE_OCTETS_MAX or not await self.more():
                raise _Cut
        octets = bytes(self.unread[:end])
        del self.unread[: end + 3]
        if octets.startswith(b"."):
            octets = octets[1:]
        return octets.replace(b"\r\n.", b"\r\n")
