"""Reports the daemons of a ledger, and for each schedule the last and the next execution with a remark."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runner.domain.executions import Outcome, Status
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus
from runner.results import directory
from runner.scheduling.api_documents import as_json, execution_summary, reason_or_message, schedule_summary, table
from runner.scheduling.timetable import Recurring, load_if_known
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import DaemonRecord, Ledger

UNKNOWN_TIMETABLE = "a later version of shapwatch wrote its timetable: update the schedule, or run that version"
CLOCK_TOLERANCE = timedelta(minutes=2)
"""Maximum difference between the clocks of two machines without a remark."""


@dataclass(frozen=True)
class StatusStage:
    """`stage=status`; conf/stage/status.yaml describes the keys."""

    kind: Literal["status"]
    format: Literal["table", "json"]

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class LedgerStatus:
    """The status of the daemons and schedules of a ledger.

    Attributes:
        ledger: function that opens the ledger.
        lease: time without heartbeat after which a daemon is considered dead.
        clock: current time in UTC.
    """

    settings: StatusStage
    ledger: Callable[[], AbstractContextManager[Ledger]]
    lease: timedelta
    clock: Callable[[], datetime]

    def run(self) -> Outcome:
        """Return the status as a message.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        now = self.clock()
        with self.ledger() as ledger:
            known = ledger.daemons()
            leader = max(
                (daemon for daemon in known if daemon.leading), key=lambda daemon: daemon.heartbeat, default=None
            )
            daemons = [self._daemon(daemon, leader, now) for daemon in known]
            has_leader = any(daemon["State"] == "leading" for daemon in daemons)
            last = ledger.executions.last_by_schedule()
            schedules = [
                self._schedule(ledger, schedule, last.get(schedule.name), has_leader, now)
                for schedule in ledger.schedules.all()
            ]
            document = {"Ledger": ledger.name, "Time": now, "Daemons": daemons, "Schedules": schedules}
        return Outcome(as_json(document) if self.settings.format == "json" else _text(document))

    def _daemon(self, daemon: DaemonRecord, leader: DaemonRecord | None, now: datetime) -> dict[str, Any]:
        """Return a daemon with its state; a killed leader is silent until the end of its lease."""
        gone = abs(now - daemon.heartbeat) > self.lease
        state = "gone" if gone else "leading" if daemon is leader else "silent" if daemon.leading else "standby"
        since = {"Since": daemon.since, "LastHeard": daemon.heartbeat}
        return {"State": state, "Host": daemon.host, "Pid": daemon.pid, **since}

    def _schedule(
        self, ledger: Ledger, schedule: Schedule, last: ExecutionRecord | None, has_leader: bool, now: datetime
    ) -> dict[str, Any]:
        timetable = load_if_known(schedule.timetable)
        upcoming = None
        if schedule.status == ScheduleStatus.SCHEDULED and isinstance(timetable, Recurring):
            upcoming = timetable.next(max(now, schedule.cursor))
        return {
            **schedule_summary(schedule),
            "NextExecutionTime": upcoming,
            "NextExecutionLocalTime": upcoming and upcoming.astimezone(),
            "LastMonitoringExecutionSummary": execution_summary(last) if last else None,
            "Remark": self._remark(ledger, schedule, last, has_leader, now) if timetable else UNKNOWN_TIMETABLE,
        }

    def _remark(
        self, ledger: Ledger, schedule: Schedule, last: ExecutionRecord | None, has_leader: bool, now: datetime
    ) -> str | None:
        """Return the reason why no execution runs, or the failure of the last one; None if all is well."""
        if schedule.status == ScheduleStatus.STOPPED:
            return f"stopped; resume it with stage=schedule stage.action=start monitor.name={schedule.name}"
        if not has_leader:
            return "no daemon is leading; start one with stage=daemon on this ledger, it will catch up"
        if schedule.cursor > now + CLOCK_TOLERANCE:
            at = f"{schedule.cursor:%F %T} UTC"
            remedy = "stop and start the schedule to resume now"
            return f"the clock was set back: times up to {at} are already planned; {remedy}"
        if last is None:
            return None
        if last.status == Status.PENDING:
            return _reason_for_waiting(ledger, schedule, last, now)
        return reason_or_message(last) if last.status in {Status.FAILED, Status.STOPPED} else None


def _reason_for_waiting(ledger: Ledger, schedule: Schedule, execution: ExecutionRecord, now: datetime) -> str:
    if execution.start_at > now:
        reason = (
            "at the end of its window" if execution.window.end > execution.scheduled else "(schedule.buffer_minutes)"
        )
        return f"starts at {execution.start_at:%F %T} UTC {reason}"
    reference = Path(ledger.snapshot(execution.snapshot).folder) / schedule.reference
    if directory.is_being_written(reference):
        return f"waits for the baseline in {schedule.reference}, which is being computed"
    return "waits for earlier executions or a free worker (stage.workers of the daemon)"


def _text(document: dict[str, Any]) -> str:
    now = document["Time"]
    lines = [f"ledger {document['Ledger']}, {now:%F %T} UTC"]
    for daemon in document["Daemons"]:
        age = max(0, (now - daemon["LastHeard"]).total_seconds())
        process = f"process {daemon['Pid']} on {daemon['Host']}"
        lines.append(f"daemon {daemon['State']}: {process}, last heartbeat {age:.0f} s ago")
    if not document["Daemons"]:
        lines.append("no daemon: start one with stage=daemon")
    if not document["Schedules"]:
        return "\n".join([*lines, "no schedules: create one with stage=schedule stage.action=create"])
    rows = [_row(schedule) for schedule in document["Schedules"]]
    headers = ["SCHEDULE", "STATUS", "LAST (UTC)", "LAST STATUS", "NEXT (UTC)", "NEXT (LOCAL)", "REMARK"]
    return "\n".join([*lines, "", table(headers, rows)])


def _row(schedule: dict[str, Any]) -> list[object]:
    last = schedule["LastMonitoringExecutionSummary"] or {}
    upcoming = schedule["NextExecutionTime"]
    local = schedule["NextExecutionLocalTime"]
    return [
        schedule["MonitoringScheduleName"],
        schedule["MonitoringScheduleStatus"],
        last.get("ScheduledTime"),
        last.get("MonitoringExecutionStatus"),
        upcoming,
        f"{local:%F %T %Z}" if local else None,
        schedule["Remark"],
    ]
