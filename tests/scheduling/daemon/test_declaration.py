"""What settings declare comes into the ledger: created, updated, or found to be there already."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import ScheduleStatus, Snapshot
from runner.errors import ScheduleExists, UnknownSchedule
from runner.scheduling.daemon.declaration import Declaration, at_once
from runner.scheduling.timetable import Timetable, dump, load
from tests.scheduling.daemon.supervisor_bench import SETTINGS, Bench, declaration, hourly
from tests.scheduling.ledger.ledger_samples import NOON

LATER = NOON + timedelta(minutes=30)
OTHERS = Snapshot("monitor: {name: watch, endpoint: other}\n", "/")


def once(**changes: str) -> Timetable:
    """Return a timetable of one execution, over the hour before it unless said otherwise."""
    window = changes or {"data_analysis_start": "-PT1H", "data_analysis_end": "PT0S"}
    keys = ("start", "end", "data_analysis_start", "data_analysis_end")
    values = {"kind": "once", "expression": "NOW", "max_runtime": 60, **dict.fromkeys(keys), **window}
    return load(orjson.dumps(values).decode())


def changed(**changes: object) -> Declaration:
    """Return another declaration of the same name."""
    return replace(declaration(), **changes)  # type: ignore[arg-type]


def test_a_declaration_becomes_a_schedule(bench: Bench) -> None:
    """As it is declared, from now on, with its settings; nothing is due before its first time."""
    schedule = declaration(max_runtime=77).create(bench.ledger, LATER)
    assert schedule == bench.ledger.schedule("watch")
    assert (schedule.name, schedule.endpoint, schedule.reference) == ("watch", "e", "reference")
    assert (schedule.status, schedule.revision, schedule.max_runtime) == (ScheduleStatus.SCHEDULED, 1, 77)
    assert {schedule.created, schedule.modified, schedule.cursor} == {LATER}
    assert load(schedule.timetable) == hourly(max_runtime=77)
    assert bench.ledger.snapshot(schedule.snapshot) == SETTINGS
    assert bench.ledger.entries() == []


def test_a_name_is_declared_once(bench: Bench) -> None:
    """Creating it a second time is refused, with what it would have had due."""
    bench.create()
    with pytest.raises(ScheduleExists):
        changed(timetable=once()).create(bench.ledger, LATER)
    assert bench.ledger.entries() == []


def test_what_comes_once_is_due_at_once(bench: Bench) -> None:
    """Its window is counted from the second of its creation."""
    at = LATER + timedelta(microseconds=999_999)
    changed(timetable=once()).create(bench.ledger, at)
    (entry,) = bench.ledger.entries("watch")
    assert (entry.status, entry.scheduled, entry.window) == (Status.PENDING, LATER, Window(LATER - HOUR, LATER))
    assert (entry.created, entry.revision, entry.snapshot) == (at, 1, SETTINGS.digest)


def test_only_what_comes_once_is_due_at_once() -> None:
    """What comes again and again waits for its time."""
    assert at_once(hourly(), NOON) == []
    assert [due.window for due in at_once(once(), NOON)] == [Window(NOON - HOUR, NOON)]


def test_an_update_needs_a_schedule(bench: Bench) -> None:
    """One that is not there is not made."""
    for declared in (declaration(), changed(changes={})):
        with pytest.raises(UnknownSchedule):
            declared.update(bench.ledger, NOON)
    assert bench.ledger.schedules() == []


def test_a_timetable_that_nobody_chose_is_kept(bench: Bench) -> None:
    """With all that belongs to it; what was due still is; the rest is replaced."""
    before = bench.create(expression="cron(0 0/2 ? * * *)", max_runtime=77, catch_up="none")
    other = changed(changes={}, endpoint="other", reference="elsewhere", snapshot=OTHERS)
    updated = other.update(bench.ledger, LATER)
    assert updated == bench.ledger.schedule("watch")
    assert (updated.timetable, updated.max_runtime, updated.cursor) == (before.timetable, 77, NOON)
    assert (updated.endpoint, updated.reference, updated.snapshot) == ("other", "elsewhere", OTHERS.digest)
    assert (updated.revision, updated.created, updated.modified) == (2, NOON, LATER)


def test_a_timetable_that_somebody_chose_replaces_the_old_one(bench: Bench) -> None:
    """It begins with the update."""
    bench.create()
    chosen = declaration(expression="cron(0 0/2 ? * * *)", max_runtime=77)
    updated = chosen.update(bench.ledger, LATER)
    assert (updated.timetable, updated.max_runtime, updated.cursor) == (dump(chosen.timetable), 77, LATER)


def test_an_update_does_not_repeat_what_comes_once(bench: Bench) -> None:
    """Another window is another execution, the same one is not."""
    changed(timetable=once()).create(bench.ledger, NOON)
    for same in (changed(timetable=once()), changed(changes={})):
        same.update(bench.ledger, LATER)
        assert len(bench.ledger.entries("watch")) == 1
    other = changed(timetable=once(start="2026-01-04T00:00:00Z", end="2026-01-05T00:00:00Z"))
    other.update(bench.ledger, LATER)
    newest, _ = bench.ledger.entries("watch")
    assert (newest.status, newest.scheduled, newest.revision) == (Status.PENDING, LATER, 4)


def test_a_monitor_that_is_new_is_enlisted(bench: Bench) -> None:
    """As if it were created."""
    schedule = declaration().enlist(bench.ledger, NOON)
    assert schedule == bench.ledger.schedule("watch")
    assert schedule.revision == 1


def test_a_monitor_that_is_as_it_was_is_left_alone(bench: Bench) -> None:
    """However often a daemon is started, even when somebody has stopped it meanwhile."""
    before = bench.create()
    revision = bench.ledger.revision()
    assert declaration().enlist(bench.ledger, LATER) == before
    assert bench.ledger.revision() == revision
    bench.ledger.stop("watch", LATER)
    assert declaration().enlist(bench.ledger, LATER).status == ScheduleStatus.STOPPED
    assert bench.ledger.schedule("watch").revision == 1


@pytest.mark.parametrize(
    "other",
    [changed(snapshot=OTHERS), declaration(catch_up="last"), changed(timetable=once())],
    ids=["settings", "timetable", "once"],
)
def test_a_monitor_that_has_changed_is_updated(bench: Bench, other: Declaration) -> None:
    """Its settings or its timetable: once, and not again at the next start."""
    bench.create()
    updated = other.enlist(bench.ledger, LATER)
    assert (updated.revision, updated.snapshot, updated.timetable) == (
        2,
        other.snapshot.digest,
        dump(other.timetable),
    )
    entries = bench.ledger.entries()
    assert other.enlist(bench.ledger, LATER + HOUR) == updated
    assert bench.ledger.entries() == entries


def test_a_monitor_that_is_stopped_stays_so(bench: Bench) -> None:
    """Also when it has changed: who stopped it starts it again."""
    bench.create()
    bench.ledger.stop("watch", NOON)
    assert changed(snapshot=OTHERS).enlist(bench.ledger, LATER).status == ScheduleStatus.STOPPED
