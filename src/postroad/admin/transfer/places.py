"""What a place that mail comes from looks like to the import: folders, and what is in them.

Every kind of place implements `Source`. It yields messages one after the other and keeps nothing of
them; whether a message went before is asked of `known`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from postroad.store.contract import Draft

COPIED_OCTETS = 1 << 20
"""Of a message at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """name: levels separated by "/". place: as the source knows it. count: messages in it, or -1.
    special_use: of RFC 6154 §2, where the place says so."""

    name: str
    place: object
    count: int = -1
    special_use: str = ""
    subscribed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A message that went before, with its flags as they are over there now."""

    identity: bytes
    flags: int
    keywords: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A message that is new. draft: its octets; None when only counting.

    identity: tells it from all others of its folder, for good. where: for people.
    internal_date: unix seconds; None: take the Date: field.
    """

    identity: bytes
    flags: int
    keywords: tuple[bytes, ...]
    internal_date: int | None
    where: str
    draft: Draft | None


@dataclass(frozen=True, slots=True)
class Still:
    """A message that is here already, though it never came from there."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A message that cannot be read."""

    where: str
    reason: str


Item: TypeAlias = Seen | Brought | Still | Lost


class Desk(Protocol):
    """What the import hands to a source."""

    def known(self, identity: bytes) -> bool:
        """Whether this message of the folder in hand went before."""
        ...

    def draft(self) -> Draft | None:
        """For the octets of a message; None when only counting."""
        ...

    def state(self) -> bytes:
        """What the source noted of the folder when it was last gone through."""
        ...

    def note(self, state: bytes) -> None:
        """To be kept once everything of the folder is here."""
        ...

    def begin_anew(self, identities: Iterator[bytes]) -> None:
        """Messages of the folder have got other identities, these: `recognise` finds the old."""
        ...

    def recognise(self, identity: bytes, octets: memoryview) -> bool:
        """Whether a message with these octets came under another identity; it has this one now."""
        ...


class Source(Protocol):
    name: str
    """By which a second run knows the place."""

    async def folders(self) -> list[Folder]:
        """Raises: Unavailable, OSError."""
        ...

    def messages(self, folder: Folder, desk: Desk) -> AsyncIterator[Item]:
        """Raises: Unavailable, OSError."""
        ...

    async def close(self) -> None: ...


Progress: TypeAlias = Callable[[str, int, int], None]
"""(folder, messages so far, messages in all or -1)"""


class ToCRLF:
    """Line ends as mail has them: LF alone becomes CRLF, a CR alone stays. In pieces."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        if self._held:
            piece = piece[:-1]
        if piece.count(b"\n") != piece.count(b"\r\n"):
            piece = piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return piece

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return held
