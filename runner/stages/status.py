"""Says whether a daemon is alive, what each schedule did last and does next, and why nothing ran."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runner.domain.executions import Outcome, Status
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus
from runner.results import directories
from runner.scheduling.api_documents import as_json, execution_summary, happened, schedule_summary, table
from runner.scheduling.timetable import Recurring, understood

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import Daemon, Ledger

LATER = "its timetable is one of a later version of shapwatch: update the schedule, or run that version"
SLACK = timedelta(minutes=2)
"""How far the clocks of machines may differ before somebody is told."""


@dataclass(frozen=True)
class State:
    """The state of the daemons and schedules of a ledger.

    Attributes:
        ledger: opens it.
        form: how it is told.
        lease: a daemon that was not heard for so long is gone.
        clock: the time in UTC.
    """

    ledger: Callable[[], AbstractContextManager[Ledger]]
    form: Literal["table", "json"]
    lease: timedelta
    clock: Callable[[], datetime]

    def run(self) -> Outcome:
        """Return it.

        Raises:
            LedgerError: when the ledger does not answer.
        """
        now = self.clock()
        with self.ledger() as ledger:
            heard = ledger.daemons()
            leader = max((one for one in heard if one.leading), key=lambda one: one.heartbeat, default=None)
            daemons = [self._daemon(one, leader, now) for one in heard]
            led = any(one["State"] == "leading" for one in daemons)
            lasts = ledger.last_of_each()
            schedules = [self._schedule(ledger, one, lasts.get(one.name), led, now) for one in ledger.schedules()]
            found = {"Ledger": ledger.name, "Time": now, "Daemons": daemons, "Schedules": schedules}
        return Outcome(as_json(found) if self.form == "json" else _text(found))

    def _daemon(self, daemon: Daemon, leader: Daemon | None, now: datetime) -> dict[str, Any]:
        """Return a daemon; a leader that was killed is silent from when the next one leads until its lease is over."""
        gone = abs(now - daemon.heartbeat) > self.lease
        state = "gone" if gone else "leading" if daemon is leader else "silent" if daemon.leading else "standby"
        since = {"Since": daemon.since, "LastHeard": daemon.heartbeat}
        return {"State": state, "Host": daemon.host, "Pid": daemon.pid, **since}

    def _schedule(
        self, ledger: Ledger, schedule: Schedule, last: ExecutionRecord | None, led: bool, now: datetime
    ) -> dict[str, Any]:
        timetable = understood(schedule.timetable)
        upcoming = None
        if schedule.status == ScheduleStatus.SCHEDULED and isinstance(timetable, Recurring):
            upcoming = timetable.next(max(now, schedule.cursor))
        return {
            **schedule_summary(schedule),
            "NextExecutionTime": upcoming,
            "NextExecutionLocalTime": upcoming and upcoming.astimezone(),
            "LastMonitoringExecutionSummary": execution_summary(last) if last else None,
            "Remark": self._remark(ledger, schedule, last, led, now) if timetable else LATER,
        }

    def _remark(
        self, ledger: Ledger, schedule: Schedule, last: ExecutionRecord | None, led: bool, now: datetime
    ) -> str | None:
        """Return why nothing runs, or what went wrong, in a sentence."""
        if schedule.status == ScheduleStatus.STOPPED:
            return f"stopped: stage=schedule stage.action=start monitor.name={schedule.name} goes on with it"
        if not led:
            return "no daemon leads: start one with stage=daemon on this ledger; it makes up for what was missed"
        if schedule.cursor > now + SLACK:
            at = f"{schedule.cursor:%F %T} UTC"
            return f"the clock was set back: times up to {at} were dealt with; stop and start the schedule to go on now"
        if last is None:
            return None
        if last.status == Status.PENDING:
            return _waits(ledger, schedule, last, now)
        return happened(last) if last.status in {Status.FAILED, Status.STOPPED} else None


def _waits(ledger: Ledger, schedule: Schedule, entry: ExecutionRecord, now: datetime) -> str:
    """Return what a pending execution waits for."""
    if entry.start_at > now:
        why = "when its window is over" if entry.window.end > entry.scheduled else "(schedule.buffer_minutes)"
        return f"starts at {entry.start_at:%F %T} UTC {why}"
    reference = Path(ledger.snapshot(entry.snapshot).folder) / schedule.reference
    if directories.is_being_written(reference):
        return f"waits for the baseline that is being computed in {schedule.reference}"
    return "waits for the executions before it, or for a free worker (stage.workers of the daemon)"


def _text(found: dict[str, Any]) -> str:
    now = found["Time"]
    lines = [f"ledger {found['Ledger']}, {now:%F %T} UTC"]
    for one in found["Daemons"]:
        heard = max(0, (now - one["LastHeard"]).total_seconds())
        lines.append(f"daemon {one['State']}: process {one['Pid']} on {one['Host']}, last heard {heard:.0f} s ago")
    if not found["Daemons"]:
        lines.append("no daemon: start one with stage=daemon")
    if not found["Schedules"]:
        return "\n".join([*lines, "no schedules: create one with stage=schedule stage.action=create"])
    rows = [_row(one) for one in found["Schedules"]]
    headers = ["SCHEDULE", "STATUS", "LAST (UTC)", "ENDED AS", "NEXT (UTC)", "NEXT (LOCAL)", "REMARK"]
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
