"""Dates: RFC 5322's, obsolete ones, odd ones, and foreign vectors."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.dates import parse_date, render_date


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (b"Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"),
        (b"21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06+00:00"),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
        (b"Tue, 1 Jul 03 10:52 EDT", "2003-07-01T10:52:00-04:00"),
        (b"1 Jan 103 00:00:00 Z", "2003-01-01T00:00:00+00:00"),
        (b"Mon, 23 Nov 2026 22:15:20 +0000 (UTC (nested))", "2026-11-23T22:15:20+00:00"),
        (b"Mon, 23 Nov 2026 22:15:20 XYZ", "2026-11-23T22:15:20+00:00"),
        (b"Mon, 23 Nov 2026 22:15:60 +0100", "2026-11-23T22:16:00+01:00"),
        (b"Mon Nov 23 22:15:20 2026", "2026-11-23T22:15:20+00:00"),
        (b"Mon Nov 23 22:15:20 PST 2026", "2026-11-23T22:15:20-08:00"),
        (b"Mon, 23-Nov-2026 22:15:20 +0530", "2026-11-23T22:15:20+05:30"),
        (b"Monday, 23 November 2026 22:15:20 +0000", "2026-11-23T22:15:20+00:00"),
        (b"23 Nov 2026 22:15:20 +9999", "2026-11-23T22:15:20+00:00"),
    ],
)
def test_reading(value: bytes, moment: str) -> None:
    assert parse_date(value) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"now",
        b"32 Nov 2026 00:00:00 +0000",
        b"1 Foo 2026 00:00:00 +0000",
        b"2026-11-23",
        b"(((",
    ],
)
def test_what_is_no_date(value: bytes) -> None:
    assert parse_date(value) is None


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(
        timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 1, 1)
    )
)
def test_written_dates_are_read_again(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    text = render_date(moment)
    if moment.year >= 1000:
        assert parse_date(text) == moment
    if moment.year >= 1900:
        assert parsedate_to_datetime(text.decode()) == moment


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_any_octets_are_survived(value: bytes) -> None:
    for text in (value, b"1 Jan 2000 " + value, b"1 Jan " + value):
        found = parse_date(text)
        assert found is None or found.tzinfo is not None


OPINION = {10, 12, 14, 28}  # months as numbers, unclosed comments, dates behind other text


@pytest.mark.skipif(
    "POSTROAD_SHARED" not in os.environ,
    reason="POSTROAD_SHARED is not set: it holds mail-parser's field vectors",
)
def test_the_vectors_of_mail_parser() -> None:
    """Source: stalwartlabs/mail-parser (Apache-2.0 or MIT), date.json."""
    file = Path(os.environ["POSTROAD_SHARED"], "conformance/mime/mail-parser/fields/date.json")
    cases = json.loads(file.read_text())
    assert len(cases) == 40
    for number, case in enumerate(cases):
        if number in OPINION:
            continue
        found = parse_date(case["header"].encode())
        wanted = case["expected"]
        if wanted is None:
            assert found is None, number
            continue
        sign = -1 if wanted["tz_before_gmt"] else 1
        zone = timedelta(hours=wanted["tz_hour"], minutes=wanted["tz_minute"]) * sign
        names = ("year", "month", "day", "hour", "minute", "second")
        moment = datetime(*(wanted[name] for name in names), tzinfo=timezone(zone))
        assert found == moment, number
