"""Timetables: scheduled times and windows of a schedule, handling of missed times, and ISO 8601 durations."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice, pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from runner.domain.executions import MAX_WINDOW, Window
from runner.domain.schedules import ScheduledTime
from runner.errors import snippet
from runner.scheduling.cron import EARLIEST, LAST, Cron
from runner.types import Instant

ISO = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d+)W"
    r"|(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?)",
    re.ASCII,
)
EMPTY = re.compile(r"[+-]?P")
CALENDAR = re.compile(r"[+-]?P[\dD]*\d[YM].*", re.ASCII)
"""Duration with years or months, which are before the T."""
LATEST_START = timedelta(minutes=20)
"""Delay after which a scheduled time counts as missed: SageMaker's longest start buffer."""
MAX_DUE = 10_000
"""Maximum number of scheduled times per call of `due`: more than a year of hourly times."""
LONGEST_ONCE = timedelta(hours=24)
"""Maximum length of a window with offsets from the creation of the schedule, as in SageMaker."""
SAMPLE = 1_500
"""Number of scheduled times searched for the shortest interval: more than a day with one time per minute."""
REMEDY = "run it with stage=backfill"
ZERO = timedelta()
CONFIG = ConfigDict(extra="forbid")


def parse_duration(text: str) -> timedelta:
    """Parse an ISO 8601 duration in weeks, or in days, hours, minutes and seconds, with an optional sign.

    Raises:
        ValueError: if the string is not a duration, has years or months, or exceeds the calendar.

    >>> parse_duration("-PT90M")
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


def iso_duration(length: timedelta) -> str:
    """Format a duration of whole seconds in ISO 8601, the inverse of `parse_duration`.

    >>> iso_duration(-timedelta(hours=1)), iso_duration(timedelta(days=8, minutes=5)), iso_duration(timedelta())
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
    return parse_duration(value)


Duration = Annotated[
    timedelta, BeforeValidator(_duration), PlainSerializer(iso_duration, return_type=str, when_used="json")
]
"""Type of a setting: an ISO 8601 duration in YAML and JSON."""


def _expression(text: str) -> str:
    return Cron.parse(text).text


def _offset(offset: timedelta) -> timedelta:
    if not -MAX_WINDOW <= offset <= ZERO:
        raise ValueError(
            f"expected a duration from -P{MAX_WINDOW.days}D to PT0S: a window ends at or before its scheduled time"
        )
    return offset


Offset = Annotated[Duration, AfterValidator(_offset)]
Expression = Annotated[str, AfterValidator(_expression)]
OnEmpty = Literal["fail", "skip"]
MaxRuntime = Annotated[int, Field(strict=True, ge=1, le=86_400)]


