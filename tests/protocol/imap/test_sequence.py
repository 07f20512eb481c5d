"""Sequence sets (RFC 3501 §9)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.protocol.imap.sequence import STAR, SequenceSet

_numbers = st.integers(1, 0xFFFFFFFF) | st.just(STAR)
_sets = st.lists(st.tuples(_numbers, _numbers), min_size=1, max_size=20).map(
    lambda pairs: SequenceSet(tuple(pairs))
)


@given(_sets)
def test_parse_is_the_inverse_of_render(made: SequenceSet) -> None:
    assert SequenceSet.parse(made.render()) == made


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8),
    st.integers(1, 25),
)
def test_resolve_means_every_number_between(pairs: list[tuple[int, int]], star: int) -> None:
    expected = set()
    for low, high in pairs:
        first, last = sorted((low or star, high or star))
        expected |= set(range(first, last + 1))
    assert list(SequenceSet(tuple(pairs)).resolve(star)) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "star", "numbers"),
    [
        (b"2,4:7,9,12:*", 15, [2, 4, 5, 6, 7, 9, 12, 13, 14, 15]),  # RFC 3501 §9
        (b"*:4,5:7", 10, [4, 5, 6, 7, 8, 9, 10]),  # RFC 3501 §9
        (b"3291:*", 7, list(range(7, 3292))),
        (b"*", 3, [3]),
    ],
)
def test_the_examples_of_the_grammar(text: bytes, star: int, numbers: list[int]) -> None:
    assert list(SequenceSet.parse(text).resolve(star)) == numbers


def test_star_of_an_empty_mailbox_is_nothing() -> None:
    assert not SequenceSet.parse(b"1:*,*").resolve(0)


@pytest.mark.parametrize(
    "text", [b"", b"0", b"1,,2", b"1:", b":1", b"a", b"4294967296", b"-1", b"1:2:3"]
)
def test_malformed_sets_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        SequenceSet.parse(text)
