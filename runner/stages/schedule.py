"""Creates, changes, shows, starts, stops and deletes schedules, with the semantics of SageMaker's API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from runner.domain.executions import Outcome, Status
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus
from runner.domain.text import plural
from runner.scheduling.api_documents import (
    as_json,
    execution_summary,
    happened,
    schedule_description,
    schedule_summary,
    table,
)
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.timetable import Once, Recurring, Timetable, dump, understood

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import Ledger

Action = Literal["create", "update", "describe", "list", "start", "stop", "delete", "executions"]
Told = tuple[Any, str]
"""An answer as a document and as a text for people."""


@dataclass(frozen=True)
class Schedules:
    """What can be done with the schedules of a ledger.

    Attributes:
        ledger: opens it.
        name: of the schedule that is meant.
        declared: gives what the settings declare.
        running: whether stopping also ends the execution that is running.
        limit: of a list.
        clock: the time in UTC.
    """

    ledger: Callable[[], AbstractContextManager[Ledger]]
    action: Action
    form: Literal["table", "json"]
    name: str
    declared: Callable[[], Declaration]
    running: bool
    limit: int
    clock: Callable[[], datetime]

    def run(self) -> Outcome:
        """Do it and return what there is to tell.

        Raises:
            UnknownSchedule, ScheduleExists, LedgerError: when it cannot be done.
        """
        actions: dict[Action, Callable[[Ledger], Told]] = {
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
            document, text = actions[self.action](ledger)
        return Outcome(as_json(document) if self.form == "json" else text)

    def _create(self, ledger: Ledger) -> Told:
        schedule = self.declared().create(ledger, self.clock())
        return self._changed(schedule, f"created in the ledger {ledger.name}: {self._ahead(ledger, schedule)}")

    def _update(self, ledger: Ledger) -> Told:
        schedule = self.declared().update(ledger, self.clock())
        return self._changed(schedule, f"updated, revision {schedule.revision}: {self._ahead(ledger, schedule)}")

    def _ahead(self, ledger: Ledger, schedule: Schedule) -> str:
        """Return what there is to come."""
        timetable, now = understood(schedule.timetable), self.clock()
        if isinstance(timetable, Once):
            return self._once(ledger.entries(schedule.name, statuses=[Status.PENDING], newest=1), now)
        at = _next(schedule, timetable, now)
        return f"{_expression(timetable)}, {f'next at {at} UTC' if at else 'nothing to come'}"

    def _once(self, pending: list[ExecutionRecord], now: datetime) -> str:
        for entry in pending:
            when = f"at {entry.start_at:%F %T} UTC" if entry.start_at > now else "as soon as a daemon runs"
            return f"one execution over {entry.window}, {when}"
        return "nothing to come"

    def _changed(self, schedule: Schedule, what: str) -> Told:
        return schedule_summary(schedule), f"schedule {schedule.name} is {what}"

    def _describe(self, ledger: Ledger) -> Told:
        schedule, last = ledger.schedule(self.name), ledger.last(self.name)
        timetable = understood(schedule.timetable)
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
            ("last execution", _told(last) if last else "none so far"),
        ]
        return document, "\n".join(f"{key:<15} {value or '–'}" for key, value in lines)

    def _list(self, ledger: Ledger) -> Told:
        schedules = ledger.schedules()
        now = self.clock()
        timetables = [understood(one.timetable) for one in schedules]
        rows = [
            (one.name, one.status, _expression(timetable), _next(one, timetable, now), one.endpoint)
            for one, timetable in zip(schedules, timetables, strict=True)
        ]
        text = table(["SCHEDULE", "STATUS", "EXPRESSION", "NEXT (UTC)", "ENDPOINT"], rows)
        none = f"no schedules in the ledger {ledger.name}"
        return {"MonitoringScheduleSummaries": list(map(schedule_summary, schedules))}, text if schedules else none

    def _start(self, ledger: Ledger) -> Told:
        started = ledger.start(self.name, self.clock())
        schedule = ledger.schedule(self.name)
        how = "started" if started else f"{schedule.status} already"
        return self._changed(schedule, f"{how}: {self._ahead(ledger, schedule)}")

    def _stop(self, ledger: Ledger) -> Told:
        stopped = ledger.stop(self.name, self.clock())
        ended = ledger.ask_all_to_stop(self.name, self.clock()) if self.running else 0
        what = "stopped" if stopped else "Stopped already"
        under_way = sum(entry.status == Status.IN_PROGRESS for entry in ledger.running(self.name))
        what += f"; {plural(ended, 'running execution')} told to end" if ended else ""
        what += f"; {plural(under_way, 'running execution')} not touched" if under_way else ""
        return self._changed(ledger.schedule(self.name), what)

    def _delete(self, ledger: Ledger) -> Told:
        schedule = ledger.schedule(self.name)
        ledger.delete(self.name, self.clock())
        return self._changed(schedule, "deleted; its executions and their results stay")

    def _executions(self, ledger: Ledger) -> Told:
        entries = ledger.entries(self.name, newest=self.limit)
        if not entries:
            ledger.schedule(self.name)
        rows = [(entry.scheduled, entry.window, entry.status, entry.output, happened(entry)) for entry in entries]
        text = table(["SCHEDULED (UTC)", "WINDOW", "STATUS", "OUTPUT", "WHAT HAPPENED"], rows)
        none = f"schedule {self.name} has no execution so far"
        return {"MonitoringExecutionSummaries": list(map(execution_summary, entries))}, text if entries else none


def config(timetable: Timetable | None) -> dict[str, Any]:
    """Return a timetable as the API's `ScheduleConfig`."""
    if timetable is None:
        return {}
    values = orjson.loads(dump(timetable))
    found = {
        "ScheduleExpression": timetable.expression,
        "DataAnalysisStartTime": values.get("data_analysis_start") or values.get("start"),
        "DataAnalysisEndTime": values.get("data_analysis_end") or values.get("end"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _expression(timetable: Timetable | None) -> str:
    return timetable.expression if timetable else "of a later version"


def _next(schedule: Schedule, timetable: Timetable | None, now: datetime) -> str | None:
    if schedule.status == ScheduleStatus.STOPPED or not isinstance(timetable, Recurring):
        return None
    at = timetable.next(max(now, schedule.cursor))
    return f"{at:%F %H:%M}" if at else None


def _told(entry: ExecutionRecord) -> str:
    return f"scheduled {entry.scheduled:%F %T} UTC: {entry.told}"
