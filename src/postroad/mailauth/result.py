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
