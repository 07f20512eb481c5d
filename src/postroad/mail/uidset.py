"""Sets of message numbers as ranges: small for the sets clients send, cheap to walk.

Source: RFC 3501 §9 (sequence-set); `*` is resolved before a set is made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UIDSet:
    """Ascending, disjoint, non-touching inclusive ranges of positive numbers."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_ranges(cls, ranges: Iterable[tuple[int, int]]) -> UIDSet:
        """From ranges in any order, ends swapped or overlapping as they may be."""
        ordered = sorted((min(pair), max(pair)) for pair in ranges)
        merged: list[tuple[int, int]] = []
        for low, high in ordered:
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> UIDSet:
        """From numbers in any order."""
        ordered = sorted(numbers)
        ranges: list[tuple[int, int]] = []
        for number in ordered:
            if ranges and number <= ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return cls(tuple(ranges))

    @classmethod
    def parse(cls, text: str) -> UIDSet:
        """From `1:4,7,9:12`. Raises: ValueError."""
        pairs = []
        for item in text.split(","):
            low, colon, high = item.partition(":")
            first = int(low)
            last = int(high) if colon else first
            if first < 1 or last < 1:
                raise ValueError(f"not a set of positive numbers: {text!r}")
            pairs.append((first, last))
        return cls.of_ranges(pairs)

    def __str__(self) -> str:
        return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self.ranges, (number, 1 << 62)) - 1
        return at >= 0 and self.ranges[at][0] <= number <= self.ranges[at][1]
