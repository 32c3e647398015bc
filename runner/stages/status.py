"""Reports the daemons of a ledger, and for each schedule the last and the next execution with a remark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.domain.executions import Outcome, Status, Window, day_and_time, utc
from runner.domain.numbers import plural
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus, first_line
from runner.report import context
from runner.report.health import Mark
from runner.results import directory
from runner.results.manifest_file import read_manifest
from runner.scheduling.api_documents import as_json, execution_summary, reason_or_message, schedule_summary, table
from runner.scheduling.timetable import Recurring, load_if_known
from runner.stages.terminal import SYMBOLS, marked
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    from runner.scheduling.ledger import DaemonRecord, Ledger

UNKNOWN_TIMETABLE = (
    "its timetable was written by a later version of shapwatch: update the schedule, or run that version"
)
ENDED = (Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS, Status.FAILED)
"""Statuses of executions that ended and were not stopped."""
RECENT = 24
"""Maximum number of latest executions of a schedule that are divided into episodes."""
MOST_URGENT = 5
"""Maximum number of schedules whose episodes are listed."""
MOST_CALM = 3
"""Maximum number of schedules without drift that have lines of their own."""
CLOCK_TOLERANCE = timedelta(minutes=2)
"""Maximum difference between the clocks of two machines that causes no remark."""


@dataclass(frozen=True)
class StatusStage:
    """`stage=status`; conf/stage/status.yaml describes the keys."""

    kind: Literal["status"]
    format: Literal["table", "json"]

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class DaemonStatus:
    """A daemon and its state: `leading`, `standby`, `silent` or `gone`."""

    state: str
    daemon: DaemonRecord


@dataclass(frozen=True)
class LastVerdict:
    """Verdict of an execution.

    Attributes:
        mark: mark of the level.
        title: title; empty after a failure.
        since: start of the change; empty without a change.
        action: what to do.
        story: level and change; executions with the same ones are equal.
    """

    mark: Mark
    title: str = ""
    since: str = ""
    action: str = ""
    story: str = ""


def last_verdict(execution: ExecutionRecord | None) -> LastVerdict | None:
    """Return the verdict of an execution from its directory; None without one."""
    if execution is None:
        return None
    if execution.status is Status.FAILED:
        return LastVerdict(Mark.FAILED, story=Mark.FAILED)
    with suppress(ValueError):
        if execution.output and (manifest := read_manifest(Path(execution.output))):
            mark, words, _ = context.summary(manifest)
            changes = manifest.comparison.changes if manifest.comparison else ()
            start = day_and_time(utc(changes[0].since)) if changes else ""
            change = f"{changes[0].kind} {changes[0].name}" if changes and mark is not Mark.NONE else ""
            return LastVerdict(mark, words.title, start, words.action, f"{mark} {change}")
    return None


@dataclass(frozen=True)
class ScheduleReport:
    """A schedule with its executions.

    Attributes:
        last: execution with the latest scheduled time; None before the first one.
        upcoming: next scheduled time; None without one.
        remark: reason why no execution runs, or the failure of the last one; None without a problem.
        verdict: verdict of the last execution that has ended; None if its result cannot be read.
    """

    schedule: Schedule
    last: ExecutionRecord | None
    upcoming: datetime | None
    remark: str | None
    verdict: LastVerdict | None

    @property
    def order(self) -> tuple[int, str]:
        """Key for sorting: the most urgent level first, then the name."""
        marks = list(SYMBOLS)
        return marks.index(self.verdict.mark) if self.verdict else len(marks), self.schedule.name

    @property
    def is_calm(self) -> bool:
        """Whether it has a verdict without drift, and no remark."""
        return self.remark is None and self.verdict is not None and self.verdict.mark is Mark.NONE


@dataclass(frozen=True)
class ScheduleEpisode:
    """Consecutive executions of a schedule with the same level and change.

    Attributes:
        words: title of the newest one, or the reason of its failure; empty without a change.
    """

    schedule: str
    period: Window
    mark: Mark
    executions: int
    words: str


@dataclass(frozen=True)
class LedgerReport:
    """Daemons and schedules of a ledger at one point in time.

    Attributes:
        schedules: schedules, the most urgent first.
        episodes: latest episodes of the most urgent schedules, newest first.
    """

    ledger: str
    time: datetime
    daemons: Sequence[DaemonStatus]
    schedules: Sequence[ScheduleReport]
    episodes: Sequence[ScheduleEpisode]


@dataclass(frozen=True)
class LedgerStatus:
    """The status of the daemons and schedules of a ledger.

    Attributes:
        ledger: function that opens the ledger.
        lease_seconds: seconds without heartbeat after which a daemon is `gone`.
        clock: function that returns the current time in UTC.
    """

    settings: StatusStage
    ledger: Callable[[], AbstractContextManager[Ledger]]
    lease_seconds: float
    clock: Callable[[], datetime]

    def run(self) -> Outcome:
        """Return the status as a message.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        now = self.clock()
        with self.ledger() as ledger:
            daemons = self._daemons(ledger.daemons(), now)
            problem = self._leader_problem(daemons, now)
            last = ledger.executions.last_by_schedule()
            ended = ledger.executions.last_by_schedule(ENDED)
            schedules = [
                self._schedule(ledger, schedule, last.get(schedule.name), ended.get(schedule.name), problem, now)
                for schedule in ledger.schedules.all()
            ]
            ordered = sorted(schedules, key=lambda each: each.order)
            urgent = [each for each in ordered if not each.is_calm][:MOST_URGENT] or ordered[:1]
            newest = [ledger.executions.newest(each.schedule.name, statuses=ENDED, limit=RECENT) for each in urgent]
            episodes = [episode for several in newest if len(several) > 1 for episode in _episodes(several)]
            report = LedgerReport(ledger.name, now, daemons, ordered, episodes)
        return Outcome(as_json(_document(report)) if self.settings.format == "json" else _text(report))

    def _daemons(self, daemons: Sequence[DaemonRecord], now: datetime) -> list[DaemonStatus]:
        """Return the daemons with their states.

        If the ledger lists several leaders, only the leader with the newest heartbeat is `leading`. Another leader,
        for example a killed one, is `silent` until its lease ends. A daemon without heartbeat for a lease is `gone`.
        """
        leader = max(
            (daemon for daemon in daemons if daemon.leading), key=lambda daemon: daemon.heartbeat, default=None
        )
        statuses = []
        for daemon in daemons:
            gone = abs(now - daemon.heartbeat) > timedelta(seconds=self.lease_seconds)
            state = "gone" if gone else "leading" if daemon is leader else "silent" if daemon.leading else "standby"
            statuses.append(DaemonStatus(state, daemon))
        return statuses

    def _leader_problem(self, daemons: Sequence[DaemonStatus], now: datetime) -> str | None:
        """Return what helps if no daemon is leading."""
        states = {status.state: status.daemon for status in daemons[::-1]}
        if "leading" in states:
            return None
        if "standby" in states:
            return f"no daemon is leading; a standby takes over within {self.lease_seconds:g} s (ledger.lease_seconds)"
        suspended = next((status.daemon for status in daemons if status.daemon.leading), None)
        if suspended is None:
            return "no daemon is leading; start one with stage=daemon on this ledger, it will catch up"
        silent = f"the leader, process {suspended.pid} on {suspended.host}, has been silent"
        seconds = abs(now - suspended.heartbeat).total_seconds()
        remedy = f"continue it with kill -CONT {suspended.pid} if it is suspended, or start another with stage=daemon"
        return f"{silent} for {seconds:,.0f} s; {remedy} on this ledger, it will catch up"

    def _schedule(
        self,
        ledger: Ledger,
        schedule: Schedule,
        last: ExecutionRecord | None,
        ended: ExecutionRecord | None,
        problem: str | None,
        now: datetime,
    ) -> ScheduleReport:
        timetable = load_if_known(schedule.timetable)
        upcoming = None
        if schedule.status == ScheduleStatus.SCHEDULED and isinstance(timetable, Recurring):
            upcoming = timetable.next(max(now, schedule.cursor))
        remark = self._remark(ledger, schedule, last, problem, now) if timetable else UNKNOWN_TIMETABLE
        return ScheduleReport(schedule, last, upcoming, remark, last_verdict(ended))

    def _remark(
        self, ledger: Ledger, schedule: Schedule, last: ExecutionRecord | None, problem: str | None, now: datetime
    ) -> str | None:
        """Return the reason why no execution runs, or the failure of the last one; None without a problem."""
        if schedule.status == ScheduleStatus.STOPPED:
            return f"stopped; resume it with stage=schedule stage.action=start monitor.name={schedule.name}"
        if problem:
            return problem
        if schedule.cursor > now + CLOCK_TOLERANCE:
            at = f"{schedule.cursor:%F %T} UTC"
            remedy = "stop and start the schedule to resume now"
            return f"the clock was set back: times up to {at} are already planned; {remedy}"
        if last is None:
            return None
        if last.status == Status.PENDING:
            return _reason_for_waiting(ledger, schedule, last, now)
        return reason_or_message(last) if last.status in {Status.FAILED, Status.STOPPED} else None


