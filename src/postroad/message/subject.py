"""The base subject: what is left of a subject without "Re:", "Fwd:", list tags and the like.

Takes time linear in the subject's length, whatever stands in it. Never raises.
Source: RFC 5256 §2.1 (the steps), §5 (their grammar), §3 (what makes a reply or forward).
"""

from __future__ import annotations

import re

_SPACES = re.compile(r"[ \t\r\n]+")
_BLOB = re.compile(r"\[[^\[\]]*+\] *+")
_BLOBS = re.compile(r"(?:\[[^\[\]]*+\] *+)*+")
_REFWD = re.compile(r"(?:re|fwd?) *+(?:\[[^\[\]]*+\] *+)?:", re.IGNORECASE | re.ASCII)
_TRAILER = "(fwd)"
_FORWARD = "[fwd:"


def base_subject(text: str) -> tuple[str, bool]:
    """The base subject of a decoded subject, and whether it is a reply's or a forward's."""
    text = _SPACES.sub(" ", text)
    start, stop = 0, len(text)
    is_reply = False
    while True:
        stop, found = _without_trailers(text, start, stop)
        is_reply |= found
        start, found = _without_leaders(text, start, stop)
        is_reply |= found
        opening = text[start : start + len(_FORWARD)].lower() == _FORWARD
        if not (opening and stop - start > len(_FORWARD) and text[stop - 1] == "]"):
            return text[start:stop], is_reply
        is_reply = True
        start += len(_FORWARD)
        stop -= 1


def _without_trailers(text: str, start: int, stop: int) -> tuple[int, bool]:
    """Step 2: the new end, and whether a "(fwd)" was there."""
    found = False
    while stop > start:
        if text[stop - 1] == " ":
            stop -= 1
        elif stop - start >= 5 and text[stop - 5 : stop].lower() == _TRAILER:
            stop -= 5
            found = True
        else:
            break
    return stop, found


def _without_leaders(text: str, start: int, stop: int) -> tuple[int, bool]:
    """Steps 3 to 5: the new beginning, and whether a "re:" or the like was there.

    Behind a run of blobs either a "re:" follows, or nothing more can go but the blobs themselves:
    whether the first of them has gone already makes no difference to that.
    """
    found = False
    while start < stop:
        if text[start] == " ":
            start += 1
            continue
        blobs = _BLOBS.match(text, start, stop)
        end = start if blobs is None else blobs.end()
        refwd = _REFWD.match(text, end, stop)
        if refwd is not None:
            start, found = refwd.end(), True
            continue
        return (end if end < stop else _last_blob(text, start, stop)), found
    return start, found


def _last_blob(text: str, start: int, stop: int) -> int:
    """Where nothing but blobs is left, the last is the base."""
    while (blob := _BLOB.match(text, start, stop)) is not None and blob.end() < stop:
        start = blob.end()
    return start
