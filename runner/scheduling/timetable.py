"""Timetables: at which times a schedule is executed, over which windows, and what becomes of times that were missed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice, pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from runner.domain.executions import LONGEST, Window
from runner.domain.schedules import ScheduledTime
from runner.scheduling.cron import EARLIEST, LAST, Cron
from runner.scheduling.durations import Duration
from runner.scheduling.durations import text as iso
from runner.types import Instant

LATEST_START = timedelta(minutes=20)
"""A scheduled time that is seen later than this was missed: the longest start buffer of SageMaker."""
MOST_DUE = 10_000
"""How many scheduled times are looked at in one go: over a year of hours."""
LONGEST_ONCE = timedelta(hours=24)
"""The longest window that SageMaker takes relative to the creation of a schedule."""
SAMPLE = 1_500
"""How many scheduled times the shortest distance between two is taken from: more than a day of minutes."""
REMEDY = "stage=backfill can run it"
NOTHING = timedelta()

CONFIG = ConfigDict(extra="forbid")


def _expression(text: str) -> str:
    return Cron.parse(text).text


def _offset(offset: timedelta) -> timedelta:
    if not -LONGEST <= offset <= NOTHING:
        raise ValueError(f"expected a duration from -P{LONGEST.days}D to PT0S: windows lie before their time")
    return offset


Offset = Annotated[Duration, AfterValidator(_offset)]
Expression = Annotated[str, AfterValidator(_expression)]
MaxRuntime = Annotated[int, Field(strict=True, ge=1, le=86_400)]


@dataclass(frozen=True, config=CONFIG)
class Recurring:
    """What all timetables share that come again and again.

    Attributes:
        expression: the scheduled times, see `Cron`.
        start_offset: from a scheduled time to the start of its window; None: to the scheduled time before it.
        end_offset: from a scheduled time to the end of its window; None: none.
        buffer_minutes: up to how long after its scheduled time an execution starts.
        catch_up: which of the times are run that were missed.
        max_catch_up: how many missed times are run at most, the newest.
        overlap: what becomes of an execution while the one before it is still running.
        max_runtime: seconds that an execution may take.
    """

    expression: Expression
    start_offset: Offset | None
    end_offset: Offset | None
    buffer_minutes: Annotated[int, Field(strict=True, ge=0, le=20)]
    catch_up: Literal["none", "last", "all"]
    max_catch_up: Annotated[int, Field(strict=True, ge=1, le=MOST_DUE)]
    overlap: Literal["wait", "skip", "allow"]
    max_runtime: MaxRuntime

    @model_validator(mode="after")
    def _has_windows(self) -> Self:
        end = self.end_offset or NOTHING
        if self.start_offset is not None and self.start_offset >= end:
            raise ValueError(f"start_offset: {iso(self.start_offset)} does not lie before the window's end, {iso(end)}")
        if self.start_offset is None and self.end_offset and -end >= (gap := self._shortest_gap()):
            problem = f"{iso(end)} leaves no window where times are {iso(gap)} apart"
            raise ValueError(f"end_offset: {problem}; give a start_offset too")
        return self

    def _shortest_gap(self) -> timedelta:
        times = islice(self.cron.times(EARLIEST, LAST), SAMPLE)
        return min((later - earlier for earlier, later in pairwise(times)), default=LONGEST)

    @cached_property
    def cron(self) -> Cron:
        """The scheduled times."""
        return Cron.parse(self.expression)

    def next(self, after: datetime) -> datetime | None:
        """Return the first scheduled time after a time, None when there is none any more."""
        return self.cron.after(after)

    def window(self, scheduled: datetime) -> Window:
        """Return the data that the execution of a scheduled time looks at.

        Without offsets it reaches from the scheduled time before it up to itself, so that the windows of a schedule
        leave nothing out; never further back than the longest window.
        """
        end = scheduled + (self.end_offset or NOTHING)
        if self.start_offset is not None:
            return Window(scheduled + self.start_offset, end)
        return Window(max(self.cron.before(scheduled) or end - LONGEST, end - LONGEST), end)

    def delay(self, name: str, scheduled: datetime) -> timedelta:
        """Return how long after a scheduled time a schedule starts: whole seconds in `[0, buffer_minutes)`.

        They are drawn from the name and the time, the same at each call, so that many schedules spread evenly.
        """
        if not self.buffer_minutes:
            return NOTHING
        drawn = hashlib.sha256(f"{name}\0{scheduled.astimezone(UTC).isoformat()}".encode()).digest()
        return timedelta(seconds=int.from_bytes(drawn[:8]) % (self.buffer_minutes * 60))

    def due(self, name: str, cursor: datetime, now: datetime) -> list[ScheduledTime]:
        """Return what is due after the cursor up to and including now, ascending.

        A time that is seen within `LATEST_START` is run, `delay` after it; one that was missed is run at once, or
        skipped, as `catch_up` says. Of more than `MOST_DUE` times those before the newest are left out altogether.

        Args:
            name: of the schedule.
            cursor: the last time that has been looked at.
            now: the present; before the cursor, as after the clock was set back, nothing is due.
        """
        newest_first = list(islice(self.cron.latest(cursor, now), MOST_DUE))
        on_time = sum(now - at <= LATEST_START for at in newest_first)
        run = {"none": on_time, "last": max(on_time, 1), "all": on_time + self.max_catch_up}[self.catch_up]
        dues = [self._due(name, at, now) for at in newest_first]
        missed = [replace(each, skipped=self._why_skipped(each.scheduled, now)) for each in dues[run:]]
        return [*dues[:run], *missed][::-1]

    def _due(self, name: str, scheduled: datetime, now: datetime) -> ScheduledTime:
        on_time = now - scheduled <= LATEST_START
        return ScheduledTime(
            scheduled, self.window(scheduled), scheduled + self.delay(name, scheduled) if on_time else now
        )

    def _why_skipped(self, scheduled: datetime, now: datetime) -> str:
        newest = "time" if self.max_catch_up == 1 else f"{self.max_catch_up} times"
        rule = {
            "none": "schedule.catch_up=none makes up for nothing",
            "last": "schedule.catch_up=last makes up for the newest time only",
            "all": f"schedule.max_catch_up={self.max_catch_up} makes up for the newest {newest} only",
        }[self.catch_up]
        seen = f"it was due at {scheduled:%F %H:%M} UTC, but no daemon looked until {now:%F %H:%M} UTC"
        return f"not run: {seen}, and {rule}; {REMEDY}"


@dataclass(frozen=True, config=CONFIG)
class ByExpression(Recurring):
    """`schedule=hourly`, `schedule=cron`: the times of any expression."""

    kind: Literal["cron"]


@dataclass(frozen=True, config=CONFIG)
class Daily(Recurring):
    """`schedule=daily`: once a day.

    Attributes:
        hour: of the day in UTC; the expression has it.
    """

    kind: Literal["daily"]
    hour: Annotated[int, Field(strict=True, ge=0, le=23)]


@dataclass(frozen=True, config=CONFIG)
class EveryNHours(Recurring):
    """`schedule=every_n_hours`: several times a day.

    Attributes:
        hours: from one time to the next; the expression has them.
        first_hour: of the day in UTC, from which they are counted.
    """

    kind: Literal["every_n_hours"]
    hours: Annotated[int, Field(strict=True, ge=1, le=24)]
    first_hour: Annotated[int, Field(strict=True, ge=0, le=23)]


def _check_length(key: str, length: timedelta, longest: timedelta) -> None:
    if length <= NOTHING:
        raise ValueError(f"{key}: expected a time before the window's end")
    if length > longest:
        hours = longest // timedelta(hours=1)
        raise ValueError(f"{key}: the window is longer than {hours:,} hours; choose a shorter one, or stage=backfill")


@dataclass(frozen=True, config=CONFIG)
class Once:
    """`schedule=once`: SageMaker's `NOW`, one execution as soon as the schedule is created.

    Attributes:
        start, end: its window in UTC.
        data_analysis_start, data_analysis_end: or its window from the moment of creation on, both negative.
        max_runtime: seconds that the execution may take.
    """

    kind: Literal["once"]
    expression: Literal["NOW"]
    start: Instant | None
    end: Instant | None
    data_analysis_start: Offset | None
    data_analysis_end: Offset | None
    max_runtime: MaxRuntime

    @model_validator(mode="after")
    def _has_one_window(self) -> Self:
        fixed, relative = (self.start, self.end), (self.data_analysis_start, self.data_analysis_end)
        if [fixed, relative].count((None, None)) != 1 or [*fixed, *relative].count(None) != 2:
            raise ValueError(
                "start: give start and end, or data_analysis_start and data_analysis_end, and nothing else"
            )
        if self.start is not None and self.end is not None:
            _check_length("start", self.end - self.start, LONGEST)
        if self.data_analysis_start is not None and self.data_analysis_end is not None:
            _check_length("data_analysis_start", self.data_analysis_end - self.data_analysis_start, LONGEST_ONCE)
        return self

    def window(self, created: datetime) -> Window:
        """Return the data that the execution looks at, for a time of creation in whole seconds."""
        if self.start is not None and self.end is not None:
            return Window(self.start, self.end)
        return Window(created + (self.data_analysis_start or NOTHING), created + (self.data_analysis_end or NOTHING))

    def due(self, created: datetime) -> ScheduledTime:
        """Return the one execution, scheduled for the second of creation; a window yet to end is waited for."""
        scheduled = created.replace(microsecond=0)
        window = self.window(scheduled)
        return ScheduledTime(scheduled, window, max(scheduled, window.end))


Timetable = Annotated[ByExpression | Daily | EveryNHours | Once, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Timetable] = TypeAdapter(Timetable)


def dump(timetable: Timetable) -> str:
    """Return a timetable as JSON, with the keys of `conf/schedule/`."""
    return _ADAPTER.dump_json(timetable).decode()


def load(text: str) -> Timetable:
    """Return the timetable that `dump` wrote.

    Raises:
        ValueError: when it is none.
    """
    return _ADAPTER.validate_json(text)


def load_if_known(text: str) -> Timetable | None:
    """Return the timetable that `dump` wrote; None for one of a later version, which harms no other."""
    try:
        return load(text)
    except ValueError:
        return None


def changed(timetable: Timetable, values: Mapping[str, Any]) -> Timetable:
    """Return a timetable with other settings.

    Raises:
        ValueError: when it has no such settings, or they do not fit together.
    """
    return _ADAPTER.validate_json(json.dumps(_ADAPTER.dump_python(timetable, mode="json") | dict(values)))