def _episodes(executions: Sequence[ExecutionRecord]) -> Iterator[ScheduleEpisode]:
    """Yield the episodes of executions of a schedule, newest first; executions without a readable result are left out.

    An execution whose result only the ledger contains has no verdict.
    """
    verdicts = [(execution, verdict) for execution in executions if (verdict := last_verdict(execution))]
    for _, group in groupby(verdicts, key=lambda pair: pair[1].story):
        equal = list(group)
        (newest, verdict), windows = equal[0], [execution.window for execution, _ in equal]
        period = Window(min(each.start for each in windows), max(each.end for each in windows))
        words = verdict.title if verdict.mark.is_alert else ""
        words = first_line(newest.failure_reason or "") if verdict.mark is Mark.FAILED else words
        yield ScheduleEpisode(newest.schedule, period, verdict.mark, len(equal), words)


def _reason_for_waiting(ledger: Ledger, schedule: Schedule, execution: ExecutionRecord, now: datetime) -> str:
    if execution.start_at > now:
        reason = (
            "at the end of its window" if execution.window.end > execution.scheduled else "(schedule.buffer_minutes)"
        )
        return f"starts at {execution.start_at:%F %T} UTC {reason}"
    reference = directory.reference_path(Path(schedule.reference), execution.window)
    if directory.is_being_written(Path(ledger.snapshot(execution.snapshot).folder) / reference):
        return f"waits for the baseline in {reference}, which is being computed"
    return "waits for earlier executions or a free worker (stage.workers of the daemon)"


