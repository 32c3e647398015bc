"""Creates, updates, shows, starts, stops and deletes schedules, with the semantics of SageMaker's API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from annotated_types import Gt, Le

from runner.domain.executions import Outcome, Status
from runner.domain.numbers import Integer, plural
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus
from runner.scheduling.api_documents import (
    as_json,
    execution_summary,
    reason_or_message,
    schedule_description,
    schedule_summary,
    table,
)
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.timetable import Once, Recurring, Timetable, dump, load_if_known
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    from runner.scheduling.ledger import Ledger

Action = Literal["create", "update", "describe", "list", "start", "stop", "delete", "executions"]
Answer = tuple[Any, str]
"""JSON document, and text for a terminal."""


@dataclass(frozen=True)
class ScheduleStage:
    """`stage=schedule`; conf/stage/schedule.yaml describes the keys."""

    kind: Literal["schedule"]
    action: Action
    format: Literal["table", "json"]
    running: bool
    limit: Annotated[Integer, Gt(0), Le(100_000)]

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Schedules:
    """An operation on the schedules of a ledger.

    Attributes:
        ledger: function that opens the ledger.
        name: name of the schedule.
        declared: function that returns the declaration of the schedule in the settings.
        clock: function that returns the current time in UTC.
    """

    settings: ScheduleStage
    ledger: Callable[[], AbstractContextManager[Ledger]]
    name: str
    declared: Callable[[], Declaration]
    clock: Callable[[], datetime]

    def run(self) -> Outcome:
        """Run the operation and return its result as a message.

        Raises:
            UnknownSchedule, ScheduleExists, LedgerError: if the operation fails.
        """
        actions: dict[Action, Callable[[Ledger], Answer]] = {
            "create": self._create,
            "update": self._update,
            "describe": self._describe,
            "list": self._list,
            "start": self._start,
            "stop": self._stop,
            "delete": self._delete,
            "executions": self._executions,
        }
        with self.ledger() as ledger:
            document, text = actions[self.settings.action](ledger)
        return Outcome(as_json(document) if self.settings.format == "json" else text)

    def _create(self, ledger: Ledger) -> Answer:
        schedule = self.declared().create(ledger.schedules, self.clock())
        return self._changed(schedule, f"created in the ledger {ledger.name}: {self._upcoming(ledger, schedule)}")

    def _update(self, ledger: Ledger) -> Answer:
        schedule = self.declared().update(ledger.schedules, self.clock())
        return self._changed(schedule, f"updated, revision {schedule.revision}: {self._upcoming(ledger, schedule)}")

    def _upcoming(self, ledger: Ledger, schedule: Schedule) -> str:
        """Describe the next execution."""
        timetable, now = load_if_known(schedule.timetable), self.clock()
        if isinstance(timetable, Once):
            return self._once(ledger.executions.newest(schedule.name, statuses=[Status.PENDING], limit=1), now)
        at = _next(schedule, timetable, now)
        return f"{_expression(timetable)}, {f'next execution at {at} UTC' if at else 'no further executions'}"

    def _once(self, pending: list[ExecutionRecord], now: datetime) -> str:
        for execution in pending:
            when = f"at {execution.start_at:%F %T} UTC" if execution.start_at > now else "as soon as a daemon runs"
            return f"one execution over {execution.window}, {when}"
        return "no further executions"

    def _changed(self, schedule: Schedule, change: str) -> Answer:
        return schedule_summary(schedule), f"schedule {schedule.name} is {change}"

    def _describe(self, ledger: Ledger) -> Answer:
        schedule, last = ledger.schedules.get(self.name), ledger.executions.last(self.name)
        timetable = load_if_known(schedule.timetable)
        document = schedule_description(schedule, config(timetable), last)
        lines = [
            ("schedule", schedule.name),
            ("status", schedule.status),
            ("endpoint", schedule.endpoint),
            ("expression", _expression(timetable)),
            ("next", _next(schedule, timetable, self.clock())),
            ("reference", schedule.reference),
            ("created", f"{schedule.created:%F %T} UTC"),
            ("modified", f"{schedule.modified:%F %T} UTC, revision {schedule.revision}"),
            ("last execution", _execution_line(last) if last else "none"),
        ]
        return document, "\n".join(f"{key:<15} {value or '–'}" for key, value in lines)

    def _list(self, ledger: Ledger) -> Answer:
        schedules = ledger.schedules.all()
        now = self.clock()
        timetables = [load_if_known(schedule.timetable) for schedule in schedules]
        rows = [
            (schedule.name, schedule.status, _expression(timetable), _next(schedule, timetable, now), schedule.endpoint)
            for schedule, timetable in zip(schedules, timetables, strict=True)
        ]
        text = table(["SCHEDULE", "STATUS", "EXPRESSION", "NEXT (UTC)", "ENDPOINT"], rows)
        none = f"no schedules in the ledger {ledger.name}"
        return {"MonitoringScheduleSummaries": list(map(schedule_summary, schedules))}, text if schedules else none

    def _start(self, ledger: Ledger) -> Answer:
        started = ledger.schedules.start(self.name, self.clock())
        schedule = ledger.schedules.get(self.name)
        change = "started" if started else f"already {schedule.status}"
        return self._changed(schedule, f"{change}: {self._upcoming(ledger, schedule)}")

    def _stop(self, ledger: Ledger) -> Answer:
        stopped = ledger.schedules.stop(self.name, self.clock())
        ended = ledger.executions.request_stop_of_all(self.name, self.clock()) if self.settings.running else 0
        change = "stopped" if stopped else "already Stopped"
        running = sum(execution.status == Status.IN_PROGRESS for execution in ledger.executions.running(self.name))
        change += f"; stopping {plural(ended, 'running execution')}" if ended else ""
        change += f"; {plural(running, 'execution')} still running" if running else ""
        return self._changed(ledger.schedules.get(self.name), change)

    def _delete(self, ledger: Ledger) -> Answer:
        schedule = ledger.schedules.get(self.name)
        ledger.schedules.delete(self.name, self.clock())
        return self._changed(schedule, "deleted; its executions and their results remain")

    def _executions(self, ledger: Ledger) -> Answer:
        executions = ledger.executions.newest(self.name, limit=self.settings.limit)
        if not executions:
            ledger.schedules.get(self.name)
        rows = [
            (execution.scheduled, execution.window, execution.status, execution.output, reason_or_message(execution))
            for execution in executions
        ]
        text = table(["SCHEDULED (UTC)", "WINDOW", "STATUS", "OUTPUT", "MESSAGE"], rows)
        none = f"schedule {self.name} has no executions"
        return {"MonitoringExecutionSummaries": list(map(execution_summary, executions))}, text if executions else none


def config(timetable: Timetable | None) -> dict[str, object]:
    """Return a timetable as the API's `ScheduleConfig`."""
    if timetable is None:
        return {}
    values = orjson.loads(dump(timetable))
    document = {
        "ScheduleExpression": timetable.expression,
        "DataAnalysisStartTime": values.get("data_analysis_start") or values.get("start"),
        "DataAnalysisEndTime": values.get("data_analysis_end") or values.get("end"),
    }
    return {key: value for key, value in document.items() if value is not None}


def _expression(timetable: Timetable | None) -> str:
    return timetable.expression if timetable else "unknown (written by a later version)"


def _next(schedule: Schedule, timetable: Timetable | None, now: datetime) -> str | None:
    if schedule.status == ScheduleStatus.STOPPED or not isinstance(timetable, Recurring):
        return None
    at = timetable.next(max(now, schedule.cursor))
    return f"{at:%F %H:%M}" if at else None


def _execution_line(execution: ExecutionRecord) -> str:
    return f"scheduled {execution.scheduled:%F %T} UTC: {execution.summary}"
