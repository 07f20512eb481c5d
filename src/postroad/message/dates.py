"""Dates of header fields: tolerant reading, strict writing.

Source: RFC 5322 §3.3, §4.3 (obsolete zones, two-digit years). Never raises on hostile octets.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = {name.encode(): number for number, name in enumerate(_MONTHS, 1)}
_DATE = re.compile(
    rb"\s*(?:[A-Za-z]{2,12}\.?\s*,?\s*)?"
    rb"(\d{1,2})[\s\-]+([A-Za-z]{3})[A-Za-z]{0,7}\.?[\s\-]+(\d{2,4})[\s,]+"
    rb"(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2})(?:\.\d{1,9})?)?"
    rb"(?:\s*([+\-])\s*(\d{4})|\s*([A-Za-z]{1,5}))?"
)
_ASCTIME = re.compile(
    rb"\s*(?:[A-Za-z]{3,9},?\s+)?([A-Za-z]{3})[a-z]*\.?\s+(\d{1,2}),?\s+"
    rb"(\d{1,2}):(\d{2})(?::(\d{2}))?\s+(?:([A-Za-z]{1,5})\s+)?(\d{4})(?:\s*([+\-])(\d{4}))?"
)
_ZONES = {
    b"UT": 0,
    b"GMT": 0,
    b"UTC": 0,
    b"Z": 0,
    b"EST": -300,
    b"EDT": -240,
    b"CST": -360,
    b"CDT": -300,
    b"MST": -420,
    b"MDT": -360,
    b"PST": -480,
    b"PDT": -420,
}
_COMMENT = re.compile(rb"\([^()]*\)")
_DATE_OCTETS_MAX = 256  # real ones have some 40
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _zone_minutes(sign: bytes | None, digits: bytes | None, name: bytes | None) -> int:
    if sign is not None and digits is not None:
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if minutes >= 24 * 60:
            return 0
        return -minutes if sign == b"-" else minutes
    # RFC 5322 §4.3: unknown names and the military letters mean -0000.
    return _ZONES.get(name.upper(), 0) if name else 0


def _year(digits: bytes) -> int:
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


def parse_date(value: bytes) -> datetime | None:
    """The moment a Date: field names, aware, in its own zone; None when it names none."""
    value = value[:_DATE_OCTETS_MAX]
    if b"(" in value:
        for _ in range(8):
            value, replaced = _COMMENT.subn(b" ", value)
            if not replaced:
                break
    match = _DATE.match(value)
    if match is not None:
        day, month, year, hour, minute, second, sign, digits, name = match.groups()
    else:
        match = _ASCTIME.match(value)
        if match is None:
            return None
        month, day, hour, minute, second, name, year, sign, digits = match.groups()
    number = _MONTH.get(month.lower())
    if number is None:
        return None
    zone = timezone(timedelta(minutes=_zone_minutes(sign, digits, name)))
    leap = 0
    seconds = int(second or 0)
    if seconds == 60:  # a leap second is the next minute's first
        seconds, leap = 59, 1
    try:
        moment = datetime(_year(year), number, int(day), int(hour), int(minute), seconds, 0, zone)
        moment += timedelta(seconds=leap)
        moment.astimezone(UTC)  # years 1 and 9999 may leave the calendar
    except (ValueError, OverflowError):
        return None
    return moment


def render_date(moment: datetime) -> bytes:
    """`Mon, 23 Nov 2026 22:15:20 +0000`: always UTC."""
    utc = moment.astimezone(UTC)
    month = _MONTHS[utc.month - 1].capitalize()
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day} {month} {utc.year:04} "
        f"{utc.hour:02}:{utc.minute:02}:{utc.second:02} +0000"
    ).encode("ascii")
