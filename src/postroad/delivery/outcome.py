"""How one recipient's attempt ended: a closed set.

Source: RFC 5321 §4.2.1 (what 2yz, 4yz and 5yz mean to the client).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from postroad.mail.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom we spoke to. tls: the version, "" for plaintext. dsn: it offered RFC 3461."""

    host: str
    address: str
    tls: str = ""
    dsn: bool = False

    def __str__(self) -> str:
        return self.host if self.host == self.address else f"{self.host} [{self.address}]"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The peer answered the end of data with 2yz: the message is its to care for."""

    reply: Reply
    peer: Peer


@dataclass(frozen=True, slots=True)
class Deferred:
    """To be tried again. peer: who said so; None when the reply is our own words.

    ours: the words are our own although a peer is named: they are about it, not of it.
    """

    reply: Reply
    peer: Peer | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Given up. peer, ours: as for Deferred.

    last: where `reply` is our own word for "too late", the last one that deferred it.
    """

    reply: Reply
    peer: Peer | None = None
    last: Reply | None = None
    ours: bool = False


Outcome: TypeAlias = Delivered | Deferred | Failed