def _document(report: LedgerReport) -> dict[str, object]:
    """Return the report as a JSON object, with the field names of SageMaker's API."""
    daemons = [
        {
            "State": status.state,
            "Host": status.daemon.host,
            "Pid": status.daemon.pid,
            "Since": status.daemon.since,
            "LastHeard": status.daemon.heartbeat,
        }
        for status in report.daemons
    ]
    schedules = [
        {
            **schedule_summary(each.schedule),
            "NextExecutionTime": each.upcoming,
            "NextExecutionLocalTime": each.upcoming and each.upcoming.astimezone(),
            "LastMonitoringExecutionSummary": execution_summary(each.last) if each.last else None,
            "Verdict": each.verdict
            and {"Level": each.verdict.mark.words, "Title": each.verdict.title, "Since": each.verdict.since or None},
            "Remark": each.remark,
        }
        for each in report.schedules
    ]
    return {"Ledger": report.ledger, "Time": report.time, "Daemons": daemons, "Schedules": schedules}


def _text(report: LedgerReport) -> str:
    lines = [f"ledger {report.ledger}, {report.time:%F %T} UTC"]
    for status in report.daemons:
        age = (report.time - status.daemon.heartbeat).total_seconds()
        heartbeat = f"{age:.0f} s ago" if age >= 0 else f"{-age:.0f} s in the future (check the clocks)"
        process = f"process {status.daemon.pid} on {status.daemon.host}"
        lines.append(f"daemon {status.state}: {process}, last heartbeat {heartbeat}")
    if not report.daemons:
        lines.append("no daemon: start one with stage=daemon")
    if not report.schedules:
        return "\n".join([*lines, "no schedules: create one with stage=schedule stage.action=create"])
    counts = Counter(each.verdict.mark for each in report.schedules if each.verdict)
    marks = [f"{SYMBOLS[mark]} {counts[mark]} {mark.words.lower()}" for mark in SYMBOLS if counts[mark]]
    lines += ["", "  ".join([plural(len(report.schedules), "monitor"), *marks])]
    calm = [each for each in report.schedules if each.is_calm]
    folded = calm if len(calm) > MOST_CALM else []
    if shown := [each for each in report.schedules if each not in folded]:
        headers = ["LEVEL", "SCHEDULE", "LAST (UTC)", "NEXT (UTC)", "REMARK"]
        lines += ["", table(headers, list(map(_row, shown)))]
    if folded:
        upcoming = min((each.upcoming for each in folded if each.upcoming), default=None)
        following = f", next execution at {upcoming:%F %T} UTC" if upcoming else ""
        lines += [f"{marked(Mark.NONE)}: {plural(len(folded), 'monitor')}{following} (stage.format=json lists all)"]
    if report.episodes:
        headers = ["WINDOWS", "LEVEL", "EXECUTIONS", "SCHEDULE", "WHAT CHANGED"]
        lines += ["", table(headers, [_episode_row(each) for each in report.episodes])]
    return "\n".join(lines)


def _episode_row(episode: ScheduleEpisode) -> list[object]:
    return [episode.period, marked(episode.mark), episode.executions, episode.schedule, episode.words or None]


def _row(report: ScheduleReport) -> list[object]:
    """Return the cells of a schedule; the remark is the problem, or the change that raised an alert."""
    last, verdict, change = report.last, report.verdict, None
    if verdict and verdict.mark.is_alert:
        change = " ".join(f"{verdict.title}, since {verdict.since}".split() if verdict.since else verdict.title.split())
    return [
        marked(verdict.mark) if verdict else None,
        report.schedule.name,
        _last(last, is_known=verdict is not None) if last else None,
        _next(report),
        "; ".join(each for each in (change, report.remark) if each) or None,
    ]


def _last(execution: ExecutionRecord, is_known: bool) -> str:
    """Return the scheduled time of an execution, and its status unless the level says the same."""
    status = "" if is_known and execution.status in ENDED else f" {execution.status}"
    return f"{execution.scheduled:%F %H:%M}{status}"


def _next(report: ScheduleReport) -> str | None:
    """Return the next scheduled time, with the local time if it differs; the status of a stopped schedule."""
    if report.upcoming is None:
        return report.schedule.status if report.schedule.status is ScheduleStatus.STOPPED else None
    local = report.upcoming.astimezone()
    return f"{report.upcoming:%F %H:%M}" + (f" ({local:%H:%M %Z})" if local.utcoffset() else "")
