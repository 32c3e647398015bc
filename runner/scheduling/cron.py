"""Cron expressions in UTC: the AWS format with six fields, and the five fields of a crontab.

Both are parsed into sets of minutes, hours, days, months, weekdays and years. APScheduler's parser supports neither the
AWS format nor the weekdays of a crontab (its 0 is Monday), and cannot compute earlier times.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from runner.errors import snippet

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, 23, 59, tzinfo=UTC)
"""Range of scheduled times, as in AWS."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""Start of the search for a first scheduled time; an expression without a later one is refused."""

ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,4}))?", re.ASCII)
UNSUPPORTED = re.compile(r"(?:\d+|[A-Z]{3})?L(?:-\d+)?|LW|\d+W|\w+#\d+", re.ASCII | re.IGNORECASE)
"""Items for the last day, the nearest weekday and the n-th weekday of a month."""

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class _Field:
    """Syntax of a field of an expression.

    Attributes:
        name: name of the field.
        low, high: smallest and largest number.
        names: names of the numbers, in ascending order from `low`.
        open_steps: whether S/N (every N-th number from S) is allowed.
        wraps: whether S/N continues after midnight.
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    open_steps: bool = True
    wraps: bool = False

    def values(self, text: str) -> frozenset[int]:
        """Return the set of numbers in a list of items."""
        return frozenset(value for item in text.split(",") for value in self._item(item))

    def _item(self, item: str) -> Iterable[int]:
        match = ITEM.fullmatch(item)
        if match is None or UNSUPPORTED.fullmatch(item):
            raise ValueError(self._problem(item))
        step = self._step(match["step"])
        if match["first"] is None:
            return range(self.low, self.high + 1, step)
        first = self._number(match["first"])
        if match["last"] is None:
            return self._open(item, first, step) if match["step"] else (first,)
        last = self._number(match["last"])
        if last < first:
            raise ValueError(f"{self.name} {item} ends before it starts; use two ranges separated by a comma")
        return range(first, last + 1, step)

    def _open(self, item: str, first: int, step: int) -> Iterable[int]:
        """Return the numbers of S/N; hours continue after midnight, over a range of 24 hours."""
        if not self.open_steps:
            raise ValueError(f"{self.name} {item}: a step requires a range, such as {first}-{self.high}/{step}")
        if self.wraps:
            return (hour % 24 for hour in range(first, first + 24, step))
        return range(first, self.high + 1, step)

    def _number(self, text: str) -> int:
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        if not re.fullmatch(r"[0-9]{1,4}", text) or not self.low <= int(text) <= self.high:
            names = f", or from {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"{self.name} {text} is not from {self.low} to {self.high}{names}")
        return int(text)

    def _step(self, text: str | None) -> int:
        largest = self.high - self.low + 1
        if text is not None and not 1 <= int(text) <= largest:
            raise ValueError(f"{self.name}: the step {text} is not from 1 to {largest}")
        return int(text or 1)

    def _problem(self, item: str) -> str:
        if UNSUPPORTED.fullmatch(item):
            return f"{self.name} {item}: L, W and # are not supported; list the days instead"
        if item == "?":
            return f"{self.name} ?: only the day of month or the day of week can be ?, and only in cron(...)"
        if not item:
            return f"{self.name}: a value is missing before or after a comma"
        return f"{self.name} {item} is not a number, a range such as 1-5, * or a step such as */2"


AWS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23, wraps=True),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("day of week", 1, 7, WEEKDAYS),
    _Field("year", FIRST.year, LAST.year),
)
CRONTAB = (
    _Field("minute", 0, 59, open_steps=False),
    _Field("hour", 0, 23, open_steps=False),
    _Field("day of month", 1, 31, open_steps=False),
    _Field("month", 1, 12, MONTHS, open_steps=False),
    _Field("day of week", 0, 7, WEEKDAYS, open_steps=False),
    AWS[5],
)
"""Fields of a crontab, and the year."""


@dataclass(frozen=True)
class Cron:
    """Scheduled times of an expression: whole minutes in UTC, from 1970 to 2199.

    Attributes:
        text: the expression.
        clock: times of the day, ascending.
        days: days of the month.
        months: months of the year.
        weekdays: days of the week; 0 is Monday.
        years: years.
    """

    text: str
    clock: tuple[time, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Parse `cron(min hour dom month dow year)`, or the five fields of a crontab.

        Raises:
            ValueError: if the string is neither, or has no scheduled time.

        >>> Cron.parse("cron(0 17/12 ? * * *)").clock
        (datetime.time(5, 0), datetime.time(17, 0))
        """
        text = text.strip()
        try:
            minutes, hours, days, months, weekdays, years = _sets(text)
        except ValueError as problem:
            raise ValueError(f"{snippet(text)!r}: {problem}") from None
        clock = tuple(time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes))
        cron = cls(text, clock, days, months, weekdays, years)
        if next(cron.times(EARLIEST, LAST), None) is None:
            raise ValueError(f"{text!r} has no scheduled time: it matches no day from {EARLIEST.year} to {LAST.year}")
        return cron

    def after(self, at: datetime) -> datetime | None:
        """Return the first scheduled time after `at`, None if there is none up to 2199."""
        return next(self.times(at, LAST), None)

    def before(self, at: datetime) -> datetime | None:
        """Return the last scheduled time before `at`, None if there is none since 1970."""
        return next((earlier for earlier in self.latest(FIRST, at) if earlier < at), None)

    def times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the scheduled times in `(after, until]`, ascending."""
        return self._between(after, until, 1)

    def latest(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the scheduled times in `(after, until]`, descending."""
        return self._between(after, until, -1)

    def _between(self, after: datetime, until: datetime, step: int) -> Iterator[datetime]:
        after, until = _within(after), _within(until)
        for day in self._days(after.date(), until.date(), step):
            start = bisect_right(self.clock, after.time()) if day == after.date() else None
            stop = bisect_right(self.clock, until.time()) if day == until.date() else None
            for clock in self.clock[start:stop][::step]:
                yield datetime.combine(day, clock, UTC)

    def _days(self, first: date, last: date, step: int) -> Iterator[date]:
        for number in range(_month(first), _month(last) + 1)[::step]:
            year, month = number // 12, number % 12 + 1
            if year in self.years and month in self.months:
                days = [date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1) if day in self.days]
                yield from (day for day in days[::step] if first <= day <= last and day.weekday() in self.weekdays)

    @property
    def trigger(self) -> CronTrigger:
        """APScheduler trigger with the same times."""
        from apscheduler.triggers.cron import CronTrigger

        return CronTrigger(
            minute=_apscheduler_field({at.minute for at in self.clock}, 60),
            hour=_apscheduler_field({at.hour for at in self.clock}, 24),
            day=_apscheduler_field(self.days, 31),
            month=_apscheduler_field(self.months, 12),
            day_of_week=_apscheduler_field(self.weekdays, 7),
            year=_apscheduler_field(self.years, LAST.year - FIRST.year + 1),
            second=0,
            end_date=LAST,
            timezone=UTC,
        )


