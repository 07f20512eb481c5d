"""What an event is, and what a sink is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import TypeAlias

Plain: TypeAlias = "str | int | float | bool | None | list[Plain] | dict[str, Plain]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    session: id of the connection it belongs to, or "".
    message: our id of the message it belongs to (`mail.ids.MessageId`), or "".
    """

    session: str = ""
    message: str = ""


Trace: TypeAlias = Callable[[Event], None]
"""A sink. It never blocks and never raises."""


def discard(event: Event) -> None:
    """The sink that keeps nothing."""


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)


def record(event: Event) -> dict[str, Plain]:
    """The event's own fields as plain values, empty ones left out; `event` is its class name."""
    out: dict[str, Plain] = {"event": type(event).__name__}
    for item in fields(event):
        value = getattr(event, item.name)
        if value is None or value == "" or value == ():
            continue
        out[item.name] = _plain(value)
    return out
