"""How a command ends: the tagged response, or the session with it.

Source: RFC 3501 §7.1, §7.4.1; RFC 5255 §3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.service.imapd.languages import DEFAULT, translate


@dataclass(frozen=True, slots=True)
class Answer:
    """The tagged response. status: b"OK", b"NO" or b"BAD". code: without brackets.

    expunges: EXPUNGE may be told before it (RFC 3501 §7.4.1).
    """

    text: str
    code: bytes = b""
    status: bytes = b"OK"
    expunges: bool = True

    def render(self, tag: bytes, language: str = DEFAULT, *, utf8: bool = False) -> bytes:
        """utf8: the client has enabled it; else i-default is ASCII (RFC 5255 §3.5)."""
        text = words(self.text, language, utf8=utf8)
        if self.code:
            return b"%b %b [%b] %b\r\n" % (tag, self.status, self.code, text)
        return b"%b %b %b\r\n" % (tag, self.status, text)


def words(text: str, language: str, *, utf8: bool) -> bytes:
    if language == DEFAULT and not utf8:
        return text.encode("ascii", "replace")
    return translate(text, language).encode("utf-8", "replace")


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
