"""The log never blocks its server, and says when it lost lines."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from postroad.app import logs
from postroad.app.config import Log
from postroad.app.logs import ServerLog
from postroad.trace import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(Event):
    number: int


class Pipe:
    """A stderr whose reader can stand still."""

    def __init__(self) -> None:
        self.octets = b""
        self.open = threading.Event()
        self.sizes: list[int] = []

    def write(self, octets: bytes) -> int:
        self.open.wait(10)
        self.octets += octets
        self.sizes.append(len(octets))
        return len(octets)

    def flush(self) -> None:
        pass


def test_a_reader_that_stands_still_costs_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING_LINES_MAX", 50)
    pipe = Pipe()
    log = ServerLog(Log(), pipe)  # type: ignore[arg-type]
    for number in range(500):
        log(Happened(number=number))
    pipe.open.set()
    while b"number=49" not in pipe.octets:
        pass
    log(Happened(number=1000))
    log.close()
    lines = pipe.octets.splitlines()
    assert 50 <= len(lines) < 120
    assert any(b"LinesLost" in line for line in lines)
    assert lines[-1].endswith(b"number=1000")


def test_whole_lines_go_out_in_pieces_a_pipe_takes_at_once() -> None:
    pipe = Pipe()
    log = ServerLog(Log(format="json"), pipe)  # type: ignore[arg-type]
    for number in range(300):
        log(Happened(session="s" * 60, number=number))
    pipe.open.set()
    log.close()
    assert len(pipe.octets.splitlines()) == 300
    assert max(pipe.sizes) <= 4096 and len(pipe.sizes) < 60


def test_settings_change_while_it_runs() -> None:
    pipe = Pipe()
    pipe.open.set()
    log = ServerLog(Log(level="warning"), pipe)  # type: ignore[arg-type]
    log(Happened(number=1))
    log.configure(Log(format="json"))
    log(Happened(number=2))
    log.close()
    assert pipe.octets.count(b"\n") == 1 and b'"number":2' in pipe.octets


def test_a_broken_stderr_is_survived() -> None:
    class Broken:
        def write(self, octets: bytes) -> int:
            raise BrokenPipeError

    log = ServerLog(Log(), Broken())  # type: ignore[arg-type]
    for number in range(10):
        log(Happened(number=number))
    log.close()
