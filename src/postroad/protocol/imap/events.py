"""What the server's side of a connection tells: the events of `server.ServerConnection`.

Commands are events too; they have files of their own.
Source: RFC 3501 §2.2, §7.1, §7.5; RFC 4466 §2.7 (what an APPEND is made of).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from postroad.mail.flags import Flag
from postroad.protocol.imap.commands import Command


class NeedData(Enum):
    NEED_DATA = 0


NEED_DATA: Final = NeedData.NEED_DATA


@dataclass(frozen=True, slots=True)
class Bad:
    """A command that cannot be done. tag: b"*" when it could not be read.

    code: response code without brackets, or b"". no: it was understood (NO instead of BAD).
    fatal: what follows cannot be told apart any more: BYE.
    """

    tag: bytes
    text: str
    code: bytes = b""
    no: bool = False
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Continue:
    """The client waits for `+` before it sends its literal."""


@dataclass(frozen=True, slots=True)
class Line:
    """What `expect_line` asked for, without its end; None when it was too long."""

    octets: bytes | None = field(repr=False)


# -- what follows an Append or Replace ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageBegins:
    """The next message of the command. internal_date: unix seconds; None: the moment it comes."""

    flags: Flag
    keywords: tuple[bytes, ...]
    internal_date: int | None


@dataclass(frozen=True, slots=True)
class LiteralPart:
    """The message, or a piece of it, is announced; the core waits for a decision.

    synchronizing: the client waits too. binary: NUL is allowed (`~{n}`). whole: it is all of the
    message, not one part of several.
    """

    size: int
    synchronizing: bool
    binary: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class URLPart:
    """A piece of the message is what this URL means (RFC 4469)."""

    url: bytes


@dataclass(frozen=True, slots=True)
class AppendData:
    """Octets of the literal that was accepted."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppendEnd:
    """The whole command has come, and was well formed."""


UploadEvent: TypeAlias = MessageBegins | LiteralPart | URLPart | AppendData | AppendEnd
Event: TypeAlias = Command | Bad | Continue | Line | UploadEvent | NeedData
