"""What is remembered of sets of messages: by the set itself, and within bounds."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from postroad.service.remembered import Remembered, set_key


def test_each_set_has_its_own_answer() -> None:
    remembered = Remembered()
    remembered.put(set_key("order", [1, 2, 3]), b"first")
    remembered.put(set_key("order", [1, 2, 4]), b"second")
    remembered.put(set_key("threads", [1, 2, 3]), b"third")
    assert remembered.get(set_key("order", array("L", (1, 2, 3)))) == b"first"
    assert remembered.get(set_key("order", range(1, 4))) == b"first"
    assert remembered.get(set_key("order", [1, 2, 4])) == b"second"
    assert remembered.get(set_key("threads", [1, 2, 3])) == b"third"
    assert remembered.get(set_key("order", [1, 2])) is None


def test_what_was_asked_for_least_recently_goes_first() -> None:
    remembered = Remembered(10_000)
    keys = [set_key("order", [number]) for number in range(5)]
    for key in keys[:4]:
        remembered.put(key, b"x" * 2000)
    assert remembered.get(keys[0]) is not None
    remembered.put(keys[4], b"x" * 2000)
    there = [remembered.get(key) is not None for key in keys]
    assert there == [True, False, True, True, True]


def test_what_is_too_large_drives_nothing_out() -> None:
    remembered = Remembered(10_000)
    small, large = set_key("order", [1]), set_key("order", [2])
    remembered.put(small, b"small")
    remembered.put(large, b"x" * 3000)
    assert remembered.get(small) == b"small" and remembered.get(large) is None


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3000)), max_size=60))
def test_it_stays_within_its_bound(asked: list[tuple[int, int]]) -> None:
    remembered = Remembered(10_000)
    for number, size in asked:
        key = set_key("order", [number])
        octets = bytes(size)
        remembered.put(key, octets)
        found = remembered.get(key)
        assert found == octets or size > 2000
        kept = [remembered.get(set_key("order", [other])) for other in range(9)]
        assert sum(len(item) for item in kept if item is not None) <= 10_000
