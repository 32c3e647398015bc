"""Cron expressions, compared with the calendar minute by minute."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.scheduling.cron import EARLIEST, LAST, Cron
from tests.golden import Golden

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]

Test = Callable[[int], bool]
Part = tuple[str, Test]


def at(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def next_times(cron: Cron, after: str, count: int) -> list[str]:
    """Return the first scheduled times after a time, as strings."""
    times = cron.times(at(after), LAST)
    return [f"{next(times):%F %H:%M}" for _ in range(count)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cron(0 * ? * * *)", ["2023-01-19 05:00", "2023-01-19 06:00", "2023-01-19 07:00"]),
        ("cron(0 * * * ? *)", ["2023-01-19 05:00", "2023-01-19 06:00", "2023-01-19 07:00"]),
        ("cron(0 3 ? * * *)", ["2023-01-20 03:00", "2023-01-21 03:00", "2023-01-22 03:00"]),
        ("cron(0 17/12 ? * * *)", ["2023-01-19 05:00", "2023-01-19 17:00", "2023-01-20 05:00"]),
        ("cron(0 0/2 ? * * *)", ["2023-01-19 06:00", "2023-01-19 08:00", "2023-01-19 10:00"]),
        ("cron(0 17/5 ? * * *)", ["2023-01-19 08:00", "2023-01-19 13:00", "2023-01-19 17:00", "2023-01-19 22:00"]),
        ("cron(0 0/24 ? * * *)", ["2023-01-20 00:00", "2023-01-21 00:00"]),
        ("cron(15 10 ? * 6 *)", ["2023-01-20 10:15", "2023-01-27 10:15"]),
        ("cron(0 9 ? * 2-6 *)", ["2023-01-19 09:00", "2023-01-20 09:00", "2023-01-23 09:00"]),
        ("cron(0 9 ? * MON-FRI *)", ["2023-01-19 09:00", "2023-01-20 09:00", "2023-01-23 09:00"]),
        ("cron(0 9 ? * 1,sat *)", ["2023-01-21 09:00", "2023-01-22 09:00", "2023-01-28 09:00"]),
        ("cron(45/30 0 1 jan,7 ? *)", ["2023-07-01 00:45", "2024-01-01 00:45"]),
        ("cron(0/20 12 31 * ? *)", ["2023-01-31 12:00", "2023-01-31 12:20", "2023-01-31 12:40", "2023-03-31 12:00"]),
        ("cron(0 0 29 2 ? *)", ["2024-02-29 00:00", "2028-02-29 00:00"]),
        ("cron(59 23 31 12 ? 2023,2199)", ["2023-12-31 23:59", "2199-12-31 23:59"]),
        ("0 * * * *", ["2023-01-19 05:00", "2023-01-19 06:00"]),
        ("*/30 8-9 * * *", ["2023-01-19 08:00", "2023-01-19 08:30", "2023-01-19 09:00", "2023-01-19 09:30"]),
        ("0 9 * * 0", ["2023-01-22 09:00", "2023-01-29 09:00"]),
        ("0 9 * * 7", ["2023-01-22 09:00", "2023-01-29 09:00"]),
        ("0 9 * * sun", ["2023-01-22 09:00", "2023-01-29 09:00"]),
        ("0 9 * * 1-5", ["2023-01-19 09:00", "2023-01-20 09:00", "2023-01-23 09:00"]),
        ("0 9 * * 6-7", ["2023-01-21 09:00", "2023-01-22 09:00", "2023-01-28 09:00"]),
        ("  0 0 1 */6 *  ", ["2023-07-01 00:00", "2024-01-01 00:00"]),
    ],
)
def test_scheduled_times_match_a_calendar(expression: str, expected: list[str]) -> None:
    """The expected times after Thursday, 2023-01-19 04:59:59, were looked up by hand."""
    assert next_times(Cron.parse(expression), "2023-01-19T04:59:59", len(expected)) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "NOW",
        "",
        "@hourly",
        "rate(1 hour)",
        "0 * ? * * *",
        "cron(0 * * * *)",
        "cron(0 * * * * *)",
        "cron(0 * ? * ? *)",
        "cron(0 * 1 * MON *)",
        "cron(? * ? * * *)",
        "cron(0 0 1 ? ? *)",
        "0 * ? * *",
        "cron(60 * ? * * *)",
        "cron(0 24 ? * * *)",
        "cron(0 0 0 * ? *)",
        "cron(0 0 1 13 ? *)",
        "cron(0 0 1 MAI ? *)",
        "cron(0 0 ? * 0 *)",
        "0 0 * * 8",
        "cron(0 0 ? * * 1969)",
        "cron(0 0 ? * * 12345)",
        "cron(0 22-2 ? * * *)",
        "cron(0 0 ? * SAT-SUN *)",
        "cron(0/0 * ? * * *)",
        "*/90 * * * *",
        "5/15 * * * *",
        "cron(0 0 L * ? *)",
        "cron(0 0 L-3 * ? *)",
        "cron(0 0 LW * ? *)",
        "cron(0 0 15W * ? *)",
        "cron(0 0 ? * 6L *)",
        "cron(0 0 ? * FRIL *)",
        "cron(0 0 ? * 2#1 *)",
        "cron(0,,5 * ? * * *)",
        "cron(0 *-3 ? * * *)",
        "cron(0 1.5 ? * * *)",
        "cron(٣ * ? * * *)",
        "0 0 1 * 1",
        "0 0 */2 * 1",
        "cron(0 0 30 2 ? *)",
        "0 0 31 4,6,9,11 *",
        "cron(0 0 ? * * 1999)",
        "cron(0 0 29 2 ? 2100)",
        "cron(0 0 29 2 ? 2025-2040/2)",
    ],
)
def test_invalid_expressions_are_refused(expression: str, golden: Golden) -> None:
    """The error quotes the expression and states the problem."""
    with golden.raises(ValueError) as caught:
        Cron.parse(expression)
    assert str(caught.value).startswith(repr(expression))


@given(st.text("cron()0123456789*/-,?LW# MONJAN", max_size=40))
def test_any_string_is_parsed_or_refused(text: str) -> None:
    """An invalid expression raises only ValueError."""
    with suppress(ValueError):
        assert Cron.parse(text).after(at("2020-01-01")) is not None


def numbers(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[tuple[str, int]]:
    """Draw a number of a field, with its notation."""
    numeric = st.integers(low, high).map(lambda n: (str(n), n))
    if names is None:
        return numeric
    return numeric | st.integers(0, len(names) - 1).map(lambda i: (names[i].lower(), low + i))


def items(low: int, high: int, names: list[str] | None, aws: bool, wraps: bool) -> st.SearchStrategy[Part]:
    """Draw an item of a field, with a predicate on numbers."""
    number = numbers(low, high, names)
    steps = st.integers(1, high - low + 1)
    ranges = st.tuples(number, number).map(lambda two: sorted(two, key=lambda each: each[1]))

    def opened(drawn: tuple[tuple[str, int], int]) -> Part:
        (text, start), step = drawn
        period = high - low + 1

        def belongs(n: int) -> bool:
            return (n - start) % period % step == 0 if wraps else n >= start and (n - start) % step == 0

        return f"{text}/{step}", belongs

    return st.one_of(
        number.map(lambda drawn: (drawn[0], lambda n: n == drawn[1])),
        ranges.map(lambda two: (f"{two[0][0]}-{two[1][0]}", lambda n: two[0][1] <= n <= two[1][1])),
        steps.map(lambda step: (f"*/{step}", lambda n: (n - low) % step == 0)),
        st.tuples(ranges, steps).map(
            lambda both: (
                f"{both[0][0][0]}-{both[0][1][0]}/{both[1]}",
                lambda n: both[0][0][1] <= n <= both[0][1][1] and (n - both[0][0][1]) % both[1] == 0,
            )
        ),
        st.tuples(number, steps).map(opened) if aws else st.nothing(),
    )


def fields(
    low: int, high: int, aws: bool, names: list[str] | None = None, wraps: bool = False
) -> st.SearchStrategy[Part]:
    """Draw a field: * in half of the cases, otherwise a list of items."""
    lists = st.lists(items(low, high, names, aws, wraps), min_size=1, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), lambda n: any(belongs(n) for _, belongs in parts))
    )
    return st.just(("*", lambda _: True)) | lists


def parse_valid(expression: str) -> Cron | None:
    """Parse a valid expression, None if it has no scheduled time."""
    try:
        return Cron.parse(expression)
    except ValueError as problem:
        if f"no day from {EARLIEST.year}" in str(problem):
            return None
        raise


@st.composite
def crons(draw: st.DrawFn) -> tuple[Cron, Callable[[datetime], bool]]:
    """Draw an expression, with a predicate on minutes."""
    aws = draw(st.booleans())
    minute, hour = draw(fields(0, 59, aws)), draw(fields(0, 23, aws, wraps=aws))
    month = draw(fields(1, 12, aws, MONTHS))
    unrestricted: Part = ("?" if aws else "*", lambda _: True)
    if draw(st.booleans()):
        day, weekday = draw(fields(1, 31, aws)), unrestricted
    else:
        day, weekday = unrestricted, draw(fields(1, 7, aws, DAYS) if aws else fields(0, 7, aws, DAYS))
    year = draw(fields(1970, 2199, aws) if aws else st.just(unrestricted))

    def matches(at: datetime) -> bool:
        sunday = at.isoweekday() % 7  # 0 is Sunday
        numbers = (sunday + 1,) if aws else (sunday, sunday or 7)
        return (
            minute[1](at.minute)
            and hour[1](at.hour)
            and day[1](at.day)
            and month[1](at.month)
            and year[1](at.year)
            and any(weekday[1](number) for number in numbers)
        )

    texts = [part[0] for part in (minute, hour, day, month, weekday, year)]
    cron = parse_valid(f"cron({' '.join(texts)})" if aws else " ".join(texts[:5]))
    assume(cron is not None)
    return cast(Cron, cron), matches


starts = st.datetimes(datetime(2020, 1, 1), datetime(2190, 1, 1), timezones=st.just(UTC)) | st.sampled_from(  # noqa: DTZ001
    [at("2027-12-31T12:00"), at("2028-02-28T12:00"), at("2100-02-28T12:00"), at("2199-12-30T11:00")]
)


@pytest.mark.soak
@settings(max_examples=60)
@given(crons(), starts)
def test_scheduled_times_are_the_matching_minutes(
    drawn: tuple[Cron, Callable[[datetime], bool]], start: datetime
) -> None:
    """In 36 hours, ascending and descending, the times are the minutes that match all fields."""
    cron, matches = drawn
    floor = start.replace(second=0, microsecond=0)
    expected = [minute for n in range(36 * 60 + 1) if start < (minute := floor + n * MINUTE) and matches(minute)]
    end = floor + 36 * HOUR
    assert list(cron.times(start, end)) == expected
    assert list(cron.latest(start, end)) == expected[::-1]
    if expected:
        assert cron.after(start) == expected[0]
        assert cron.before(end + MINUTE) == expected[-1]


@settings(max_examples=60)
@given(crons(), starts)
def test_before_is_the_inverse_of_after(drawn: tuple[Cron, Callable[[datetime], bool]], start: datetime) -> None:
    """The last time before the next one is not after the start."""
    cron, matches = drawn
    following, preceding = cron.after(start), cron.before(start)
    assert following is None or (following > start and matches(following))
    assert preceding is None or (preceding < start and matches(preceding))
    if following is not None and preceding is not None:
        assert cron.before(following) == (
            start if matches(start) and start.second == 0 == start.microsecond else preceding
        )


@settings(max_examples=60)
@given(crons(), starts)
def test_the_apscheduler_trigger_has_the_same_times(
    drawn: tuple[Cron, Callable[[datetime], bool]], start: datetime
) -> None:
    """APScheduler's next fire times are the next scheduled times."""
    cron = drawn[0]
    starts = [start, *islice(cron.times(start, LAST), 5)]
    fired = [cron.trigger.get_next_fire_time(None, each + timedelta(microseconds=1)) for each in starts]
    assert fired == [cron.after(each) for each in starts]


