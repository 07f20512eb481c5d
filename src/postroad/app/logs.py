"""The log: lines of `trace.sinks` to stderr, written by a thread of their own.

A reader of stderr that stands still costs lines, never a session: the queue is bounded and what
did not fit is counted in the next line that goes out.
"""

from __future__ import annotations

import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from postroad.app.config import Log
from postroad.trace import Event
from postroad.trace.sinks import Level, LineSink

WAITING_LINES_MAX = 10_000
CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesLost(Event):
    """stderr was not read fast enough."""

    lines: int


class LogWriter:
    """Gives `write`, which returns at once, and a thread that really writes."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._lines: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._lost = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        with self._wake:
            if len(self._lines) >= WAITING_LINES_MAX:
                self._lost += 1
                return
            self._lines.append(line)
            self._wake.notify()

    def lost(self) -> int:
        """How many lines did not fit since the last call."""
        with self._wake:
            lost, self._lost = self._lost, 0
            return lost

    def close(self) -> None:
        """Writes what waits, if that goes quickly."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._lines and not self._closing:
                    self._wake.wait()
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
            try:
                for octets in _whole_lines(lines):
                    self._output.write(octets)
                    self._output.flush()
            except (OSError, ValueError):
                return  # nobody can be told: stderr is gone


def _whole_lines(lines: list[bytes]) -> Iterator[bytes]:
    """Joined up to what a pipe takes in one piece, as other processes write to it too."""
    batch = b""
    for line in lines:
        if batch and len(batch) + len(line) > select.PIPE_BUF:
            yield batch
            batch = b""
        batch += line
    yield batch


class ServerLog:
    """The trace of a server process."""

    def __init__(self, settings: Log, output: BinaryIO | None = None) -> None:
        self._writer = LogWriter(output or sys.stderr.buffer)
        self._sink = LineSink(self._write, lambda: datetime.now(UTC))
        self.configure(settings)

    def configure(self, settings: Log) -> None:
        self._sink.configure(json=settings.format == "json", least=Level[settings.level.upper()])

    def __call__(self, event: Event) -> None:
        self._sink(event)

    def _write(self, line: bytes) -> None:
        lost = self._writer.lost()
        if lost:
            self._sink(LinesLost(lines=lost))
        self._writer.write(line)

    def close(self) -> None:
        self._writer.close()
