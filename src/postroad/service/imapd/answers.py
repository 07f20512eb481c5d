"""How a command ends: the tagged response, or the session with it.

Source: RFC 3501 §7.1, §7.4.1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """The tagged response. status: b"OK", b"NO" or b"BAD". code: without brackets.

    expunges: EXPUNGE may be told before it (RFC 3501 §7.4.1).
    """

    text: str
    code: bytes = b""
    status: bytes = b"OK"
    expunges: bool = True

    def render(self, tag: bytes) -> bytes:
        text = self.text.encode("utf-8", "replace")
        if self.code:
            return b"%b %b [%b] %b\r\n" % (tag, self.status, self.code, text)
        return b"%b %b %b\r\n" % (tag, self.status, text)


SILENCE = Answer("")
"""The command has written its own answer."""


def no(text: str, code: bytes = b"", *, expunges: bool = True) -> Answer:
    return Answer(text, code, b"NO", expunges)


class Farewell(Exception):
    """The session ends with * BYE and this text."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.text = text
        self.reason = reason
