"""Sequence sets: numbers and ranges, with `*` still open, or `$`, the last search's result.

Source: RFC 3501 §9 (sequence-set), RFC 5182 §3 (seq-last-command).
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.mail.uidset import UIDSet

NUMBER_MAX = 0xFFFF_FFFF
STAR = 0
"""Stands for `*`: no number is 0."""


def _number(octets: bytes) -> int:
    if octets == b"*":
        return STAR
    if not octets.isdigit() or len(octets) > 10:
        raise ValueError("malformed")
    number = int(octets)
    if not 1 <= number <= NUMBER_MAX:
        raise ValueError("numbers go from 1 to 4294967295")
    return number


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """ranges: as written; STAR for `*`. is_saved: it is `$`, and only the view knows what."""

    ranges: tuple[tuple[int, int], ...]
    is_saved: bool = False

    @classmethod
    def parse(cls, octets: bytes) -> SequenceSet:
        """Raises: ValueError."""
        if octets == b"$":
            return cls((), is_saved=True)
        ranges = []
        for item in octets.split(b","):
            low, colon, high = item.partition(b":")
            first = _number(low)
            ranges.append((first, _number(high) if colon else first))
        return cls(tuple(ranges))

    @property
    def only_to_star(self) -> bool:
        """Whether each range has `*` at an end."""
        return all(STAR in pair for pair in self.ranges)

    def largest(self, star: int) -> int:
        """The largest number meant, `*` being `star`."""
        return max((max(low or star, high or star) for low, high in self.ranges), default=0)

    def resolve(self, star: int) -> UIDSet:
        """The numbers meant; star: the largest in use, 0 when there is none (`*` is nothing)."""
        pairs = ((low or star, high or star) for low, high in self.ranges)
        return UIDSet.of_ranges(pair for pair in pairs if pair[0] and pair[1])

    def render(self) -> bytes:
        if self.is_saved:
            return b"$"

        def one(number: int) -> str:
            return "*" if number == STAR else str(number)

        return ",".join(
            one(low) if low == high else f"{one(low)}:{one(high)}" for low, high in self.ranges
        ).encode()
