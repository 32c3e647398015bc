"""Cron expressions in UTC: the form of AWS with six fields, and the five fields of a crontab.

Both are read into the sets of minutes, hours, days, months, weekdays and years that they name; APScheduler's own reader
knows neither the form of AWS nor the weekdays of a crontab (its 0 is Monday), and it cannot look back.
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
"""The times that expressions are about, as AWS bounds them."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""An expression that names no time from here on can only be a mistake."""

ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,4}))?", re.ASCII)
UNSUPPORTED = re.compile(r"(?:\d+|[A-Z]{3})?L(?:-\d+)?|LW|\d+W|\w+#\d+", re.ASCII | re.IGNORECASE)
"""The last day, the weekday nearest to one, the n-th weekday of a month."""

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class _Field:
    """A field of an expression.

    Attributes:
        low, high: the numbers it takes.
        names: what else the numbers from `low` on are called.
        open_steps: whether S/N, from S on in steps of N, is allowed.
        wraps: whether S/N goes on after midnight.
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    open_steps: bool = True
    wraps: bool = False

    def values(self, text: str) -> frozenset[int]:
        """Return the numbers that a list of items names."""
        return frozenset(value for item in text.split(",") for value in self._item(item))

    def _item(self, item: str) -> Iterable[int]:
        match = ITEM.fullmatch(item)
        if match is None or UNSUPPORTED.fullmatch(item):
            raise ValueError(self._refusal(item))
        step = self._step(match["step"])
        if match["first"] is None:
            return range(self.low, self.high + 1, step)
        first = self._number(match["first"])
        if match["last"] is None:
            return self._open(item, first, step) if match["step"] else (first,)
        last = self._number(match["last"])
        if last < first:
            raise ValueError(f"{self.name} {item} runs backwards; give two ranges, separated by a comma")
        return range(first, last + 1, step)

    def _open(self, item: str, first: int, step: int) -> Iterable[int]:
        """Return what S/N names: of hours, those of a day and night from S on."""
        if not self.open_steps:
            raise ValueError(f"{self.name} {item}: a step needs a range there, such as {first}-{self.high}/{step}")
        if self.wraps:
            return (hour % 24 for hour in range(first, first + 24, step))
        return range(first, self.high + 1, step)

    def _number(self, text: str) -> int:
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        if not re.fullmatch(r"[0-9]{1,4}", text) or not self.low <= int(text) <= self.high:
            names = f", {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"{self.name} {text} is not from {self.low} to {self.high}{names}")
        return int(text)

    def _step(self, text: str | None) -> int:
        most = self.high - self.low + 1
        if text is not None and not 1 <= int(text) <= most:
            raise ValueError(f"{self.name}: the step {text} is not from 1 to {most}")
        return int(text or 1)

    def _refusal(self, item: str) -> str:
        if UNSUPPORTED.fullmatch(item):
            return f"{self.name} {item}: L, W and # are not supported; list the days"
        if item == "?":
            return f"{self.name} ?: only one of day of month and day of week can be ?, and not in a crontab"
        return f"{self.name} {item or 'after a comma'} is no number, range such as 1-5, * or step such as */2"


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
"""The fields of a crontab, and any year."""


@dataclass(frozen=True)
class Cron:
    """The scheduled times of an expression: whole minutes in UTC, from 1970 to 2199.

    Attributes:
        text: the expression.
        clock: the times of a day, ascending.
        days, months, years: those it is about.
        weekdays: those it is about; 0 is Monday.
    """

    text: str
    clock: tuple[time, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Return what `cron(min hour dom month dow year)` or the five fields of a crontab say.

        Raises:
            ValueError: with a sentence, when the text is neither, or names no time at all.

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
            raise ValueError(f"{text!r} never comes: no day from {EARLIEST.year} to {LAST.year} fits")
        return cron

    def after(self, at: datetime) -> datetime | None:
        """Return the first scheduled time after `at`, not `at` itself; None when there is none any more."""
        return next(self.times(at, LAST), None)

    def before(self, at: datetime) -> datetime | None:
        """Return the last scheduled time before `at`, not `at` itself; None when there is none since 1970."""
        return next((last for last in self.latest(FIRST, at) if last < at), None)

    def times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the scheduled times after `after` up to and including `until`, ascending."""
        return self._between(after, until, 1)

    def latest(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the same times as `times`, descending."""
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
        """The same times as a trigger of APScheduler."""
        from apscheduler.triggers.cron import CronTrigger

        return CronTrigger(
            minute=_listed({at.minute for at in self.clock}, 60),
            hour=_listed({at.hour for at in self.clock}, 24),
            day=_listed(self.days, 31),
            month=_listed(self.months, 12),
            day_of_week=_listed(self.weekdays, 7),
            year=_listed(self.years, LAST.year - FIRST.year + 1),
            second=0,
            end_date=LAST,
            timezone=UTC,
        )


Sets = tuple[frozenset[int], ...]
"""The minutes, hours, days, months, weekdays (0 is Monday) and years of an expression."""


def _sets(text: str) -> Sets:
    aws = re.fullmatch(r"cron\((.*)\)", text)
    if aws:
        return _aws(aws[1].split())
    if text.upper() == "NOW":
        raise ValueError("it comes once, not again and again; choose schedule=once")
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
        raise ValueError("a crontab takes day of month and day of week as either/or; one of the two must be *")
    return _read(CRONTAB, [*texts, "*"])


def _read(fields: tuple[_Field, ...], texts: list[str]) -> Sets:
    sets = [field.values(text) for field, text in zip(fields, texts, strict=True)]
    sunday = fields[4].low
    sets[4] = frozenset((day - sunday - 1) % 7 for day in sets[4])
    return tuple(sets)


def _within(at: datetime) -> datetime:
    """Return a moment in UTC, brought to where expressions begin or end."""
    return min(max(at.astimezone(UTC), FIRST), LAST)


def _month(day: date) -> int:
    """Return the number of a month in the calendar."""
    return day.year * 12 + day.month - 1


def _listed(values: frozenset[int] | set[int], of: int) -> str:
    """Return values as APScheduler reads them."""
    return "*" if len(values) == of else ",".join(map(str, sorted(values)))
