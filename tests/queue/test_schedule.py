from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.queue.schedule import DELAY_NOTICE_AFTER_S, delay_notice_due, next_attempt

SCHEDULE = (60, 300, 900, 1800, 3600, 7200)
DAY = 86400


@pytest.mark.parametrize(
    ("tries", "wait"), [(0, 60), (1, 60), (2, 300), (3, 900), (6, 7200), (7, 7200), (90, 7200)]
)
def test_waits_grow_and_the_last_one_repeats(tries: int, wait: int) -> None:
    assert next_attempt(tries, 1000, 5000, SCHEDULE, 5 * DAY, 0.5) == 5000 + wait


def test_jitter_spreads_by_a_tenth() -> None:
    assert next_attempt(4, 0, 0, SCHEDULE, DAY, 0.0) == 1620
    assert next_attempt(4, 0, 0, SCHEDULE, DAY, 0.999999) == 1980


def test_the_last_attempt_is_made_at_expiry_and_then_none() -> None:
    assert next_attempt(9, 0, DAY - 100, SCHEDULE, DAY, 0.5) == DAY
    assert next_attempt(9, 0, DAY, SCHEDULE, DAY, 0.5) is None
    assert next_attempt(9, 0, DAY + 1, SCHEDULE, DAY, 0.5) is None


def test_a_clock_that_stepped_back_waits_for_the_acceptance() -> None:
    assert next_attempt(1, 5000, 1000, SCHEDULE, DAY, 0.5) == 5060


@given(
    st.integers(0, 50),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_every_message_ends(tries: int, accepted: int, now: int, life: int, jitter: float) -> None:
    """Each attempt is later than the one before, and none comes behind the expiry."""
    expires = accepted + life
    moment = next_attempt(tries, accepted, now, SCHEDULE, expires, jitter)
    if now >= expires:
        assert moment is None
    else:
        assert moment is not None and now < moment <= expires


def test_a_message_that_always_fails_is_tried_for_all_its_life() -> None:
    now, tries, moments = 0, 0, []
    while True:
        tries += 1
        due = next_attempt(tries, 0, now, SCHEDULE, 5 * DAY, 0.5)
        if due is None:
            break
        moments.append(due - now)
        now = due
    assert now == 5 * DAY
    assert moments[:5] == [60, 300, 900, 1800, 3600]
    assert 60 < tries < 70


def test_the_delay_is_told_at_the_first_attempt_behind_the_moment() -> None:
    late = 100 + DELAY_NOTICE_AFTER_S
    assert not delay_notice_due(100, 0, late - 1)
    assert delay_notice_due(100, 0, late)
    assert delay_notice_due(100, late - 5, late + 5)
    assert not delay_notice_due(100, late, late + 5)
    assert not delay_notice_due(100, late + 5, late + 500)
