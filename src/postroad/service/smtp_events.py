"""What happens in SMTP sessions, as events.

The ones of a message also begin its history.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from postroad.trace import Event, record


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Event):
    """service: "smtp", "submission" or "submissions"."""

    service: str
    peer: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Event):
    reason: str
    accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSStarted(Event):
    version: str
    cipher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailed(Event):
    """A bug of ours, whole."""

    doing: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderRefused(Event):
    reverse_path: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientRefused(Event):
    reverse_path: str
    forward_path: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefused(Event):
    peer: str
    helo: str
    reverse_path: str
    recipients: tuple[str, ...]
    size: int
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailAccepted(Event):
    """It is durable: in every local mailbox it goes to, and in the queue for the others."""

    peer: str
    helo: str
    reverse_path: str
    recipients: tuple[str, ...]
    size: int
    login: str = ""
    tls: str = ""
    delivered: tuple[str, ...] = ()
    queued: tuple[str, ...] = ()


def remembered(moment: float, *events: Event) -> tuple[tuple[float, bytes], ...]:
    """Events as the history of a message keeps them."""
    return tuple((moment, msgspec.json.encode(record(event))) for event in events)
