"""When a deferred recipient is tried again, and when its sender is told of the delay.

Pure: moments are unix seconds handed in, jitter too.
Source: RFC 5321 §4.5.4.1 (retry strategy: soon at first, then longer; give up after days).
"""

from __future__ import annotations

from collections.abc import Sequence

JITTER_SHARE = 0.1
"""Waits vary by this share, so that mail deferred together does not come back together."""
DELAY_NOTICE_AFTER_S = 4 * 3600
"""RFC 3461 §5.2.5 leaves it to us; four hours is what senders are used to."""


def next_attempt(
    tries: int, accepted: int, now: int, schedule: Sequence[int], expires: int, jitter: float
) -> int | None:
    """The moment of the next attempt, or None once the message has outlived `expires`.

    tries: attempts already made, at least 1: the wait is `schedule[tries - 1]`, the last wait
    repeats. The last attempt is made when the message expires. jitter: in [0, 1).
    A clock that stepped back behind `accepted` makes the wait begin there.
    """
    if now >= expires:
        return None
    wait = schedule[min(max(tries, 1), len(schedule)) - 1]
    spread = 1 + JITTER_SHARE * (2 * jitter - 1)
    return min(max(now, accepted) + max(1, round(wait * spread)), max(expires, now + 1))


def delay_notice_due(accepted: int, last_attempt: int, now: int) -> bool:
    """Whether this attempt is the first one that ends later than the time for the notice.

    last_attempt: of the attempt before, 0 when this is the first. So the sender is told once.
    """
    moment = accepted + DELAY_NOTICE_AFTER_S
    return last_attempt < moment <= now
