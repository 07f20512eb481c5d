"""What happens in an IMAP session, for the trace."""

from __future__ import annotations

from dataclasses import dataclass

from postroad.trace import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class IMAPSessionOpened(Event):
    peer: str
    implicit_tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IMAPSessionClosed(Event):
    """reason: "logout", or why it ended without one."""

    peer: str
    login: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IMAPClientNamed(Event):
    """The client's ID (RFC 2971): what it says it is."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class IMAPCommandDeferred(Event):
    """Disk, DNS or store failed us; the client was told NO [UNAVAILABLE]."""

    command: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IMAPCommandCrashed(Event):
    """A bug of ours. error: the traceback, without any of the client's octets."""

    command: str
    error: str
