"""ISO 8601 durations, such as the offsets -PT1H and -P8D."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from runner.errors import snippet

ISO = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d+)W"
    r"|(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?)",
    re.ASCII,
)
EMPTY = re.compile(r"[+-]?P")
CALENDAR = re.compile(r"[+-]?P[\dD]*\d[YM].*", re.ASCII)
"""Duration with years or months, which are before the T."""


def duration(text: str) -> timedelta:
    """Parse an ISO 8601 duration in weeks, or in days, hours, minutes and seconds, with an optional sign.

    Raises:
        ValueError: if the string is not a duration, has years or months, or exceeds the calendar.

    >>> duration("-PT90M")
    datetime.timedelta(days=-1, seconds=81000)
    """
    if CALENDAR.fullmatch(text):
        raise ValueError(f"{snippet(text)!r}: months and years have no fixed length; use days, such as -P30D")
    match = ISO.fullmatch(text)
    if match is None or EMPTY.fullmatch(text):
        raise ValueError(f"{snippet(text)!r} is not a duration such as -PT1H, PT90M or -P8D")
    sign, parts = match["sign"], match.groupdict(default="0")
    try:
        length = timedelta(**{unit: int(parts[unit]) for unit in ("weeks", "days", "hours", "minutes", "seconds")})
        return -length if sign == "-" else length
    except (OverflowError, ValueError):
        raise ValueError(f"{snippet(text)!r} exceeds the calendar") from None


def text(length: timedelta) -> str:
    """Format a duration of whole seconds in ISO 8601, the inverse of `duration`.

    >>> text(-timedelta(hours=1)), text(timedelta(days=8, minutes=5)), text(timedelta())
    ('-PT1H', 'P8DT5M', 'PT0S')
    """
    days, seconds = divmod(abs(length) // timedelta(seconds=1), 86_400)
    clock = ((seconds // 3600, "H"), (seconds // 60 % 60, "M"), (seconds % 60, "S"))
    date = f"{days}D" if days else ""
    time = "".join(f"{count}{unit}" for count, unit in clock if count)
    if not (date or time):
        return "PT0S"
    return f"{'-' if length < timedelta() else ''}P{date}{'T' if time else ''}{time}"


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a duration such as -PT1H or -P8D")
    return duration(value)


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(text, return_type=str, when_used="json")]
"""Type of a setting: an ISO 8601 duration in YAML and JSON."""
