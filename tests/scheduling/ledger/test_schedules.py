"""Schedules are created, updated, started, stopped and deleted, in SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import ScheduleStatus
from runner.errors import LedgerError, ScheduleExists, UnknownSchedule
from runner.scheduling.ledger import Ledger
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import (
    NOON,
    OTHER_SETTINGS,
    SETTINGS,
    finished,
    planned,
    schedule,
    scheduled_time,
    scheduled_times,
)

LATER = NOON + timedelta(hours=5, microseconds=1)


def test_a_created_schedule_is_stored(ledger: Ledger) -> None:
    """Times are exact to the microsecond, and the snapshot is stored."""
    given = schedule(created=LATER, cursor=LATER - timedelta(microseconds=2))
    ledger.schedules.create(given, SETTINGS)
    assert ledger.schedules.get("watch") == given
    assert ledger.schedules.all() == [given]
    assert ledger.snapshot(given.snapshot) == SETTINGS
    assert ledger.executions.newest("watch") == []
    assert ledger.executions.last("watch") is None


def test_schedules_are_sorted_by_name(ledger: Ledger) -> None:
    """Several schedules may share a snapshot."""
    for name in ("b", "c", "a"):
        ledger.schedules.create(schedule(name), SETTINGS)
    assert [each.name for each in ledger.schedules.all()] == ["a", "b", "c"]


def test_creating_an_existing_schedule_is_refused(ledger: Ledger, golden: Golden) -> None:
    """Neither its snapshot nor its executions are stored."""
    ledger.schedules.create(schedule(), SETTINGS)
    with golden.raises(ScheduleExists):
        ledger.schedules.create(schedule(snapshot=OTHER_SETTINGS.digest), OTHER_SETTINGS, scheduled_times(1))
    assert ledger.schedules.get("watch").snapshot == SETTINGS.digest
    assert ledger.executions.newest() == []
    with golden.raises(LedgerError):
        ledger.snapshot(OTHER_SETTINGS.digest)


def test_executions_due_at_creation_are_pending(ledger: Ledger) -> None:
    """They are added in the same transaction."""
    ledger.schedules.create(schedule(), SETTINGS, [scheduled_time(0, start_at=NOON + timedelta(minutes=3))])
    (execution,) = ledger.executions.newest("watch")
    assert (execution.status, execution.scheduled, execution.window) == (Status.PENDING, NOON, scheduled_time(0).window)
    assert (execution.start_at, execution.created) == (NOON + timedelta(minutes=3), NOON)
    assert (execution.endpoint, execution.revision, execution.max_runtime, execution.attempts) == ("adult", 1, 3600, 0)


def test_an_update_keeps_status_cursor_and_creation(ledger: Ledger) -> None:
    """The revision increases; with the same timetable, the cursor does not move."""
    ledger.schedules.create(schedule(), SETTINGS)
    wanted = schedule(
        endpoint="other",
        reference="elsewhere",
        max_runtime=5,
        snapshot=OTHER_SETTINGS.digest,
        created=LATER,
        modified=LATER,
        cursor=LATER,
    )
    updated = ledger.schedules.update(wanted, OTHER_SETTINGS)
    assert updated == ledger.schedules.get("watch") == replace(wanted, created=NOON, cursor=NOON, revision=2)
    assert ledger.schedules.update(wanted, OTHER_SETTINGS).revision == 3


def test_a_new_timetable_starts_at_the_update(ledger: Ledger) -> None:
    """Executions due at the update have the new revision."""
    ledger.schedules.create(schedule(), SETTINGS)
    updated = ledger.schedules.update(schedule(timetable="{}", modified=LATER), SETTINGS, scheduled_times(5))
    assert updated.cursor == LATER
    (execution,) = ledger.executions.newest("watch")
    assert (execution.status, execution.revision, execution.created) == (Status.PENDING, 2, LATER)


def test_an_updated_schedule_stays_stopped(ledger: Ledger) -> None:
    """Executions due at the update are skipped."""
    ledger.schedules.create(schedule(), SETTINGS)
    ledger.schedules.stop("watch", NOON)
    updated = ledger.schedules.update(schedule(timetable="{}", modified=LATER), SETTINGS, scheduled_times(5))
    assert updated.status == ScheduleStatus.STOPPED
    (execution,) = ledger.executions.newest("watch")
    assert execution.status == Status.STOPPED


def test_stopping_skips_pending_executions(ledger: Ledger, golden: Golden) -> None:
    """The records contain a reason; stopping again has no effect."""
    first, second = planned(ledger, 1, 2)
    other = planned(ledger, 1, name="other")[0]
    ledger.executions.claim(first.id, "a", NOON)
    assert ledger.schedules.stop("watch", LATER)
    stopped = ledger.schedules.get("watch")
    assert (stopped.status, stopped.modified, stopped.revision) == (ScheduleStatus.STOPPED, LATER, 1)
    assert ledger.executions.get(first.id).status == Status.IN_PROGRESS
    skipped = ledger.executions.get(second.id)
    assert (skipped.status, skipped.ended) == (Status.STOPPED, LATER)
    golden(skipped.failure_reason)
    assert ledger.executions.get(other.id) == other
    assert not ledger.schedules.stop("watch", LATER + HOUR)
    assert ledger.schedules.get("watch") == stopped


def test_a_started_schedule_continues_from_now(ledger: Ledger) -> None:
    """Times while it was stopped are not executed; starting again has no effect."""
    ledger.schedules.create(schedule(), SETTINGS)
    assert not ledger.schedules.start("watch", LATER)
    assert ledger.schedules.get("watch") == schedule()
    ledger.schedules.stop("watch", NOON)
    assert ledger.schedules.start("watch", LATER)
    started = schedule(cursor=LATER, modified=LATER)
    assert ledger.schedules.get("watch") == started
    assert not ledger.schedules.start("watch", LATER + HOUR)
    assert ledger.schedules.get("watch") == started


def test_starting_repeats_times_in_the_future(ledger: Ledger) -> None:
    """Ended executions of a clock that was ahead are removed; running and past ones remain."""
    past, running, *future = planned(ledger, -1, 1, 2, 3)
    finished(ledger, past)
    ledger.executions.claim(running.id, "a", NOON)
    for execution in future:
        finished(ledger, execution)
    ledger.schedules.stop("watch", NOON)
    assert ledger.schedules.start("watch", NOON)
    assert {execution.id for execution in ledger.executions.newest("watch")} == {past.id, running.id}
    added = ledger.schedules.plan(ledger.schedules.get("watch"), scheduled_times(1, 2, 3), NOON) or []
    assert [execution.scheduled for execution in added] == [execution.scheduled for execution in future]


def test_deleting_a_schedule_keeps_its_executions(ledger: Ledger, golden: Golden) -> None:
    """Pending executions are skipped; ended ones and their snapshot remain."""
    done, pending = planned(ledger, 1, 2)
    done = finished(ledger, done)
    ledger.schedules.delete("watch", LATER)
    assert ledger.schedules.all() == []
    assert ledger.executions.get(done.id) == done
    skipped = ledger.executions.get(pending.id)
    golden(skipped.failure_reason)
    assert (skipped.status, skipped.ended) == (Status.STOPPED, LATER)
    assert ledger.snapshot(done.snapshot) == SETTINGS
    ledger.schedules.create(schedule(), SETTINGS)


def test_an_unknown_name_is_refused_by_each_operation(ledger: Ledger, golden: Golden) -> None:
    """The error names the schedules in the ledger."""
    ledger.schedules.create(schedule("known"), SETTINGS)
    before = ledger.schedules.revision()
    for operation in (
        lambda: ledger.schedules.get("watch"),
        lambda: ledger.schedules.update(schedule(), SETTINGS),
        lambda: ledger.schedules.start("watch", NOON),
        lambda: ledger.schedules.stop("watch", NOON),
        lambda: ledger.schedules.delete("watch", NOON),
    ):
        with golden.raises(UnknownSchedule):
            operation()
    assert ledger.schedules.revision() == before


def test_the_revision_counts_changes_except_planning(ledger: Ledger, ledger_url: str) -> None:
    """Another connection reads the new revision; operations without effect do not change it."""
    with Ledger(ledger_url, 1) as watcher:
        revisions = [watcher.schedules.revision()]

        def changed() -> bool:
            revisions.append(watcher.schedules.revision())
            return revisions[-1] > revisions[-2]

        ledger.schedules.create(schedule(), SETTINGS)
        assert changed()
        ledger.schedules.plan(schedule(), scheduled_times(1), NOON)
        ledger.schedules.start("watch", NOON)
        assert not changed()
        ledger.schedules.update(schedule(), SETTINGS)
        assert changed()
        ledger.schedules.stop("watch", NOON)
        assert changed()
        ledger.schedules.stop("watch", NOON)
        assert not changed()
        ledger.schedules.start("watch", NOON)
        assert changed()
        ledger.schedules.delete("watch", NOON)
        assert changed()
