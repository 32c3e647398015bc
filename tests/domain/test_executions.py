"""Times in UTC and windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.executions import HOUR, Window, utc
from tests.golden import Golden

FIVE = datetime(2023, 1, 19, 5, tzinfo=UTC)

times = st.datetimes(timezones=st.just(UTC)).filter(lambda time: 1 < time.year < 9999)
windows = st.builds(
    lambda start, length: Window(start, start + length), times, st.timedeltas(timedelta(microseconds=1), 50 * HOUR)
)


@pytest.mark.parametrize(
    "text",
    [
        "2023-01-19T05",
        "2023-01-19 05:00",
        "2023-01-19T05:00:00Z",
        "2023-01-19T05:00:00.000000+00:00",
        "2023-01-19T07:00+02:00",
        "2023-01-18T23:30-05:30",
    ],
)
def test_times_are_converted_to_utc(text: str) -> None:
    """Any ISO format is accepted; a time without an offset is in UTC."""
    assert utc(text) == FIVE
    assert utc(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "2023-01-19",
        "2023-01-19T",
        "20230119T050000",
        "2023-02-30T05:00",
        "2023-01-19T25",
        "2023-01-19T05:00Q",
    ],
)
def test_other_strings_are_not_a_time(text: str, golden: Golden) -> None:
    """The error quotes a string without date or time."""
    with golden.raises(ValueError) as caught:
        utc(text)
    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00"])
def test_times_outside_the_calendar_are_refused(text: str, golden: Golden) -> None:
    """The years before 1 and after 9999 in UTC are not supported."""
    with golden.raises(ValueError):
        utc(text)


@pytest.mark.parametrize(
    ("text", "start", "end", "message"),
    [
        ("2023-01-19T05", "2023-01-19T05", "2023-01-19T06", "2023-01-19 05:00–06:00 UTC"),
        ("2023-01-19T05:30", "2023-01-19T05:30", "2023-01-19T06:30", "2023-01-19 05:30–06:30 UTC"),
        ("2023-01-19T23:00:00Z", "2023-01-19T23", "2023-01-20T00", "2023-01-19 23:00–00:00 UTC"),
        ("2023-01-19T07:00+02:00", "2023-01-19T05", "2023-01-19T06", "2023-01-19 05:00–06:00 UTC"),
        ("2023-01-19T05/2023-01-19T08", "2023-01-19T05", "2023-01-19T08", "2023-01-19 05:00–08:00 UTC"),
        ("2023-01-19T05/2023-01-21T05", "2023-01-19T05", "2023-01-21T05", "2023-01-19 05:00–2023-01-21 05:00 UTC"),
        ("2023-01-19T05/2023-01-20T05", "2023-01-19T05", "2023-01-20T05", "2023-01-19 05:00–2023-01-20 05:00 UTC"),
        ("2023-01-19T00/2023-01-20T00", "2023-01-19T00", "2023-01-20T00", "2023-01-19 00:00–2023-01-20 00:00 UTC"),
    ],
)
def test_window_is_an_hour_or_an_interval(text: str, start: str, end: str, message: str) -> None:
    """A window is one hour from a time, or the interval between two times; messages repeat no equal date."""
    window = Window.parse(text)
    assert window == Window(utc(start), utc(end))
    assert str(window) == message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("yesterday", "'yesterday' is not a UTC time"),
        ("2023-01-19", "'2023-01-19' is not a UTC time"),
        ("2023-01-19T05/", "'' is not a UTC time"),
        ("/2023-01-19T05", "'' is not a UTC time"),
        ("2023-01-19T05/PT1H", "'PT1H' is not a UTC time"),
        ("2023-01-19T05/2023-01-19T06/2023-01-19T07", "'2023-01-19T06/2023-01-19T07' is not a UTC time"),
        ("2023-01-19T05/2023-01-19T05", "the window must start before its end, got 2023-01-19T05:00:00Z"),
        ("2023-01-19T05/2023-01-19T04", "got 2023-01-19T05:00:00Z to 2023-01-19T04:00:00Z"),
        ("9999-12-31T23", "9999-12-31T23"),
    ],
)
def test_other_strings_are_not_a_window(text: str, problem: str) -> None:
    """The error quotes the invalid part."""
    with pytest.raises(ValueError, match=r"window|time") as caught:
        Window.parse(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hours", "scheduled"),
    [
        ("2023-01-19T05", ["2023-01-19T05"], "2023-01-19T06"),
        ("2023-01-19T05:30", ["2023-01-19T05", "2023-01-19T06"], "2023-01-19T07"),
        ("2023-01-19T05:10/2023-01-19T05:20", ["2023-01-19T05"], "2023-01-19T06"),
        ("2023-01-19T05:10/2023-01-19T06:00", ["2023-01-19T05"], "2023-01-19T06"),
        ("2023-01-19T05:10/2023-01-19T06:00:01", ["2023-01-19T05", "2023-01-19T06"], "2023-01-19T07"),
        ("2023-12-31T23", ["2023-12-31T23"], "2024-01-01T00"),
        (
            "2024-02-28T22:30/2024-02-29T00:30",
            ["2024-02-28T22", "2024-02-28T23", "2024-02-29T00"],
            "2024-02-29T01",
        ),
    ],
)
def test_hours_and_schedule(text: str, hours: list[str], scheduled: str) -> None:
    """The hours overlap the window; the scheduled time is the full hour at or after its end."""
    window = Window.parse(text)
    assert list(window.hours) == [utc(hour) for hour in hours]
    assert window.scheduled == utc(scheduled)


@given(windows)
def test_hours_cover_the_window(window: Window) -> None:
    """The hours are full and consecutive, from the start of the window to the scheduled time."""
    first, last = window.hours[0], window.hours[-1]
    assert first <= window.start < first + HOUR
    assert last < window.end <= last + HOUR == window.scheduled
    assert {later - hour for hour, later in zip(window.hours, window.hours[1:], strict=False)} <= {HOUR}
    assert window.start in window
    assert window.end not in window
    assert window.end - timedelta(microseconds=1) in window
