r"""Runs `C:`/`S:` dialogs against anything that handles a Stream.

A dialog is text, one step a line:

    # a comment; empty lines are skipped
    S: 220 mx.one.example *          the next line must match; `*` is any text
    C: EHLO client.example           sent with CRLF
    S: 250-mx.one.example
    S: ...                           any number of further lines, up to the one that matches next
    S: 250 *
    C: MAIL FROM:<a\x00b@x>          \xNN \r \n \t \\ \* are octets, on both sides
    C-raw: DATA\r\nab                sent as it is, without CRLF
    C-end:                           the client closes its side
    S-end:                           the server must close, having said nothing more

Steps are sent as they come: `C:` lines before the next `S:` are one write, hence pipelined.
Octets left over when the dialog ends make it fail, unless `S: ...` was its last step.
A `Watch`, if one is given, sees all that is said, and may find fault with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from postroad.net.contract import Disconnected, Stream, TimedOut
from postroad.net.memory import MemoryStream, pipe

Handle = Callable[[Stream], Awaitable[None]]

TIMEOUT_S = 5.0
_STEP = re.compile(r"(C|C-raw|S|C-end|S-end):(?: (.*))?\Z")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([rnt\\*]))")
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\", b"*": b"*"}


class Watch(Protocol):
    """What each side says, as it comes. Raises: AssertionError for what must not be said."""

    def sent(self, octets: bytes) -> None: ...
    def received(self, octets: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Step:
    """kind: as before the colon; text: after it, still escaped; line: of the dialog, from 1."""

    kind: str
    text: str
    line: int


def parse_dialog(text: str) -> list[Step]:
    """Raises: ValueError with the line that is no step."""
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip(" ")
        if not stripped or stripped.startswith("#"):
            continue
        match = _STEP.match(line.lstrip(" "))
        if match is None:
            raise ValueError(f"line {number} of the dialog is no step: {line!r}")
        steps.append(Step(match[1], match[2] or "", number))
    if not any(step.kind.startswith("S") for step in steps):
        raise ValueError("the dialog expects nothing of the server")
    return steps


def unescape(text: str) -> bytes:
    def octet(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 16)]) if match[1] else _LETTERS[match[2]]

    return _ESCAPE.sub(octet, text.encode())


def pattern_of(text: str) -> re.Pattern[bytes]:
    """`*` is any text, `\\*` a star."""
    parts = re.split(r"(?<!\\)\*", text)
    return re.compile(rb".*".join(re.escape(unescape(part)) for part in parts) + rb"\Z", re.DOTALL)


class _Run:
    """One dialog on its way."""

    def __init__(self, steps: list[Step], stream: MemoryStream, watch: Watch | None) -> None:
        self.steps = steps
        self.stream = stream
        self.watch = watch
        self.log: list[str] = []
        self.unread = b""
        self.outgoing: list[bytes] = []
        self.skipping = False

    def failure(self, step: Step | None, problem: str) -> AssertionError:
        where = f"line {step.line}: {step.kind}: {step.text}" if step else "end of the dialog"
        return AssertionError("\n".join([problem, f"  at {where}", "  so far:", *self.log[-40:]]))

    async def flush(self, step: Step | None) -> None:
        octets, self.outgoing = b"".join(self.outgoing), []
        if octets:
            if self.watch is not None:
                self.watch.sent(octets)
            try:
                await self.stream.write(octets, TIMEOUT_S)
            except (TimedOut, Disconnected) as error:
                raise self.failure(step, f"the server takes nothing more: {error}") from error

    async def read_line(self, step: Step) -> bytes | None:
        """The next line without CRLF; None at the server's end."""
        await self.flush(step)
        while b"\r\n" not in self.unread:
            try:
                octets = await self.stream.read(TIMEOUT_S)
            except TimedOut:
                raise self.failure(
                    step, f"the server is silent; it began {self.unread!r}"
                ) from None
            except Disconnected as error:
                raise self.failure(step, f"the connection broke: {error}") from error
            if not octets:
                if self.unread:
                    raise self.failure(step, f"the server ended within {self.unread!r}")
                return None
            self.unread += octets
            if self.watch is not None:
                try:
                    self.watch.received(octets)
                except AssertionError as error:
                    raise self.failure(step, str(error)) from error
        line, _, self.unread = self.unread.partition(b"\r\n")
        return line

    async def expect(self, step: Step) -> None:
        pattern = pattern_of(step.text)
        while True:
            line = await self.read_line(step)
            if line is None:
                raise self.failure(step, "the server closed the connection")
            if pattern.match(line):
                self.log.append(f"    S: {line!r}")
                self.skipping = False
                return
            if not self.skipping:
                raise self.failure(step, f"got      {line!r}\nexpected {unescape(step.text)!r}")
            self.log.append(f"    S: {line!r} (skipped)")

    async def run(self) -> None:
        for step in self.steps:
            match step.kind:
                case "C":
                    self.outgoing.append(unescape(step.text) + b"\r\n")
                    self.log.append(f"    C: {step.text}")
                case "C-raw":
                    self.outgoing.append(unescape(step.text))
                    self.log.append(f"    C-raw: {step.text}")
                case "C-end":
                    await self.flush(step)
                    self.stream.end()
                case "S-end":
                    line = await self.read_line(step)
                    if line is not None:
                        raise self.failure(step, f"got {line!r} where the server should close")
                case _ if step.text == "...":
                    self.skipping = True
                case _:
                    await self.expect(step)
        await self.flush(None)


