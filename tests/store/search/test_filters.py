"""A filter never rules out what is there, and most of the time what is not."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from postroad.store.search.filters import RUN, Runs, filter_of

_TEXTS = st.text(alphabet="ab \t\n\0é日", max_size=60).map(str.encode)


@given(_TEXTS, st.data())
def test_what_is_there_is_never_ruled_out(text: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    needle = text[start : data.draw(st.integers(start, len(text)))]
    if b"\0" not in needle:
        assert Runs.of(needle).may_be_in(filter_of(text))


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 40))
def test_nor_in_any_octets(text: bytes, start: int, size: int) -> None:
    needle = text[start : start + size].replace(b"\0", b"")
    if needle in text:
        assert Runs.of(needle).may_be_in(filter_of(text))


def test_short_words_rule_nothing_out() -> None:
    for needle in (b"", b" ", b"abcd", b"abcd efgh\tij"):
        assert not Runs.of(needle).words
    assert len(Runs.of(b"abcd efghi").words) == 1
    assert RUN == 4


def test_what_is_not_there_is_nearly_always_ruled_out() -> None:
    dice = random.Random(3)

    def word() -> bytes:
        return bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz", k=10))

    packed = filter_of(b"\0".join(word() for _ in range(3000)))
    passed = sum(Runs.of(word()).may_be_in(packed) for _ in range(1000))
    assert passed < 100


def test_the_same_text_has_the_same_filter() -> None:
    words = [b"word%d" % number for number in range(200)]
    assert filter_of(b"\0".join(words)) == filter_of(b" ".join(words * 2))
    assert filter_of(b"quarterly report").hex() == "4000000000000a001040000000002010"
