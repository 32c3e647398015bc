"""Declarations create and update schedules in the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import ScheduleStatus, Snapshot
from runner.errors import ScheduleExists, UnknownSchedule
from runner.scheduling.daemon.declaration import Declaration, due_at_creation
from runner.scheduling.timetable import Timetable, dump, load
from tests.scheduling.daemon.bench import SETTINGS, Bench, declaration, hourly
from tests.scheduling.ledger.ledger_samples import NOON

LATER = NOON + timedelta(minutes=30)
OTHER_SETTINGS = Snapshot("monitor: {name: watch, endpoint: other}\n", "/")


def once(**changes: str) -> Timetable:
    """Return a timetable with one execution, by default over the previous hour."""
    window = changes or {"data_analysis_start": "-PT1H", "data_analysis_end": "PT0S"}
    keys = ("start", "end", "data_analysis_start", "data_analysis_end")
    values = {"kind": "once", "expression": "NOW", "max_runtime": 60, **dict.fromkeys(keys), **window}
    return load(orjson.dumps(values).decode())


def changed(**changes: object) -> Declaration:
    """Return a declaration with changed fields."""
    return replace(declaration(), **changes)  # type: ignore[arg-type]


def test_a_declaration_creates_a_schedule(bench: Bench) -> None:
    """The schedule has the declared fields and snapshot, starts now, and has no execution yet."""
    schedule = declaration(max_runtime=77).create(bench.ledger.schedules, LATER)
    assert schedule == bench.ledger.schedules.get("watch")
    assert (schedule.name, schedule.endpoint, schedule.reference) == ("watch", "e", "reference")
    assert (schedule.status, schedule.revision, schedule.max_runtime) == (ScheduleStatus.SCHEDULED, 1, 77)
    assert {schedule.created, schedule.modified, schedule.cursor} == {LATER}
    assert load(schedule.timetable) == hourly(max_runtime=77)
    assert bench.ledger.snapshot(schedule.snapshot) == SETTINGS
    assert bench.ledger.executions.newest() == []


def test_creating_an_existing_schedule_is_refused(bench: Bench) -> None:
    """No execution is added."""
    bench.create()
    with pytest.raises(ScheduleExists):
        changed(timetable=once()).create(bench.ledger.schedules, LATER)
    assert bench.ledger.executions.newest() == []


def test_a_single_execution_is_pending_after_creation(bench: Bench) -> None:
    """Its window is relative to the second of creation."""
    at = LATER + timedelta(microseconds=999_999)
    changed(timetable=once()).create(bench.ledger.schedules, at)
    (execution,) = bench.ledger.executions.newest("watch")
    assert (execution.status, execution.scheduled, execution.window) == (
        Status.PENDING,
        LATER,
        Window(LATER - HOUR, LATER),
    )
    assert (execution.created, execution.revision, execution.snapshot) == (at, 1, SETTINGS.digest)


def test_only_a_single_execution_is_due_at_creation() -> None:
    """Recurring timetables have nothing due at creation."""
    assert due_at_creation(hourly(), NOON) == []
    assert [due.window for due in due_at_creation(once(), NOON)] == [Window(NOON - HOUR, NOON)]


def test_updating_a_missing_schedule_is_refused(bench: Bench) -> None:
    """No schedule is created."""
    for declared in (declaration(), changed(changes={})):
        with pytest.raises(UnknownSchedule):
            declared.update(bench.ledger.schedules, NOON)
    assert bench.ledger.schedules.all() == []


def test_an_update_without_timetable_keeps_the_timetable(bench: Bench) -> None:
    """The maximum duration and the cursor stay as well; other fields are replaced."""
    before = bench.create(expression="cron(0 0/2 ? * * *)", max_runtime=77, catch_up="none")
    other = changed(changes={}, endpoint="other", reference="elsewhere", snapshot=OTHER_SETTINGS)
    updated = other.update(bench.ledger.schedules, LATER)
    assert updated == bench.ledger.schedules.get("watch")
    assert (updated.timetable, updated.max_runtime, updated.cursor) == (before.timetable, 77, NOON)
    assert (updated.endpoint, updated.reference, updated.snapshot) == ("other", "elsewhere", OTHER_SETTINGS.digest)
    assert (updated.revision, updated.created, updated.modified) == (2, NOON, LATER)


def test_an_update_with_timetable_replaces_the_timetable(bench: Bench) -> None:
    """The new timetable starts at the update."""
    bench.create()
    chosen = declaration(expression="cron(0 0/2 ? * * *)", max_runtime=77)
    updated = chosen.update(bench.ledger.schedules, LATER)
    assert (updated.timetable, updated.max_runtime, updated.cursor) == (dump(chosen.timetable), 77, LATER)


def test_an_update_adds_a_single_execution_only_for_another_window(bench: Bench) -> None:
    """With the same window, or without timetable, no execution is added."""
    changed(timetable=once()).create(bench.ledger.schedules, NOON)
    for same in (changed(timetable=once()), changed(changes={})):
        same.update(bench.ledger.schedules, LATER)
        assert len(bench.ledger.executions.newest("watch")) == 1
    other = changed(timetable=once(start="2026-01-04T00:00:00Z", end="2026-01-05T00:00:00Z"))
    other.update(bench.ledger.schedules, LATER)
    newest, _ = bench.ledger.executions.newest("watch")
    assert (newest.status, newest.scheduled, newest.revision) == (Status.PENDING, LATER, 4)


def test_enlisting_creates_a_missing_schedule(bench: Bench) -> None:
    """Its revision is 1."""
    schedule = declaration().create_or_update(bench.ledger.schedules, NOON)
    assert schedule == bench.ledger.schedules.get("watch")
    assert schedule.revision == 1


def test_enlisting_an_unchanged_schedule_has_no_effect(bench: Bench) -> None:
    """A stopped schedule stays stopped."""
    before = bench.create()
    revision = bench.ledger.schedules.revision()
    assert declaration().create_or_update(bench.ledger.schedules, LATER) == before
    assert bench.ledger.schedules.revision() == revision
    bench.ledger.schedules.stop("watch", LATER)
    assert declaration().create_or_update(bench.ledger.schedules, LATER).status == ScheduleStatus.STOPPED
    assert bench.ledger.schedules.get("watch").revision == 1


@pytest.mark.parametrize(
    "other",
    [changed(snapshot=OTHER_SETTINGS), declaration(catch_up="last"), changed(timetable=once())],
    ids=["settings", "timetable", "once"],
)
def test_enlisting_updates_a_changed_schedule_once(bench: Bench, other: Declaration) -> None:
    """Settings or timetable have changed; enlisting again has no effect."""
    bench.create()
    updated = other.create_or_update(bench.ledger.schedules, LATER)
    assert (updated.revision, updated.snapshot, updated.timetable) == (
        2,
        other.snapshot.digest,
        dump(other.timetable),
    )
    executions = bench.ledger.executions.newest()
    assert other.create_or_update(bench.ledger.schedules, LATER + HOUR) == updated
    assert bench.ledger.executions.newest() == executions


def test_enlisting_does_not_start_a_stopped_schedule(bench: Bench) -> None:
    """It is updated, and stays stopped."""
    bench.create()
    bench.ledger.schedules.stop("watch", NOON)
    assert (
        changed(snapshot=OTHER_SETTINGS).create_or_update(bench.ledger.schedules, LATER).status
        == ScheduleStatus.STOPPED
    )
