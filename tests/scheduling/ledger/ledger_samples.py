"""Schedules, scheduled times and executions for tests of the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from runner.domain.executions import HOUR, Execution, Status, Window
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.scheduling.ledger import Ledger

BUSY = 5.0
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SETTINGS = Snapshot("monitor: {name: watch}\n", "/somewhere")
OTHER_SETTINGS = Snapshot("monitor: {name: watch, endpoint: other}\n", "/somewhere")


def scheduled_time(hours: int, **changes: Any) -> ScheduledTime:
    """Return a scheduled time some hours after noon."""
    at = NOON + hours * HOUR
    return replace(ScheduledTime(at, Window(at - HOUR, at), at), **changes)


def scheduled_times(*hours: int) -> list[ScheduledTime]:
    """Return scheduled times some hours after noon."""
    return [scheduled_time(hour) for hour in hours]


def schedule(name: str = "watch", **changes: Any) -> Schedule:
    """Return a schedule created at noon, with changed fields."""
    watch = Schedule(
        name=name,
        endpoint="adult",
        status=ScheduleStatus.SCHEDULED,
        timetable='{"kind": "cron"}',
        reference="output/baseline",
        max_runtime=3600,
        snapshot=SETTINGS.digest,
        created=NOON,
        modified=NOON,
        cursor=NOON,
    )
    return replace(watch, **changes)


def planned(ledger: Ledger, *hours: int, name: str = "watch") -> list[ExecutionRecord]:
    """Create a schedule and return its executions, all pending."""
    ledger.schedules.create(schedule(name), SETTINGS)
    executions = ledger.schedules.plan(schedule(name), scheduled_times(*hours), NOON)
    assert executions is not None
    return executions


def finished(
    ledger: Ledger, execution: ExecutionRecord, status: Status = Status.COMPLETED, owner: str = "a"
) -> ExecutionRecord:
    """Run an execution that ends an hour after its scheduled time."""
    claim = ledger.executions.claim(execution.id, owner, execution.scheduled)
    assert claim
    result = Execution("done", status=status, directory="out")
    assert ledger.executions.finish(claim, result, execution.scheduled + HOUR, 2**31)
    return ledger.executions.get(execution.id)