@dataclass(frozen=True, config=CONFIG)
class Recurring:
    """Timetable with recurring scheduled times.

    Attributes:
        expression: scheduled times, see `Cron`.
        start_offset: offset from a scheduled time to the start of its window; None: the previous scheduled time.
        end_offset: offset from a scheduled time to the end of its window; None: the scheduled time.
        buffer_minutes: length in minutes of the interval over which the starts of many schedules are spread.
        catch_up: missed times to execute.
        max_catch_up: maximum number of missed times to execute; the latest are executed.
        overlap: behavior while the previous execution is running.
        max_runtime: maximum duration of an execution, in seconds.
        on_empty: result of an execution without captured events; it belongs to the settings of executions, see `dump`.
    """

    expression: Expression
    start_offset: Offset | None
    end_offset: Offset | None
    buffer_minutes: Annotated[int, Field(strict=True, ge=0, le=20)]
    catch_up: Literal["none", "last", "all"]
    max_catch_up: Annotated[int, Field(strict=True, ge=1, le=MAX_DUE)]
    overlap: Literal["wait", "skip", "allow"]
    max_runtime: MaxRuntime
    on_empty: OnEmpty = field(default="fail", kw_only=True)

    @model_validator(mode="after")
    def _has_windows(self) -> Self:
        end = self.end_offset or ZERO
        if self.start_offset is not None and self.start_offset >= end:
            start = iso_duration(self.start_offset)
            raise ValueError(f"start_offset: {start} is not before the end of the window, {iso_duration(end)}")
        if self.start_offset is None and self.end_offset and -end >= (gap := self._shortest_gap()):
            problem = (
                f"windows are empty with {iso_duration(end)}, because scheduled times are {iso_duration(gap)} apart"
            )
            raise ValueError(f"end_offset: {problem}; set start_offset, too")
        return self

    def _shortest_gap(self) -> timedelta:
        times = islice(self.cron.times(EARLIEST, LAST), SAMPLE)
        return min((later - earlier for earlier, later in pairwise(times)), default=MAX_WINDOW)

    @cached_property
    def cron(self) -> Cron:
        """Scheduled times."""
        return Cron.parse(self.expression)

    def next(self, after: datetime) -> datetime | None:
        """Return the first scheduled time after a time, None if there is none."""
        return self.cron.after(after)

    def window(self, scheduled: datetime) -> Window:
        """Return the window of a scheduled time.

        Without `start_offset`, the window starts at the previous scheduled time. Without both offsets, the windows of a
        schedule therefore have no gaps. A window is at most `MAX_WINDOW` long, even if this leaves a gap.
        """
        end = scheduled + (self.end_offset or ZERO)
        if self.start_offset is not None:
            return Window(scheduled + self.start_offset, end)
        return Window(max(self.cron.before(scheduled) or end - MAX_WINDOW, end - MAX_WINDOW), end)

    def delay(self, name: str, scheduled: datetime) -> timedelta:
        """Return the delay of an execution after its scheduled time: whole seconds in `[0, buffer_minutes)`.

        The delay is computed from a hash of the name and the time. It is reproducible, and spreads many schedules
        evenly.
        """
        if not self.buffer_minutes:
            return ZERO
        digest = hashlib.sha256(f"{name}\0{scheduled.astimezone(UTC).isoformat()}".encode()).digest()
        return timedelta(seconds=int.from_bytes(digest[:8]) % (self.buffer_minutes * 60))

    def due(self, name: str, cursor: datetime, now: datetime) -> list[ScheduledTime]:
        """Return the scheduled times in `(cursor, now]`, ascending.

        If a scheduled time is at most `LATEST_START` ago, its execution starts after its `delay`. Otherwise the time is
        missed: its execution starts now or is skipped, according to `catch_up`. Only the latest `MAX_DUE` times are
        returned.

        Args:
            name: name of the schedule.
            cursor: time up to which executions are already planned.
            now: current time. If the clock was set back to a time before the cursor, nothing is due.
        """
        newest_first = list(islice(self.cron.latest(cursor, now), MAX_DUE))
        on_time = sum(now - at <= LATEST_START for at in newest_first)
        run = {"none": on_time, "last": max(on_time, 1), "all": on_time + self.max_catch_up}[self.catch_up]
        dues = [self._due(name, at, now) for at in newest_first]
        missed = [replace(each, skipped=self._reason_for_skipping(each.scheduled, now)) for each in dues[run:]]
        return [*dues[:run], *missed][::-1]

    def _due(self, name: str, scheduled: datetime, now: datetime) -> ScheduledTime:
        on_time = now - scheduled <= LATEST_START
        return ScheduledTime(
            scheduled, self.window(scheduled), scheduled + self.delay(name, scheduled) if on_time else now
        )

    def _reason_for_skipping(self, scheduled: datetime, now: datetime) -> str:
        latest = "time" if self.max_catch_up == 1 else f"{self.max_catch_up} times"
        rule = {
            "none": "schedule.catch_up=none executes no missed times",
            "last": "schedule.catch_up=last executes only the latest time",
            "all": f"schedule.max_catch_up={self.max_catch_up} executes only the latest {latest}",
        }[self.catch_up]
        missed = f"due at {scheduled:%F %H:%M} UTC, but no daemon planned it before {now:%F %H:%M} UTC"
        return f"not run: {missed}, and {rule}; {REMEDY}"


@dataclass(frozen=True, config=CONFIG)
class ByExpression(Recurring):
    """`schedule=hourly` and `schedule=cron`: the times of an expression."""

    kind: Literal["cron"]


@dataclass(frozen=True, config=CONFIG)
class Daily(Recurring):
    """`schedule=daily`: once a day.

    Attributes:
        hour: UTC hour of the day, which is also in the expression.
    """

    kind: Literal["daily"]
    hour: Annotated[int, Field(strict=True, ge=0, le=23)]