async def _serve(handle: Handle, server: MemoryStream) -> None:
    """A handler always closes its stream; one that does not would leave its peer hanging."""
    try:
        await handle(server)
        if not server.closed:
            raise AssertionError("the handler returned without closing the stream")
    except BaseException:
        server.abort()
        raise


async def _converse(
    steps: list[Step],
    handle: Handle,
    client: MemoryStream,
    server: MemoryStream,
    watch: Watch | None = None,
) -> None:
    service = asyncio.ensure_future(_serve(handle, server))
    run = _Run(steps, client, watch)
    try:
        try:
            await run.run()
        except AssertionError as error:
            await asyncio.sleep(0)
            fault = service.exception() if service.done() and not service.cancelled() else None
            if fault is not None:
                raise AssertionError(f"{error}\n  the handler raised {fault!r}") from fault
            raise
        await client.close()
        await asyncio.wait([service], timeout=TIMEOUT_S)
        if not service.done():
            raise run.failure(None, "the handler goes on although the client has left")
        service.result()
        if run.unread and not run.skipping:
            raise run.failure(None, f"the server said more than the dialog knows: {run.unread!r}")
    finally:
        client.abort()
        if not service.done():
            service.cancel()
            await asyncio.wait([service])


def run_dialog(
    dialog: str | Path,
    handle: Handle,
    *,
    client: tuple[str, int] = ("192.0.2.1", 40000),
    server: tuple[str, int] = ("192.0.2.25", 25),
) -> None:
    """Runs a dialog (its text, or the file it is in) on a loop of its own.

    handle: serves one stream and returns; it is awaited to its end, what it raises is raised.

    Raises: AssertionError that shows the dialog so far and what differs.
    """
    steps = parse_dialog(dialog.read_text() if isinstance(dialog, Path) else dialog)

    async def main() -> None:
        ours, theirs = pipe(client=client, server=server)
        await _converse(steps, handle, ours, theirs)

    asyncio.run(main())


async def run_dialog_async(
    dialog: str | Path,
    handle: Handle,
    pair: tuple[MemoryStream, MemoryStream] | None = None,
    watch: Watch | None = None,
) -> None:
    """The same on the running loop, perhaps over a pair of streams the test prepared."""
    steps = parse_dialog(dialog.read_text() if isinstance(dialog, Path) else dialog)
    ours, theirs = pair or pipe(client=("192.0.2.1", 40000), server=("192.0.2.25", 25))
    await _converse(steps, handle, ours, theirs, watch)


WRONG_LINE = b"599 * not what any dialog expects \x01\r\n"


async def wrong_server(stream: Stream) -> None:
    """Greets wrongly and answers every line with a wrong line."""
    try:
        await stream.write(WRONG_LINE, TIMEOUT_S)
        while octets := await stream.read(TIMEOUT_S):
            await stream.write(WRONG_LINE * octets.count(b"\n"), TIMEOUT_S)
    except (TimedOut, Disconnected):
        pass
    finally:
        await stream.close()


async def mute_server(stream: Stream) -> None:
    """Closes without a word."""
    await stream.close()


def assert_wrong_server_fails(dialog: str | Path) -> None:
    """A dialog that a wrong server passes proves nothing."""
    for wrong in (wrong_server, mute_server):
        try:
            run_dialog(dialog, wrong)
        except AssertionError:
            continue
        raise AssertionError(f"{wrong.__name__} passes this dialog:\n{dialog}")
