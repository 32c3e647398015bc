"""Schedules are created, updated, started, stopped and deleted, in either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import ScheduleStatus
from runner.errors import LedgerError, ScheduleExists, UnknownSchedule
from runner.scheduling.ledger.ledger import Ledger
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import NOON, OTHERS, SETTINGS, due, dues, ended, planned, schedule

LATER = NOON + timedelta(hours=5, microseconds=1)


def test_what_was_created_is_there(ledger: Ledger) -> None:
    """A schedule comes back as it was given, to the microsecond, with its settings."""
    given = schedule(created=LATER, cursor=LATER - timedelta(microseconds=2))
    ledger.create(given, SETTINGS)
    assert ledger.schedule("watch") == given
    assert ledger.schedules() == [given]
    assert ledger.snapshot(given.snapshot) == SETTINGS
    assert ledger.entries("watch") == []
    assert ledger.last("watch") is None


def test_schedules_come_by_name(ledger: Ledger) -> None:
    """The order is that of the names, and equal settings are kept once."""
    for name in ("b", "c", "a"):
        ledger.create(schedule(name), SETTINGS)
    assert [one.name for one in ledger.schedules()] == ["a", "b", "c"]


def test_a_name_is_taken_once(ledger: Ledger, golden: Golden) -> None:
    """A second schedule of a name is refused, with all that came with it."""
    ledger.create(schedule(), SETTINGS)
    with golden.raises(ScheduleExists):
        ledger.create(schedule(snapshot=OTHERS.digest), OTHERS, dues(1))
    assert ledger.schedule("watch").snapshot == SETTINGS.digest
    assert ledger.entries() == []
    with golden.raises(LedgerError):
        ledger.snapshot(OTHERS.digest)


def test_a_schedule_may_have_something_due_at_once(ledger: Ledger) -> None:
    """What is due when a schedule is created is pending, in the same transaction."""
    ledger.create(schedule(), SETTINGS, [due(0, start_at=NOON + timedelta(minutes=3))])
    (entry,) = ledger.entries("watch")
    assert (entry.status, entry.scheduled, entry.window) == (Status.PENDING, NOON, due(0).window)
    assert (entry.start_at, entry.created) == (NOON + timedelta(minutes=3), NOON)
    assert (entry.endpoint, entry.revision, entry.max_runtime, entry.attempts) == ("adult", 1, 3600, 0)


def test_an_update_replaces_all_but_status_cursor_and_creation(ledger: Ledger) -> None:
    """The revision grows; what was due under the same timetable still is."""
    ledger.create(schedule(), SETTINGS)
    wanted = schedule(
        endpoint="other",
        reference="elsewhere",
        max_runtime=5,
        snapshot=OTHERS.digest,
        created=LATER,
        modified=LATER,
        cursor=LATER,
    )
    updated = ledger.update(wanted, OTHERS)
    assert updated == ledger.schedule("watch") == replace(wanted, created=NOON, cursor=NOON, revision=2)
    assert ledger.update(wanted, OTHERS).revision == 3


def test_a_new_timetable_begins_with_the_update(ledger: Ledger) -> None:
    """What was not planned by then is not due any more; what is due at once is of the new revision."""
    ledger.create(schedule(), SETTINGS)
    updated = ledger.update(schedule(timetable="{}", modified=LATER), SETTINGS, dues(5))
    assert updated.cursor == LATER
    (entry,) = ledger.entries("watch")
    assert (entry.status, entry.revision, entry.created) == (Status.PENDING, 2, LATER)


def test_an_update_does_not_start_a_stopped_schedule(ledger: Ledger) -> None:
    """What it has due is written down as not run."""
    ledger.create(schedule(), SETTINGS)
    ledger.stop("watch", NOON)
    updated = ledger.update(schedule(timetable="{}", modified=LATER), SETTINGS, dues(5))
    assert updated.status == ScheduleStatus.STOPPED
    (entry,) = ledger.entries("watch")
    assert entry.status == Status.STOPPED


def test_stopping_calls_off_what_is_pending(ledger: Ledger, golden: Golden) -> None:
    """Only what has not begun is stopped, with the reason; a second time nothing happens."""
    first, second = planned(ledger, 1, 2)
    other = planned(ledger, 1, name="other")[0]
    ledger.begin(first.id, "us", NOON)
    assert ledger.stop("watch", LATER)
    stopped = ledger.schedule("watch")
    assert (stopped.status, stopped.modified, stopped.revision) == (ScheduleStatus.STOPPED, LATER, 1)
    assert ledger.entry(first.id).status == Status.IN_PROGRESS
    called_off = ledger.entry(second.id)
    assert (called_off.status, called_off.ended) == (Status.STOPPED, LATER)
    golden(called_off.failure_reason)
    assert ledger.entry(other.id) == other
    assert not ledger.stop("watch", LATER + HOUR)
    assert ledger.schedule("watch") == stopped


def test_starting_goes_on_from_now(ledger: Ledger) -> None:
    """What was due while a schedule was stopped is not made up for; a second time nothing happens."""
    ledger.create(schedule(), SETTINGS)
    assert not ledger.start("watch", LATER)
    assert ledger.schedule("watch") == schedule()
    ledger.stop("watch", NOON)
    assert ledger.start("watch", LATER)
    started = schedule(cursor=LATER, modified=LATER)
    assert ledger.schedule("watch") == started
    assert not ledger.start("watch", LATER + HOUR)
    assert ledger.schedule("watch") == started


def test_starting_again_forgets_what_a_clock_that_was_ahead_has_done(ledger: Ledger) -> None:
    """Times yet to come are executed when they come; what runs, waits or lies in the past stays."""
    past, running, *ahead = planned(ledger, -1, 1, 2, 3)
    ended(ledger, past)
    ledger.begin(running.id, "us", NOON)
    for entry in ahead:
        ended(ledger, entry)
    ledger.stop("watch", NOON)
    assert ledger.start("watch", NOON)
    assert {entry.id for entry in ledger.entries("watch")} == {past.id, running.id}
    made = ledger.plan(ledger.schedule("watch"), dues(1, 2, 3), NOON) or []
    assert [entry.scheduled for entry in made] == [entry.scheduled for entry in ahead]


def test_deleting_keeps_history(ledger: Ledger, golden: Golden) -> None:
    """The schedule is gone and what was pending is called off; what has ended, and its settings, stay."""
    done, pending = planned(ledger, 1, 2)
    done = ended(ledger, done)
    ledger.delete("watch", LATER)
    assert ledger.schedules() == []
    assert ledger.entry(done.id) == done
    called_off = ledger.entry(pending.id)
    golden(called_off.failure_reason)
    assert (called_off.status, called_off.ended) == (Status.STOPPED, LATER)
    assert ledger.snapshot(done.snapshot) == SETTINGS
    ledger.create(schedule(), SETTINGS)


def test_an_unknown_name_is_told_with_those_that_are_known(ledger: Ledger, golden: Golden) -> None:
    """Each operation says what schedules there are."""
    ledger.create(schedule("known"), SETTINGS)
    before = ledger.revision()
    for refused in (
        lambda: ledger.schedule("watch"),
        lambda: ledger.update(schedule(), SETTINGS),
        lambda: ledger.start("watch", NOON),
        lambda: ledger.stop("watch", NOON),
        lambda: ledger.delete("watch", NOON),
    ):
        with golden.raises(UnknownSchedule):
            refused()
    assert ledger.revision() == before


def test_the_revision_tells_of_every_change_but_planning(ledger: Ledger, ledger_url: str) -> None:
    """Another connection sees it grow; what changes nothing leaves it alone."""
    with Ledger(ledger_url, 1) as watcher:
        seen = [watcher.revision()]

        def changed() -> bool:
            seen.append(watcher.revision())
            return seen[-1] > seen[-2]

        ledger.create(schedule(), SETTINGS)
        assert changed()
        ledger.plan(schedule(), dues(1), NOON)
        ledger.start("watch", NOON)
        assert not changed()
        ledger.update(schedule(), SETTINGS)
        assert changed()
        ledger.stop("watch", NOON)
        assert changed()
        ledger.stop("watch", NOON)
        assert not changed()
        ledger.start("watch", NOON)
        assert changed()
        ledger.delete("watch", NOON)
        assert changed()
