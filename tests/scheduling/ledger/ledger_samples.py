"""Schedules and what they have due, made in one line, and processes that use a ledger."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from typing import Any

from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.scheduling.ledger.ledger import Ledger

BUSY = 5.0
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SETTINGS = Snapshot("monitor: {name: watch}\n", "/somewhere")
OTHERS = Snapshot("monitor: {name: watch, endpoint: other}\n", "/somewhere")

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["runner.scheduling.ledger.ledger", "runner.scheduling.ledger.leadership"])


def due(hours: int, **changes: Any) -> ScheduledTime:
    """Return what is due so many hours after noon."""
    at = NOON + hours * HOUR
    return replace(ScheduledTime(at, Window(at - HOUR, at), at), **changes)


def dues(*hours: int) -> list[ScheduledTime]:
    """Return what is due at some hours after noon."""
    return [due(hour) for hour in hours]


def schedule(name: str = "watch", **changes: Any) -> Schedule:
    """Return a schedule that was made at noon, with some things else."""
    present = Schedule(
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
    return replace(present, **changes)


def planned(ledger: Ledger, *hours: int, name: str = "watch") -> list[ExecutionRecord]:
    """Return the executions of a new schedule, all of them pending."""
    ledger.create(schedule(name), SETTINGS)
    entries = ledger.plan(schedule(name), dues(*hours), NOON)
    assert entries is not None
    return entries


def ended(
    ledger: Ledger, entry: ExecutionRecord, status: Status = Status.COMPLETED, owner: str = "us"
) -> ExecutionRecord:
    """Return an execution that was begun and has ended an hour after it was scheduled."""
    assert ledger.begin(entry.id, owner, entry.scheduled)
    at = entry.scheduled + HOUR
    assert ledger.settle(
        entry.id, owner, status, at, exit_message="done", failure_reason=None, output="out", peak_memory=2**31
    )
    return ledger.entry(entry.id)


@contextmanager
def processes(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> Iterator[list[BaseProcess]]:
    """Yield processes that do some work; none is left."""
    started: list[BaseProcess] = [forks.Process(target=work, args=one) for one in arguments]
    for process in started:
        process.start()
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()