@dataclass(frozen=True, config=CONFIG)
class EveryNHours(Recurring):
    """`schedule=every_n_hours`: every n hours, counted from an hour of the day.

    Attributes:
        hours: hours between scheduled times, which are also in the expression.
        first_hour: UTC hour of the first scheduled time of a day.
    """

    kind: Literal["every_n_hours"]
    hours: Annotated[int, Field(strict=True, ge=1, le=24)]
    first_hour: Annotated[int, Field(strict=True, ge=0, le=23)]


def _check_length(key: str, length: timedelta, longest: timedelta) -> None:
    if length <= ZERO:
        raise ValueError(f"{key}: expected a time before the end of the window")
    if length > longest:
        hours = longest // timedelta(hours=1)
        raise ValueError(f"{key}: the window is longer than {hours:,} hours; shorten it, or use stage=backfill")


@dataclass(frozen=True, config=CONFIG)
class Once:
    """`schedule=once`: one execution immediately after creation, SageMaker's `NOW`.

    Attributes:
        start, end: window in UTC.
        data_analysis_start, data_analysis_end: window as offsets from the creation (zero or negative),
            instead of `start` and `end`.
        max_runtime: maximum duration of the execution, in seconds.
        on_empty: result of the execution without captured events; it belongs to the settings of executions, see `dump`.
    """

    kind: Literal["once"]
    expression: Literal["NOW"]
    start: Instant | None
    end: Instant | None
    data_analysis_start: Offset | None
    data_analysis_end: Offset | None
    max_runtime: MaxRuntime
    on_empty: OnEmpty = field(default="fail", kw_only=True)

    @model_validator(mode="after")
    def _has_one_window(self) -> Self:
        fixed, relative = (self.start, self.end), (self.data_analysis_start, self.data_analysis_end)
        if [fixed, relative].count((None, None)) != 1 or [*fixed, *relative].count(None) != 2:
            raise ValueError("start: set either start and end, or data_analysis_start and data_analysis_end")
        if self.start is not None and self.end is not None:
            _check_length("start", self.end - self.start, MAX_WINDOW)
        if self.data_analysis_start is not None and self.data_analysis_end is not None:
            _check_length("data_analysis_start", self.data_analysis_end - self.data_analysis_start, LONGEST_ONCE)
        return self

    def window(self, created: datetime) -> Window:
        """Return the window of the execution for a creation time in whole seconds."""
        if self.start is not None and self.end is not None:
            return Window(self.start, self.end)
        return Window(created + (self.data_analysis_start or ZERO), created + (self.data_analysis_end or ZERO))

    def due(self, created: datetime) -> ScheduledTime:
        """Return the scheduled time: the creation in whole seconds. The execution starts once its window has ended."""
        scheduled = created.replace(microsecond=0)
        window = self.window(scheduled)
        return ScheduledTime(scheduled, window, max(scheduled, window.end))


Timetable = Annotated[ByExpression | Daily | EveryNHours | Once, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Timetable] = TypeAdapter(Timetable)


def dump(timetable: Timetable) -> str:
    """Serialize a timetable as JSON with the keys of `conf/schedule/`, except `on_empty`.

    Executions read `on_empty` from their snapshot of the settings, as a backfill has no schedule. Its change is no
    change of the times.
    """
    return _ADAPTER.dump_json(timetable, exclude={"on_empty"}).decode()


def load(text: str) -> Timetable:
    """Parse a timetable written by `dump`.

    Raises:
        ValueError: if it is not a timetable.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ValueError("; ".join(problem["msg"] for problem in error.errors())) from error


def load_if_known(text: str) -> Timetable | None:
    """Parse a timetable written by `dump`; return None if it is invalid, for example written by a later version."""
    try:
        return load(text)
    except ValueError:
        return None


def with_settings(timetable: Timetable, values: Mapping[str, Any]) -> Timetable:
    """Return a timetable with changed settings.

    Raises:
        ValueError: if the timetable does not have these settings, or their combination is invalid.
    """
    return _ADAPTER.validate_json(json.dumps(_ADAPTER.dump_python(timetable, mode="json") | dict(values)))