def test_a_leap_year_has_8784_hours() -> None:
    """The hours of 2028 are one hour apart and include the leap day."""
    hourly = Cron.parse("cron(0 * ? * * *)")
    times = list(hourly.times(at("2027-12-31T23:00"), at("2028-12-31T23:00")))
    assert len(times) == 8784
    assert all(later - earlier == HOUR for earlier, later in pairwise(times))
    assert sum(f"{time:%m-%d}" == "02-29" for time in times) == 24


def test_after_and_before_are_exclusive_and_bounded() -> None:
    """A scheduled time is neither after nor before itself, and the range ends in 2199."""
    daily = Cron.parse("0 0 * * *")
    midnight = at("2024-03-01")
    assert daily.after(midnight) == midnight + DAY
    assert daily.before(midnight) == at("2024-02-29")
    assert daily.after(midnight - timedelta(microseconds=1)) == midnight
    assert daily.before(midnight + timedelta(microseconds=1)) == midnight
    assert list(daily.times(midnight, midnight)) == list(daily.times(midnight + DAY, midnight)) == []
    assert daily.after(at("2199-12-31")) is None
    assert daily.after(datetime.max.replace(tzinfo=UTC)) is None
    assert Cron.parse("cron(0 0 1 1 ? 2027)").before(at("2027-01-01")) is None


def test_times_in_other_zones_are_converted_to_utc() -> None:
    """The result is in UTC whatever the zone of the argument."""
    daily = Cron.parse("0 23 * * *")
    midnight = datetime(2024, 3, 1, 0, 30, tzinfo=timezone(2 * HOUR))
    following = daily.after(midnight)
    assert following is not None
    assert following.tzinfo is UTC
    assert following == at("2024-02-29T23:00")
    assert daily.before(datetime(2024, 2, 29, 22, 0, tzinfo=timezone(-4 * HOUR))) == at("2024-02-29T23:00")
