"""Cron expressions, against a calendar that is gone through minute by minute."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.scheduling.cron import LAST, Cron

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]

Test = Callable[[int], bool]
Part = tuple[str, Test]


def at(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def first(cron: Cron, after: str, count: int) -> list[str]:
    """Return the first scheduled times after a time, as text."""
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
def test_times_by_hand(expression: str, expected: list[str]) -> None:
    """Scheduled times after Thursday, 2023-01-19 04:59:59, looked up in a calendar."""
    assert first(Cron.parse(expression), "2023-01-19T04:59:59", len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("NOW", "'NOW': it comes once, not again and again; choose schedule=once"),
        ("", "'': expected cron(0 * ? * * *) or the five fields of a crontab, such as 0 * * * *"),
        ("@hourly", "'@hourly': expected cron(0 * ? * * *) or the five fields of a crontab"),
        ("rate(1 hour)", "expected cron(0 * ? * * *) or the five fields of a crontab"),
        ("0 * ? * * *", "expected cron(0 * ? * * *) or the five fields of a crontab"),
        ("cron(0 * * * *)", "5 fields, expected cron(minute hour day-of-month month day-of-week year)"),
        ("cron(0 * * * * *)", "exactly one of day of month and day of week must be ?, as in cron(0 * ? * * *)"),
        ("cron(0 * ? * ? *)", "exactly one of day of month and day of week must be ?"),
        ("cron(0 * 1 * MON *)", "exactly one of day of month and day of week must be ?"),
        ("cron(? * ? * * *)", "minute ?: only one of day of month and day of week can be ?"),
        ("cron(0 0 1 ? ? *)", "month ?: only one of day of month and day of week can be ?"),
        ("0 * ? * *", "day of month ?: only one of day of month and day of week can be ?, and not in a crontab"),
        ("cron(60 * ? * * *)", "minute 60 is not from 0 to 59"),
        ("cron(0 24 ? * * *)", "hour 24 is not from 0 to 23"),
        ("cron(0 0 0 * ? *)", "day of month 0 is not from 1 to 31"),
        ("cron(0 0 1 13 ? *)", "month 13 is not from 1 to 12, JAN to DEC"),
        ("cron(0 0 1 MAI ? *)", "month MAI is not from 1 to 12, JAN to DEC"),
        ("cron(0 0 ? * 0 *)", "day of week 0 is not from 1 to 7, SUN to SAT"),
        ("0 0 * * 8", "day of week 8 is not from 0 to 7, SUN to SAT"),
        ("cron(0 0 ? * * 1969)", "year 1969 is not from 1970 to 2199"),
        ("cron(0 0 ? * * 12345)", "year 12345 is not from 1970 to 2199"),
        ("cron(0 22-2 ? * * *)", "hour 22-2 runs backwards; give two ranges, separated by a comma"),
        ("cron(0 0 ? * SAT-SUN *)", "day of week SAT-SUN runs backwards"),
        ("cron(0/0 * ? * * *)", "minute: the step 0 is not from 1 to 60"),
        ("*/90 * * * *", "minute: the step 90 is not from 1 to 60"),
        ("5/15 * * * *", "minute 5/15: a step needs a range there, such as 5-59/15"),
        ("cron(0 0 L * ? *)", "day of month L: L, W and # are not supported; list the days"),
        ("cron(0 0 L-3 * ? *)", "day of month L-3: L, W and # are not supported"),
        ("cron(0 0 LW * ? *)", "L, W and # are not supported"),
        ("cron(0 0 15W * ? *)", "L, W and # are not supported"),
        ("cron(0 0 ? * 6L *)", "L, W and # are not supported"),
        ("cron(0 0 ? * FRIL *)", "L, W and # are not supported"),
        ("cron(0 0 ? * 2#1 *)", "L, W and # are not supported"),
        ("cron(0,,5 * ? * * *)", "minute after a comma is no number, range such as 1-5, * or step such as */2"),
        ("cron(0 *-3 ? * * *)", "hour *-3 is no number, range"),
        ("cron(0 1.5 ? * * *)", "hour 1.5 is no number, range"),
        ("cron(٣ * ? * * *)", "minute ٣ is no number, range"),
        ("0 0 1 * 1", "a crontab takes day of month and day of week as either/or; one of the two must be *"),
        ("0 0 */2 * 1", "a crontab takes day of month and day of week as either/or"),
        ("cron(0 0 30 2 ? *)", "never comes: no day from 2020 to 2199 fits"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("cron(0 0 ? * * 1999)", "never comes"),
        ("cron(0 0 29 2 ? 2100)", "never comes"),
        ("cron(0 0 29 2 ? 2025-2040/2)", "never comes"),
    ],
)
def test_refusals(expression: str, sentence: str) -> None:
    """What is no expression, or names no time, is refused with a sentence that shows it."""
    with pytest.raises(ValueError, match=r".") as caught:
        Cron.parse(expression)
    assert str(caught.value).startswith(repr(expression))
    assert sentence in str(caught.value)


@given(st.text("cron()0123456789*/-,?LW# MONJAN", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a sentence comes of what is no expression."""
    with suppress(ValueError):
        assert Cron.parse(text).after(at("2020-01-01")) is not None