Sets = tuple[frozenset[int], ...]
"""Minutes, hours, days, months, weekdays (0 is Monday) and years of an expression."""


def _sets(text: str) -> Sets:
    aws = re.fullmatch(r"cron\((.*)\)", text)
    if aws:
        return _aws(aws[1].split())
    if text.upper() == "NOW":
        raise ValueError("it is a single time; use schedule=once")
    return _crontab(text.split())


def _aws(texts: list[str]) -> Sets:
    if len(texts) != len(AWS):
        raise ValueError(f"{len(texts)} fields, expected cron(minute hour day-of-month month day-of-week year)")
    if (texts[2] == "?") == (texts[4] == "?"):
        raise ValueError("exactly one of day of month and day of week must be ?, as in cron(0 * ? * * *)")
    texts[2 if texts[2] == "?" else 4] = "*"
    return _read(AWS, texts)


def _crontab(texts: list[str]) -> Sets:
    if len(texts) != len(CRONTAB) - 1:
        raise ValueError("expected cron(0 * ? * * *) or the five fields of a crontab, such as 0 * * * *")
    if texts[2] != "*" and texts[4] != "*":
        raise ValueError("in a crontab, day of month or day of week must be *")
    return _read(CRONTAB, [*texts, "*"])


def _read(fields: tuple[_Field, ...], texts: list[str]) -> Sets:
    sets = [field.values(text) for field, text in zip(fields, texts, strict=True)]
    sunday = fields[4].low
    sets[4] = frozenset((day - sunday - 1) % 7 for day in sets[4])
    return tuple(sets)


def _within(at: datetime) -> datetime:
    """Convert a time to UTC, and clip it to the range of scheduled times."""
    return min(max(at.astimezone(UTC), FIRST), LAST)


def _month(day: date) -> int:
    """Return the number of months since year 0."""
    return day.year * 12 + day.month - 1


def _apscheduler_field(values: frozenset[int] | set[int], count: int) -> str:
    """Format values for APScheduler; `count` is the number of possible values."""
    return "*" if len(values) == count else ",".join(map(str, sorted(values)))
