"""Creates, changes, shows, starts, stops and deletes schedules, with the semantics of SageMaker's API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from runner.agenda import Entry, Schedule, ScheduleStatus
from runner.descriptions import (
    as_json,
    execution_summary,
    happened,
    schedule_description,
    schedule_summary,
    table,
)
from runner.domain import Outcome, plural
from runner.supervision.declaration import Declaration
from runner.timing.timetable import Once, Timetable, dump, load

if TYPE_CHECKING:
    from runner.ledger.ledger import Ledger

Action = Literal["create", "update", "describe", "list", "start", "stop", "delete", "executions"]
Told = tuple[Any, str]
"""An answer as a document and as a text for people."""


@dataclass(frozen=True)
class Schedules:
    """What can be done with the schedules of a ledger.

    Attributes:
        ledger: opens it.
        declaration: what the settings declare; its name says which schedule is meant.
        running: whether stopping also ends the execution that is running.
        limit: of a list.
        clock: the time in UTC.
    """

    ledger: Callable[[], AbstractContextManager[Ledger]]
    action: Action
    form: Literal["table", "json"]
    declaration: Declaration
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

    @property
    def _name(self) -> str:
        return self.declaration.name

    def _create(self, ledger: Ledger) -> Told:
        schedule = self.declaration.create(ledger, self.clock())
        return self._changed(schedule, f"created in the ledger {ledger.name}: {self._ahead(schedule)}")

    def _update(self, ledger: Ledger) -> Told:
        schedule = self.declaration.update(ledger, self.clock())
        return self._changed(schedule, f"updated, revision {schedule.revision}: {self._ahead(schedule)}")

    def _ahead(self, schedule: Schedule) -> str:
        timetable, now = load(schedule.timetable), self.clock()
        if isinstance(timetable, Once):
            return f"one execution over {timetable.due(schedule.modified).window}, as soon as a daemon runs"
        first = timetable.next(now)
        return f"{timetable.expression}, next at {first:%F %H:%M} UTC" if first else f"{timetable.expression}, no more"

    def _changed(self, schedule: Schedule, what: str) -> Told:
        return schedule_summary(schedule), f"schedule {schedule.name} is {what}"

    def _describe(self, ledger: Ledger) -> Told:
        schedule, last = ledger.schedule(self._name), ledger.last(self._name)
        timetable = load(schedule.timetable)
        document = schedule_description(schedule, config(timetable), last)
        lines = [
            ("schedule", schedule.name),
            ("status", schedule.status),
            ("endpoint", schedule.endpoint),
            ("expression", timetable.expression),
            ("next", _next(schedule, timetable, self.clock())),
            ("reference", schedule.reference),
            ("created", f"{schedule.created:%F %T} UTC"),
            ("modified", f"{schedule.modified:%F %T} UTC, revision {schedule.revision}"),
            ("last execution", _told(last) if last else "none so far"),
        ]
        return document, "\n".join(f"{key:<15} {value}" for key, value in lines)

    def _list(self, ledger: Ledger) -> Told:
        schedules = ledger.schedules()
        now = self.clock()
        rows = [
            (one.name, one.status, load(one.timetable).expression, _next(one, load(one.timetable), now), one.endpoint)
            for one in schedules
        ]
        text = table(["SCHEDULE", "STATUS", "EXPRESSION", "NEXT (UTC)", "ENDPOINT"], rows)
        none = f"no schedules in the ledger {ledger.name}"
        return {"MonitoringScheduleSummaries": list(map(schedule_summary, schedules))}, text if schedules else none

    def _start(self, ledger: Ledger) -> Told:
        started = ledger.start(self._name, self.clock())
        schedule = ledger.schedule(self._name)
        how = "started" if started else f"{schedule.status} already"
        return self._changed(schedule, f"{how}: {self._ahead(schedule)}")

    def _stop(self, ledger: Ledger) -> Told:
        stopped = ledger.stop(self._name, self.clock())
        ended = ledger.ask_all_to_stop(self._name, self.clock()) if self.running else 0
        what = "stopped" if stopped else "Stopped already"
        under_way = len(ledger.running(self._name)) - ended
        what += f"; {plural(ended, 'running execution')} told to end" if ended else ""
        what += f"; {plural(under_way, 'running execution')} not touched" if under_way > 0 else ""
        return self._changed(ledger.schedule(self._name), what)

    def _delete(self, ledger: Ledger) -> Told:
        schedule = ledger.schedule(self._name)
        ledger.delete(self._name, self.clock())
        return self._changed(schedule, "deleted; its executions and their results stay")

    def _executions(self, ledger: Ledger) -> Told:
        entries = ledger.entries(self._name, newest=self.limit)
        if not entries:
            ledger.schedule(self._name)
        rows = [(entry.scheduled, entry.window, entry.status, entry.output, happened(entry)) for entry in entries]
        text = table(["SCHEDULED (UTC)", "WINDOW", "STATUS", "OUTPUT", "WHAT HAPPENED"], rows)
        none = f"schedule {self._name} has no execution so far"
        return {"MonitoringExecutionSummaries": list(map(execution_summary, entries))}, text if entries else none


def config(timetable: Timetable) -> dict[str, Any]:
    """Return a timetable as the API's `ScheduleConfig`."""
    values = orjson.loads(dump(timetable))
    found = {
        "ScheduleExpression": timetable.expression,
        "DataAnalysisStartTime": values.get("data_analysis_start") or values.get("start"),
        "DataAnalysisEndTime": values.get("data_analysis_end") or values.get("end"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _next(schedule: Schedule, timetable: Timetable, now: datetime) -> str | None:
    if schedule.status == ScheduleStatus.STOPPED or isinstance(timetable, Once):
        return None
    at = timetable.next(max(now, schedule.cursor))
    return f"{at:%F %H:%M}" if at else None


def _told(entry: Entry) -> str:
    return f"{entry.status}, scheduled {entry.scheduled:%F %T} UTC, {entry.window}: {happened(entry)}"
