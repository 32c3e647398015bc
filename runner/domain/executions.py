"""Windows, and executions: their statuses, outcomes, history, publications and metrics."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Change, ChangeKind, DriftResult, Level, Verdict

HOUR = timedelta(hours=1)
MAX_WINDOW = timedelta(days=366)
"""Maximum length of a window."""


def utc(text: str) -> datetime:
    """Parse an ISO 8601 time as UTC; without an offset, UTC is assumed.

    Raises:
        ValueError: if the string is not a date with a time.

    >>> utc("2023-01-19T07:00+02:00").isoformat()
    '2023-01-19T05:00:00+00:00'
    """
    try:
        at = datetime.fromisoformat(text) if re.match(r"\d{4}-\d\d-\d\d[T ]\d", text) else None
        if at is not None:
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is not a UTC time such as 2023-01-19T05:00:00Z")


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_and_time(at: datetime, year: int | None = None) -> str:
    """Return a time in UTC with its weekday and date, and with the year if it is not the given one.

    >>> day_and_time(utc("2026-07-14T13:05"), 2026), day_and_time(utc("2026-07-14T13:05"))
    ('Tue 14 Jul, 13:05 UTC', 'Tue 14 Jul 2026, 13:05 UTC')
    """
    day = f"{WEEKDAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]}"
    return f"{day}{'' if at.year == year else f' {at.year}'}, {at:%H:%M} UTC"


@dataclass(frozen=True, order=True)
class Window:
    """A half-open interval of event times in UTC, `[start, end)`, normally one hour."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"the window must start before its end, got {self.start:%FT%TZ} to {self.end:%FT%TZ}")

    @classmethod
    def parse(cls, text: str) -> Window:
        """Return the hour that starts at a time, or the interval between two times separated by a slash.

        Raises:
            ValueError: if the string is neither.

        >>> str(Window.parse("2023-01-19T05"))
        '2023-01-19 05:00–06:00 UTC'
        """
        first, slash, second = text.partition("/")
        start = utc(first)
        if start.year == MAXYEAR:
            raise ValueError(f"{text!r} is not a valid window: the year {MAXYEAR} is not supported")
        end = utc(second) if slash else start + HOUR
        if end - start > MAX_WINDOW or end.year == MAXYEAR:
            limit = f"longer than {MAX_WINDOW.days} days, or ends in the year {MAXYEAR}"
            raise ValueError(f"{text!r} is not a valid window: it is {limit}")
        return cls(start, end)

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end

    def __str__(self) -> str:
        time = "%H:%M:%S" if self.start.second or self.end.second else "%H:%M"
        day = "" if self.end.date() == self.start.date() or self.end - self.start == HOUR else "%F "
        return f"{self.start:%F {time}}–{self.end:{day}{time}} UTC"

    @property
    def hours(self) -> tuple[datetime, ...]:
        """Starts of the UTC hours that overlap the window: the folders of a capture tree."""
        first = self.start.replace(minute=0, second=0, microsecond=0)
        count = -((first - self.end) // HOUR)
        return tuple(first + i * HOUR for i in range(count))

    @property
    def scheduled(self) -> datetime:
        """First full hour at or after the end: the scheduled time of this window in an hourly schedule."""
        return self.hours[-1] + HOUR


class Status(StrEnum):
    """Status of an execution, with SageMaker's names."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    COMPLETED_WITH_VIOLATIONS = "CompletedWithViolations"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        """Whether the execution has ended."""
        return self not in {Status.PENDING, Status.IN_PROGRESS, Status.STOPPING}


class ExitCode(IntEnum):
    """Exit code of the command line; 1 is left to unexpected errors."""

    COMPLETED = 0
    FAILED = 2
    ALERT = 3
    INTERRUPTED = 130

    @classmethod
    def worst(cls, codes: Iterable[int]) -> int:
        """Return the highest code of a failure, or else `ALERT` before `COMPLETED`.

        >>> ExitCode.worst([0, 3, 2]), ExitCode.worst([0, 3]), ExitCode.worst([])
        (2, 3, 0)
        """
        return max(map(int, codes), key=lambda code: (code not in {cls.COMPLETED, cls.ALERT}, code), default=0)


@dataclass(frozen=True)
class Outcome:
    """Result of a stage.

    Attributes:
        message: text for people.
        succeeded: whether the stage succeeded.
        directory: directory of the results, empty if nothing was written.
        text: longer text for people at a terminal, printed instead of the message; empty for the message.
    """

    message: str
    succeeded: bool = True
    directory: str = ""
    text: str = field(default="", kw_only=True)

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of a run with this result."""
        return ExitCode.COMPLETED if self.succeeded else ExitCode.FAILED


@dataclass(frozen=True)
class Alert(Outcome):
    """Result of a stage that succeeded, with a verdict that reaches `stage.fail_on`."""

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of a run with this result."""
        return ExitCode.ALERT


@dataclass(frozen=True)
class Execution(Outcome):
    """Result of one run of a monitor over a window.

    Attributes:
        status: terminal status.
        failure_reason: reason of a failure or stop, or of a completed execution for the lack of a verdict; None
            otherwise.
    """

    status: Status = Status.COMPLETED
    failure_reason: str | None = None

    @classmethod
    def failed(cls, reason: str) -> Execution:
        """Return the result of a failed execution, with an empty message."""
        return cls("", succeeded=False, status=Status.FAILED, failure_reason=reason)

    @classmethod
    def stopped(cls, reason: str) -> Execution:
        """Return the result of a stopped execution, with an empty message."""
        return cls("", succeeded=False, status=Status.STOPPED, failure_reason=reason)


@dataclass(frozen=True)
class ExecutionState:
    """Status of an execution that has ended, and its drift level; `NONE` after a failure or without tests.

    Attributes:
        died: whether it failed because its process died.
        changed: names of the inputs that changed significantly, and kinds of changes of the model.

    >>> ExecutionState(Status.FAILED).has_verdict
    False
    >>> ExecutionState(Status.COMPLETED, Level.INSUFFICIENT_DATA).has_verdict
    False
    >>> ExecutionState(Status.COMPLETED_WITH_VIOLATIONS, Level.INSUFFICIENT_DATA).has_verdict
    True
    """

    status: Status
    level: Level = Level.NONE
    died: bool = False
    changed: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def has_verdict(self) -> bool:
        """Whether the execution reached a verdict about drift."""
        too_few = self == ExecutionState(Status.COMPLETED, Level.INSUFFICIENT_DATA)
        return self.status is not Status.FAILED and not too_few

    def reaches(self, level: Level) -> bool:
        """Return whether the verdict is at least as severe as a level; a violation of the nDCG rule is a violation.

        >>> ExecutionState(Status.COMPLETED_WITH_VIOLATIONS).reaches(Level.VIOLATION)
        True
        """
        return self.severity >= level.order

    @property
    def severity(self) -> int:
        """Order of the level, or that of a violation if the nDCG rule is violated."""
        return Level.VIOLATION.order if self.status is Status.COMPLETED_WITH_VIOLATIONS else self.level.order


def changed_names(changes: Iterable[Change]) -> frozenset[str]:
    """Return the names of changed inputs, and the kinds of changes of the model."""
    kinds = {ChangeKind.INPUT, ChangeKind.MODEL, ChangeKind.SERVING}
    return frozenset(each.name or each.kind for each in changes if each.kind in kinds)


@dataclass(frozen=True)
class HistoryPoint:
    """Summary of an earlier execution; the effects are those of the label with the largest attribution shift.

    Attributes:
        start, end: window, ISO 8601 in UTC.
        level: alert level.
        level_alone: level of the window alone.
        ndcg, threshold: lowest nDCG of the labels, and the nDCG threshold.
        attribution_shift, total_log2_change: effects, each with its 99th percentile under permutation (`_noise`).
        reference: SHA-256 of the reference's analysis.json.
        share_changes: changes of the attribution shares beyond chance, by feature.
        mean_score, mean_score_reference: mean score of the same label, live and in the reference.
        records: number of valid records.
    """

    start: str
    end: str
    status: Status
    level: Level
    level_alone: Level
    ndcg: float | None
    threshold: float | None
    attribution_shift: float | None
    attribution_shift_noise: float | None
    total_log2_change: float | None
    total_log2_change_noise: float | None
    reference: str | None
    share_changes: Mapping[str, float] = field(default_factory=dict)
    mean_score: float | None = None
    mean_score_reference: float | None = None
    records: int | None = None


EVERYONE = "*"
"""Name for all recipients of messages."""


@dataclass(frozen=True)
class AlertHistory:
    """Summary of the executions scheduled before another one.

    Attributes:
        last_verdict: state of the newest execution with a verdict, None without one.
        episode: states with a verdict before it, newest first, back to the last one without any drift.
        failing: whether an execution has failed since then, although its process did not die.
        died: whether the process of an execution has died since then.
        missed: histories of the recipients that messages did not reach, by name; they lack the executions of these
            messages.
    """

    last_verdict: ExecutionState | None = None
    failing: bool = False
    died: bool = False
    missed: Mapping[str, AlertHistory] = field(default_factory=dict)
    episode: tuple[ExecutionState, ...] = ()
    is_complete: bool = field(default=False, compare=False)

    @classmethod
    def from_executions(cls, executions: Iterable[tuple[ExecutionState, Collection[str]]]) -> AlertHistory:
        """Summarize executions, newest first, up to the newest one with a verdict and without drift.

        Args:
            executions: state of each execution, and names of the recipients that its message did not reach.
        """
        history, missed = cls(), dict[str, AlertHistory]()
        for state, unreached in executions:
            if EVERYONE in unreached:
                continue
            missed |= {name: history for name in unreached if name not in missed}
            missed |= {name: each.preceded_by(state) for name, each in missed.items() if name not in unreached}
            history = history.preceded_by(state)
            if all(each.is_complete for each in (history, *missed.values())):
                break
        return replace(history, missed=missed)

    def preceded_by(self, state: ExecutionState) -> AlertHistory:
        """Return the history with an earlier execution, which is ignored before the beginning of an episode."""
        if self.is_complete:
            return self
        if state.has_verdict:
            is_complete = not state.reaches(Level.INFO)
            if self.last_verdict is None:
                return replace(self, last_verdict=state, is_complete=is_complete)
            return replace(self, is_complete=True) if is_complete else replace(self, episode=(*self.episode, state))
        if self.last_verdict:
            return self
        failed = state.status is Status.FAILED
        return replace(self, failing=self.failing or (failed and not state.died), died=self.died or state.died)


@dataclass(frozen=True)
class Publication:
    """An execution that has ended, as sinks receive it.

    Attributes:
        monitor: name of the monitor.
        endpoint: name of the monitored endpoint.
        window: analyzed period.
        scheduled: scheduled time in UTC.
        status: terminal status.
        sentence: verdict or failure reason, for people.
        words: the same in parts: title, what changed, how much it matters, what to do.
        report: path or address of the report, empty without one.
        directory: directory of the results, None if nothing could be written.
        attributions: global attributions of the window, None after a failure or without data.
        ndcg: nDCG by label, for labels that the reference has.
        drift: result of the statistical tests, None after a failure, without data, or without a reference sample.
        history: summary of the executions scheduled before this one.
        died: whether the execution failed because its process died.
    """

    monitor: str
    endpoint: str
    window: Window
    scheduled: datetime
    status: Status
    sentence: str
    words: Verdict
    report: str
    directory: Path | None
    attributions: GlobalAttributions | None
    ndcg: dict[str, float]
    drift: DriftResult | None
    history: AlertHistory
    died: bool = False

    @property
    def level(self) -> Level:
        """Drift level, `NONE` after a failure or without tests; a window without data has too few records."""
        if self.drift:
            return self.drift.level
        is_empty = self.status is Status.COMPLETED and self.attributions is None
        return Level.INSUFFICIENT_DATA if is_empty else Level.NONE

    @property
    def state(self) -> ExecutionState:
        """Status, drift level and changes."""
        changes = self.drift.changes if self.drift else ()
        return ExecutionState(self.status, self.level, self.died, changed_names(changes))


METRICS = {
    "execution_status": "1 for the status of the last execution, 0 for all other statuses",
    "execution_scheduled_timestamp_seconds": "Scheduled time of the last execution, in seconds since 1970",
    "drift_level": "0 none, 1 too few records, 2 info, 3 warning, 4 violation",
    "label_drift_level": "Drift level of one model output",
    "input_level": "Highest level of the changes of inputs: 0 none, 2 info, 3 warning, 4 violation",
    "changed_inputs": "Number of inputs whose values changed significantly",
    "input_distance": "Distance between the live and the reference values of a changed input, 0 to 1",
    "ndcg": "Agreement of the feature ranking with the reference, 1 for the same order",
    "attribution_shift": "Total variation distance between the attribution shares and the reference's, 0 to 1",
    "largest_attribution_shift": "Largest attribution shift of all model outputs, 0 to 1",
    "total_log2_change": "Log2 fold change of the total attribution, 0 without change",
    "attribution": "Global SHAP value of a feature",
}
"""Help text of each published metric by name."""