def numbers(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[tuple[str, int]]:
    """Draw a number of a field as it may be written."""
    numeric = st.integers(low, high).map(lambda n: (str(n), n))
    if names is None:
        return numeric
    return numeric | st.integers(0, len(names) - 1).map(lambda i: (names[i].lower(), low + i))


def items(low: int, high: int, names: list[str] | None, aws: bool, wraps: bool) -> st.SearchStrategy[Part]:
    """Draw an item of a field and what tells whether a number belongs to it."""
    number = numbers(low, high, names)
    steps = st.integers(1, high - low + 1)
    ranges = st.tuples(number, number).map(lambda two: sorted(two, key=lambda each: each[1]))

    def opened(drawn: tuple[tuple[str, int], int]) -> Part:
        (text, start), step = drawn
        around = high - low + 1

        def belongs(n: int) -> bool:
            return (n - start) % around % step == 0 if wraps else n >= start and (n - start) % step == 0

        return f"{text}/{step}", belongs

    return st.one_of(
        number.map(lambda one: (one[0], lambda n: n == one[1])),
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
    """Draw a field: *, which is frequent, or a list of items."""
    lists = st.lists(items(low, high, names, aws, wraps), min_size=1, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), lambda n: any(belongs(n) for _, belongs in parts))
    )
    return st.just(("*", lambda _: True)) | lists


def read(expression: str) -> Cron | None:
    """Return an expression that is right, None when it names no time."""
    try:
        return Cron.parse(expression)
    except ValueError as problem:
        if "never comes" in str(problem):
            return None
        raise


@st.composite
def crons(draw: st.DrawFn) -> tuple[Cron, Callable[[datetime], bool]]:
    """Draw an expression and what tells whether a minute belongs to it."""
    aws = draw(st.booleans())
    minute, hour = draw(fields(0, 59, aws)), draw(fields(0, 23, aws, wraps=aws))
    month = draw(fields(1, 12, aws, MONTHS))
    unrestricted: Part = ("?" if aws else "*", lambda _: True)
    if draw(st.booleans()):
        day, weekday = draw(fields(1, 31, aws)), unrestricted
    else:
        day, weekday = unrestricted, draw(fields(1, 7, aws, DAYS) if aws else fields(0, 7, aws, DAYS))
    year = draw(fields(1970, 2199, aws) if aws else st.just(unrestricted))

    def comes(at: datetime) -> bool:
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
    cron = read(f"cron({' '.join(texts)})" if aws else " ".join(texts[:5]))
    assume(cron is not None)
    return cast(Cron, cron), comes


starts = st.datetimes(datetime(2020, 1, 1), datetime(2190, 1, 1), timezones=st.just(UTC)) | st.sampled_from(  # noqa: DTZ001
    [at("2027-12-31T12:00"), at("2028-02-28T12:00"), at("2100-02-28T12:00"), at("2199-12-30T11:00")]
)


@pytest.mark.soak
@settings(max_examples=60)
@given(crons(), starts)
def test_a_day_and_a_half_minute_by_minute(drawn: tuple[Cron, Callable[[datetime], bool]], start: datetime) -> None:
    """In both directions, the times are the minutes that belong to every field."""
    cron, comes = drawn
    floor = start.replace(second=0, microsecond=0)
    expected = [minute for n in range(36 * 60 + 1) if start < (minute := floor + n * MINUTE) and comes(minute)]
    end = floor + 36 * HOUR
    assert list(cron.times(start, end)) == expected
    assert list(cron.latest(start, end)) == expected[::-1]
    if expected:
        assert cron.after(start) == expected[0]
        assert cron.before(end + MINUTE) == expected[-1]


@settings(max_examples=60)
@given(crons(), starts)
def test_before_undoes_after(drawn: tuple[Cron, Callable[[datetime], bool]], start: datetime) -> None:
    """The time before the first one after a moment is not after that moment."""
    cron, comes = drawn
    following, preceding = cron.after(start), cron.before(start)
    assert following is None or (following > start and comes(following))
    assert preceding is None or (preceding < start and comes(preceding))
    if following is not None and preceding is not None:
        assert cron.before(following) == (
            start if comes(start) and start.second == 0 == start.microsecond else preceding
        )


@settings(max_examples=60)
@given(crons(), starts)
def test_the_trigger_agrees(drawn: tuple[Cron, Callable[[datetime], bool]], start: datetime) -> None:
    """APScheduler fires at the same times."""
    cron = drawn[0]
    moments = [start, *islice(cron.times(start, LAST), 5)]
    fired = [cron.trigger.get_next_fire_time(None, moment + timedelta(microseconds=1)) for moment in moments]
    assert fired == [cron.after(moment) for moment in moments]


def test_a_leap_year_of_hours() -> None:
    """2028 has 8,784 hours, an hour apart, the leap day's among them."""
    hourly = Cron.parse("cron(0 * ? * * *)")
    times = list(hourly.times(at("2027-12-31T23:00"), at("2028-12-31T23:00")))
    assert len(times) == 8784
    assert all(later - earlier == HOUR for earlier, later in pairwise(times))
    assert sum(f"{time:%m-%d}" == "02-29" for time in times) == 24


def test_bounds() -> None:
    """A scheduled time is not after or before itself, is reached by times(), and there is an end and a beginning."""
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


def test_moments_of_other_zones() -> None:
    """A moment is the same in any zone, and the times are in UTC."""
    daily = Cron.parse("0 23 * * *")
    midnight = datetime(2024, 3, 1, 0, 30, tzinfo=timezone(2 * HOUR))
    following = daily.after(midnight)
    assert following is not None
    assert following.tzinfo is UTC
    assert following == at("2024-02-29T23:00")
    assert daily.before(datetime(2024, 2, 29, 22, 0, tzinfo=timezone(-4 * HOUR))) == at("2024-02-29T23:00")
