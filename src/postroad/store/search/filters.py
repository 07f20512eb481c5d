"""What a section of a block cannot hold: a bit for every second run of four octets in its words.

A word that holds a needle has bits for the needle's runs at even places, or for those at odd ones:
where neither has, the section is not read. Runs may share a bit; then the section is read, and the
answer is the same. Needles whose words have fewer than five octets rule nothing out.
Source: B. H. Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, CACM 13 (1970).
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass

RUN = 4
"""Octets: of fewer, a block of mail holds nearly all that are asked for."""
_OCTETS_MIN = 16


def filter_of(text: bytes) -> bytes:
    """text: with NUL between its pieces. The same octets for the same text, on every machine.

    A bit for each octet of the words, of which a fifth to a third are set.
    """
    words = dict.fromkeys(text.replace(b"\0", b" ").split())
    joined = b" ".join([word for word in words if len(word) > RUN])
    octets = max(_OCTETS_MIN, len(joined) // 8)
    modulus = octets * 8 - 1  # odd: all octets of a run count
    bits = bytearray(b"0") * (octets * 8)
    one = 0x31
    for start in (0, 2):
        for run in _numbers(joined[start:]):
            bits[run % modulus] = one
    return int(bits, 2).to_bytes(octets, "big")


@dataclass(frozen=True, slots=True)
class Runs:
    """What a text must have to hold a needle: for each of its words, one list or the other."""

    words: tuple[tuple[list[int], list[int]], ...]

    @classmethod
    def of(cls, needle: bytes) -> Runs:
        words = [word for word in needle.split() if len(word) > RUN]
        return cls(tuple([(_every_second(word), _every_second(word[1:])) for word in words]))

    def may_be_in(self, packed: bytes) -> bool:
        """packed: as `filter_of` made it."""
        return all(_has(packed, even) or _has(packed, odd) for even, odd in self.words)


def _has(packed: bytes, runs: list[int]) -> bool:
    modulus = len(packed) * 8 - 1
    for run in runs:
        bit = run % modulus
        if not packed[bit >> 3] & (0x80 >> (bit & 7)):
            return False
    return True


def _every_second(word: bytes) -> list[int]:
    return [*_numbers(word), *_numbers(word[2:])]


def _numbers(octets: bytes) -> array[int]:
    """Each four octets, as a number."""
    numbers = array("I", octets[: len(octets) // RUN * RUN])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
