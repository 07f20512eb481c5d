"""What to read of a mailbox for some of its messages.

Source: RFC 3501 §2.3.1.1 (UIDs).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from postroad.mail.uidset import UIDSet


def span_of(
    among: Sequence[int], everything: Sequence[int]
) -> tuple[UIDSet, Collection[int] | None]:
    """What to read for ascending UIDs, a third of everything or more: all between their ends."""
    if not among:
        return UIDSet(), None
    if len(among) == len(everything):
        return UIDSet(((among[0], among[-1]),)), None
    if 3 * len(among) >= len(everything):
        return UIDSet(((among[0], among[-1]),)), set(among)
    return UIDSet.of(among), None


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of numbers that count up by one, in the order given: what a set response needs."""
    if not numbers:
        return []
    if numbers[-1] - numbers[0] == len(numbers) - 1 and isinstance(numbers, range):
        return [(numbers[0], numbers[-1])]
    ends = [at for at, (one, other) in enumerate(pairwise(numbers)) if other - one != 1]
    out = []
    start = 0
    for end in ends:
        out.append((numbers[start], numbers[end]))
        start = end + 1
    out.append((numbers[start], numbers[-1]))
    return out
