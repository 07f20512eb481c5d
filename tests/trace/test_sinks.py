"""Log lines: one event, one line, whatever a peer puts into it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st

from postroad.trace import Event
from postroad.trace.sinks import Level, LineSink, level_of

NOW = datetime(2026, 11, 23, 12, 0, 0, 5000, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(Event):
    text: str
    many: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingCrashed(Event):
    fault: str = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Event):
    LEVEL: ClassVar[str] = "DEBUG"


def lines(event: Event, *, json: bool = False, least: Level = Level.DEBUG) -> list[bytes]:
    out: list[bytes] = []
    LineSink(out.append, lambda: NOW, json=json, least=least)(event)
    return out


def test_text_and_json() -> None:
    event = Happened(session="s1", text="two words", many=("a", "b"), number=3)
    assert lines(event) == [
        b"2026-11-23T12:00:00.005Z info    Happened session=s1 "
        b'text="two words" many=["a","b"] number=3\n'
    ]
    assert [json.loads(line) for line in lines(event, json=True)] == [
        {
            "time": "2026-11-23T12:00:00.005Z",
            "level": "info",
            "event": "Happened",
            "session": "s1",
            "text": "two words",
            "many": ["a", "b"],
            "number": 3,
        }
    ]


@given(st.text(st.characters()), st.booleans())
def test_one_event_is_one_line(text: str, as_json: bool) -> None:
    (line,) = lines(Happened(text=text, many=(text,)), json=as_json)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert b"\r" not in line and b"\x1b" not in line
    if as_json:
        assert set(json.loads(line)) <= {"time", "level", "event", "text", "many", "number"}


def test_nothing_steers_the_terminal_of_whoever_reads_the_log() -> None:
    """JSON escapes ESC, but not CSI, DEL or the marks that turn the direction of writing."""
    (line,) = lines(Happened(text="a\x9b2J\x7f \u202e\u2028é", many=("\x9b",)))
    assert line.decode().rstrip("\n").isprintable() and "é" in line.decode()


def test_long_values_are_cut() -> None:
    (line,) = lines(Happened(text="x" * 100_000))
    assert len(line) < 2200


def test_levels() -> None:
    assert level_of(Happened(text="")) is Level.INFO
    assert level_of(ThingCrashed()) is Level.ERROR
    assert level_of(Quiet()) is Level.DEBUG
    assert lines(Quiet(), least=Level.INFO) == []
    assert len(lines(ThingCrashed(), least=Level.ERROR)) == 1
