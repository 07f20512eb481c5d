"""The words that authentication results are said in.

Source: RFC 8601 §2.7.
"""

from __future__ import annotations

from enum import StrEnum


class Result(StrEnum):
    """One word of RFC 8601 §2.7; which of them a method uses is the method's affair."""

    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"
    POLICY = "policy"


def printable(text: str) -> str:
    """The text with `?` for what could disturb a line that people or programs read."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)
