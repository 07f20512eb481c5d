"""Events as log lines: one event, one line, as text for people or JSON for machines.

Knows no file and no clock: lines go to a `write` that never blocks, moments come from `now`.
What events carry was decided where they are made; values are quoted, so that a peer's octets
cannot begin a line of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum

import msgspec

from postroad.trace.event import Event, Plain, record

VALUE_CHARACTERS_MAX = 2000
"""Of one value in a line: a traceback of some depth fits."""

_BARE = re.compile(r"[A-Za-z0-9_./:@+<>,;*%~\-\[\]]+\Z")
_LOUD = (("Crashed", "ERROR"), ("Failed", "WARNING"), ("Paused", "WARNING"), ("Lost", "WARNING"))


class Level(IntEnum):
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


def level_of(event: Event) -> Level:
    """The event's own `LEVEL` when its class has one, else by the end of its name, else INFO."""
    kind = type(event)
    own = getattr(kind, "LEVEL", None)
    if isinstance(own, str):
        return Level[own]
    for suffix, level in _LOUD:
        if kind.__name__.endswith(suffix):
            return Level[level]
    return Level.INFO


class LineSink:
    """A `Trace` that renders lines. `configure` may be called at any time."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        now: Callable[[], datetime],
        *,
        json: bool = False,
        least: Level = Level.INFO,
    ) -> None:
        self._write = write
        self._now = now
        self._json = json
        self._least = least

    def configure(self, *, json: bool, least: Level) -> None:
        self._json = json
        self._least = least

    def __call__(self, event: Event) -> None:
        level = level_of(event)
        if level >= self._least:
            fields = {name: _bounded(value) for name, value in record(event).items()}
            render = render_json if self._json else render_text
            self._write(render(self._now(), level, fields))


def render_json(moment: datetime, level: Level, fields: dict[str, Plain]) -> bytes:
    """One JSON object and a line end; `time` and `level` come first."""
    return (
        msgspec.json.encode({"time": _time(moment), "level": level.name.lower(), **fields}) + b"\n"
    )


def render_text(moment: datetime, level: Level, fields: dict[str, Plain]) -> bytes:
    """`time level Event name=value ...` and a line end."""
    words = [_time(moment), level.name.lower().ljust(7), str(fields.get("event", "?"))]
    words += [f"{name}={_word(value)}" for name, value in fields.items() if name != "event"]
    return " ".join(words).encode("utf-8", "backslashreplace") + b"\n"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: Plain) -> str:
    if isinstance(value, str) and _BARE.match(value):
        return value
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in msgspec.json.encode(value).decode("utf-8", "backslashreplace")
    )


def _bounded(value: Plain) -> Plain:
    if isinstance(value, str):
        if len(value) > VALUE_CHARACTERS_MAX:
            value = value[:VALUE_CHARACTERS_MAX] + "..."
        return value.encode("utf-8", "backslashreplace").decode()  # lone surrogates
    if isinstance(value, list):
        return [_bounded(item) for item in value[:100]]
    if isinstance(value, dict):
        return {_key(name): _bounded(item) for name, item in value.items()}
    return value


def _key(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
