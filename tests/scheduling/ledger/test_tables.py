"""Executions are planned once and reach a terminal status, in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runner.domain.executions import HOUR, Execution, Status
from runner.domain.schedules import Claim, ExecutionRecord, ScheduledTime, ScheduleStatus
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

SOON, LATER = NOON + timedelta(minutes=1), NOON + 9 * HOUR


def add(ledger: Ledger, due: list[ScheduledTime], **changes: Any) -> list[ExecutionRecord]:
    """Add executions of a backfill."""
    return ledger.executions.add(schedule(revision=0, **changes), SETTINGS, due, NOON)


def test_planning_adds_executions_and_moves_the_cursor(ledger: Ledger) -> None:
    """The executions are returned oldest first; the cursor is the last scheduled time."""
    ledger.schedules.create(schedule(), SETTINGS)
    first, second = (
        ledger.schedules.plan(schedule(), [scheduled_time(1), scheduled_time(2, start_at=LATER)], SOON) or []
    )
    assert first == ExecutionRecord(
        id=first.id,
        schedule="watch",
        endpoint="adult",
        revision=1,
        scheduled=NOON + HOUR,
        window=scheduled_time(1).window,
        status=Status.PENDING,
        start_at=NOON + HOUR,
        max_runtime=3600,
        snapshot=SETTINGS.digest,
        created=SOON,
        modified=SOON,
    )
    assert (second.scheduled, second.start_at) == (NOON + 2 * HOUR, LATER)
    assert ledger.schedules.get("watch") == schedule(cursor=NOON + 2 * HOUR)
    assert ledger.executions.newest("watch") == [second, first]


def test_a_skipped_time_becomes_a_stopped_execution(ledger: Ledger) -> None:
    """The record contains the reason."""
    ledger.schedules.create(schedule(), SETTINGS)
    skipped, wanted = (
        ledger.schedules.plan(schedule(), [scheduled_time(1, skipped="too old"), scheduled_time(2)], SOON) or []
    )
    assert (skipped.status, skipped.failure_reason, skipped.ended) == (Status.STOPPED, "too old", SOON)
    assert (wanted.status, wanted.failure_reason, wanted.ended) == (Status.PENDING, None, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.schedules.plan(schedule(), scheduled_times(1), NOON),
        lambda ledger: ledger.schedules.stop("watch", NOON),
        lambda ledger: ledger.schedules.delete("watch", NOON),
        lambda ledger: ledger.schedules.update(schedule(), SETTINGS),
    ],
    ids=["planned", "stopped", "deleted", "updated"],
)
def test_a_changed_schedule_is_not_planned(ledger: Ledger, change: Callable[[Ledger], object]) -> None:
    """Planning with an outdated schedule returns None and has no effect."""
    ledger.schedules.create(schedule(), SETTINGS)
    change(ledger)
    before = ledger.executions.newest(limit=100)
    assert ledger.schedules.plan(schedule(), scheduled_times(1, 2), SOON) is None
    assert ledger.executions.newest(limit=100) == before


def test_a_scheduled_time_is_planned_once(ledger: Ledger) -> None:
    """Existing executions, for example of a backfill, are unchanged and not returned."""
    ledger.schedules.create(schedule(), SETTINGS)
    (first,) = add(ledger, scheduled_times(1), max_runtime=3600)
    first = finished(ledger, first)
    (second,) = ledger.schedules.plan(schedule(), scheduled_times(1, 2), SOON) or []
    assert second.scheduled == NOON + 2 * HOUR
    assert ledger.executions.newest("watch") == [second, first]


def test_thousands_of_executions_are_planned_in_one_call(ledger: Ledger) -> None:
    """This happens after a long outage."""
    executions = planned(ledger, *range(1, 2501))
    assert [execution.scheduled for execution in executions] == [NOON + i * HOUR for i in range(1, 2501)]
    assert len(ledger.executions.startable(NOON + 3000 * HOUR, 10_000, 10_000)) == 2500


def test_adding_returns_new_and_existing_executions(ledger: Ledger) -> None:
    """A backfill needs no schedule in the ledger."""
    assert add(ledger, [], max_runtime=60) == []
    first, third = add(ledger, scheduled_times(1, 3), max_runtime=60)
    assert (first.status, first.revision, first.max_runtime, first.created) == (Status.PENDING, 0, 60, NOON)
    (second,) = add(ledger, scheduled_times(2), max_runtime=60)
    third = finished(ledger, third)
    returned = ledger.executions.add(
        schedule(endpoint="other", revision=7), OTHER_SETTINGS, scheduled_times(3, 1), SOON
    )
    assert returned == [first, third]
    assert second.scheduled == NOON + 2 * HOUR


def test_executions_are_listed_newest_first(ledger: Ledger, golden: Golden) -> None:
    """The list may be limited by schedule, number and status."""
    one, two, three = planned(ledger, 1, 2, 3)
    (other,) = planned(ledger, 4, name="other")
    two = finished(ledger, two, Status.FAILED)
    assert ledger.executions.newest() == [other, three, two, one]
    assert ledger.executions.newest("watch", limit=2) == [three, two]
    assert ledger.executions.newest("watch", statuses=[Status.PENDING]) == [three, one]
    assert ledger.executions.newest(statuses={Status.FAILED, Status.COMPLETED}) == [two]
    assert ledger.executions.newest("unknown") == []
    assert ledger.executions.last("watch") == three
    assert ledger.executions.last("unknown") is None
    with golden.raises(LedgerError):
        ledger.executions.get(999)


def test_the_last_execution_has_the_latest_scheduled_time(ledger: Ledger) -> None:
    """Schedules without executions, and deleted ones, are left out."""
    planned(ledger, 1, 5, 3)
    planned(ledger, 2, name="other")
    planned(ledger, 2, name="deleted")
    ledger.schedules.delete("deleted", NOON)
    ledger.schedules.create(schedule("new"), SETTINGS)
    lasts = ledger.executions.last_by_schedule()
    assert {name: execution.scheduled for name, execution in lasts.items()} == {
        "watch": NOON + 5 * HOUR,
        "other": NOON + 2 * HOUR,
    }


def test_the_last_execution_may_be_limited_to_statuses(ledger: Ledger) -> None:
    """Later pending executions do not count then."""
    one, _, _ = planned(ledger, 1, 2, 3)
    planned(ledger, 2, name="other")
    one = finished(ledger, one, Status.FAILED)
    assert ledger.executions.last_by_schedule([Status.COMPLETED, Status.FAILED]) == {"watch": one}
    assert ledger.executions.last_by_schedule([Status.COMPLETED]) == {}


def test_startable_executions_are_listed_oldest_first(ledger: Ledger) -> None:
    """They are pending, their start time has passed, and their number is limited."""
    ledger.schedules.create(schedule(), SETTINGS)
    hours = [
        scheduled_time(3),
        scheduled_time(1, start_at=LATER),
        scheduled_time(2),
        scheduled_time(4),
        scheduled_time(5, skipped="too old"),
    ]
    executions = {execution.scheduled: execution for execution in ledger.schedules.plan(schedule(), hours, NOON) or []}
    one, two, three, four = (executions[NOON + i * HOUR] for i in (1, 2, 3, 4))
    assert ledger.executions.startable(NOON + 3 * HOUR, 10, 10) == [two, three]
    assert ledger.executions.startable(LATER, 10, 10) == [one, two, three, four]
    assert ledger.executions.startable(LATER, 10, 2) == [one, two]
    ledger.executions.claim(two.id, "a", NOON)
    assert ledger.executions.startable(LATER, 10, 2) == [one, three]


def test_startable_executions_are_limited_per_schedule(ledger: Ledger) -> None:
    """A schedule with many missed times does not delay others."""
    old, new = planned(ledger, *range(1, 50)), planned(ledger, 60, 61, 62, name="young")
    assert ledger.executions.startable(NOON + 100 * HOUR, 2, 1000) == [*old[:2], *new[:2]]


def test_an_execution_is_claimed_and_finished_once(ledger: Ledger) -> None:
    """Each change of status sets its columns; another owner has no effect."""
    (execution,) = planned(ledger, 1)
    assert ledger.executions.claim(execution.id, "a", SOON)
    assert not ledger.executions.claim(execution.id, "b", SOON)
    claimed = replace(
        execution, status=Status.IN_PROGRESS, owner="a", attempts=1, started=SOON, heartbeat=SOON, modified=SOON
    )
    assert (
        ledger.executions.running()
        == ledger.executions.running("watch")
        == [ledger.executions.get(execution.id)]
        == [claimed]
    )
    assert ledger.executions.running("other") == []
    result = Execution("CompletedWithViolations: …", status=Status.COMPLETED_WITH_VIOLATIONS, directory="o/ü")
    assert not ledger.executions.finish(Claim(execution.id, "b", 1), result, LATER, 2**40)
    assert ledger.executions.finish(Claim(execution.id, "a", 1), result, LATER, 2**40)
    assert ledger.executions.get(execution.id) == replace(
        claimed,
        status=Status.COMPLETED_WITH_VIOLATIONS,
        ended=LATER,
        modified=LATER,
        exit_message="CompletedWithViolations: …",
        output="o/ü",
        peak_memory=2**40,
    )
    assert not ledger.executions.finish(Claim(execution.id, "a", 1), result, LATER)
    assert ledger.executions.running() == []


def test_a_stop_request_applies_to_executions_in_progress(ledger: Ledger) -> None:
    """A stopping execution cannot be released; pending and terminal ones cannot be stopped."""
    one, two, three = planned(ledger, 1, 2, 3)
    assert not ledger.executions.request_stop(one.id, SOON)
    ledger.executions.claim(one.id, "a", SOON)
    ledger.executions.claim(two.id, "a", SOON)
    assert ledger.executions.request_stop(one.id, LATER)
    assert not ledger.executions.request_stop(one.id, LATER)
    assert (ledger.executions.get(one.id).status, ledger.executions.get(one.id).modified) == (Status.STOPPING, LATER)
    assert not ledger.executions.release(Claim(one.id, "a", 1), LATER)
    assert ledger.executions.request_stop_of_all("other", LATER) == 0
    assert ledger.executions.request_stop_of_all("watch", LATER) == 1
    assert [execution.status for execution in ledger.executions.running()] == [Status.STOPPING, Status.STOPPING]
    for execution in (one, two):
        assert ledger.executions.finish(Claim(execution.id, "a", 1), Execution.stopped("on request"), LATER)
    assert not ledger.executions.request_stop(two.id, LATER)
    assert ledger.executions.get(three.id) == three


def test_a_released_execution_is_pending_again(ledger: Ledger) -> None:
    """Only its owner can release it; attempts are counted."""
    (execution,) = planned(ledger, 1)
    ledger.executions.claim(execution.id, "a", SOON)
    assert not ledger.executions.release(Claim(execution.id, "b", 1), LATER)
    assert ledger.executions.release(Claim(execution.id, "a", 1), LATER)
    assert not ledger.executions.release(Claim(execution.id, "a", 1), LATER)
    back = ledger.executions.get(execution.id)
    assert (back.status, back.attempts, back.owner, back.modified) == (Status.PENDING, 1, "a", LATER)
    assert ledger.executions.claim(execution.id, "b", LATER)
    claimed = ledger.executions.get(execution.id)
    assert (claimed.attempts, claimed.owner, claimed.started, claimed.heartbeat) == (2, "b", LATER, LATER)


def test_a_heartbeat_applies_to_the_claims_of_running_executions(ledger: Ledger) -> None:
    """Claims of other owners, earlier claims, and those of pending and terminal executions are not valid any more."""
    own, stopping, foreign, pending, ended, overtaken = planned(ledger, 1, 2, 3, 4, 5, 6)
    for execution, owner in ((own, "a"), (stopping, "a"), (foreign, "b")):
        ledger.executions.claim(execution.id, owner, NOON)
    ledger.executions.request_stop(stopping.id, NOON)
    ended = finished(ledger, ended)
    for _ in range(2):
        claim = ledger.executions.claim(overtaken.id, "a", NOON)
        assert claim
        assert ledger.executions.release(claim, NOON, lost=True)
    ledger.executions.claim(overtaken.id, "a", NOON)
    claims = [Claim(execution.id, "a", 1) for execution in (own, stopping, foreign, pending, ended, overtaken)]
    assert ledger.executions.record_heartbeats(claims, LATER) == set(claims[:2])
    heartbeats = [ledger.executions.get(execution.id).heartbeat for execution in (own, stopping, foreign, pending)]
    assert heartbeats == [LATER, LATER, NOON, None]
    assert ledger.executions.get(ended.id) == ended
    assert ledger.executions.get(overtaken.id).losses == 2
    assert ledger.executions.record_heartbeats([], LATER) == set()


def test_an_earlier_claim_of_the_same_owner_has_no_effect(ledger: Ledger) -> None:
    """A process that was overtaken can neither finish nor release the execution."""
    (execution,) = planned(ledger, 1)
    earlier = ledger.executions.claim(execution.id, "a", SOON)
    assert earlier == Claim(execution.id, "a", 1)
    assert ledger.executions.release(earlier, SOON)
    later = ledger.executions.claim(execution.id, "a", SOON)
    assert later == Claim(execution.id, "a", 2) == ledger.executions.get(execution.id).claim
    assert not ledger.executions.finish(earlier, Execution("done"), LATER)
    assert not ledger.executions.release(earlier, LATER)
    assert ledger.executions.finish(later, Execution("done"), LATER)


def test_a_result_is_recorded_before_it_is_published(ledger: Ledger) -> None:
    """The execution counts as running until its process has ended; recording again has no effect."""
    (execution,) = planned(ledger, 1)
    claim = ledger.executions.claim(execution.id, "a", SOON)
    assert claim
    assert ledger.executions.is_valid(claim)
    result = Execution("done", status=Status.COMPLETED, directory="out")
    assert not ledger.executions.record(Claim(execution.id, "a", 7), result, SOON)
    assert not ledger.executions.settle(claim, "done", SOON)
    for _ in range(2):
        assert ledger.executions.record(claim, result, LATER)
    assert not ledger.executions.record(claim, replace(result, status=Status.FAILED), LATER)
    assert not ledger.executions.finish(claim, Execution.failed("killed"), LATER)
    assert not ledger.executions.is_valid(claim)
    (recorded,) = ledger.executions.running()
    assert (recorded.status, recorded.output, recorded.ended) == (Status.COMPLETED, "out", None)
    assert ledger.executions.record_heartbeats([claim], LATER) == {claim}
    assert not ledger.executions.settle(Claim(execution.id, "a", 7), "done", LATER)
    assert ledger.executions.settle(claim, "done, unpublished", LATER, 17)
    ended = ledger.executions.get(execution.id)
    assert (ended.status, ended.exit_message, ended.ended) == (Status.COMPLETED, "done, unpublished", LATER)
    assert ended.peak_memory == 17
    assert not ledger.executions.settle(claim, "", LATER)
    assert not ledger.executions.record(claim, result, LATER)
    assert (ledger.executions.running(), ledger.executions.record_heartbeats([claim], LATER)) == ([], set())


@pytest.mark.parametrize("death", [Execution.failed("killed"), Execution.stopped("too long")])
def test_a_recorded_death_is_replaced_by_the_result_until_it_is_published(ledger: Ledger, death: Execution) -> None:
    """Only the owner of the latest claim may do so; the directory of a written death is recorded at the end."""
    one, two = planned(ledger, 1, 2)
    claims = [ledger.executions.claim(each.id, "a", SOON) for each in (one, two)]
    result = Execution("done", status=Status.COMPLETED, directory="out")
    for claim in claims:
        assert claim
        assert not ledger.executions.correct(claim, result, LATER)
        assert ledger.executions.record_once(claim, death, LATER)
    corrected, written = claims
    assert corrected
    assert written
    assert not ledger.executions.correct(replace(corrected, attempt=7), result, LATER)
    for _ in range(2):
        assert ledger.executions.correct(corrected, result, LATER)
    assert ledger.executions.settle(corrected, "", LATER)
    assert ledger.executions.settle(written, "", LATER, output="report")
    first, second = (ledger.executions.get(each.id) for each in (one, two))
    assert (first.status, first.failure_reason, first.exit_message, first.output) == (
        Status.COMPLETED,
        None,
        "done",
        "out",
    )
    assert (second.status, second.failure_reason, second.output) == (death.status, death.failure_reason, "report")
    assert not ledger.executions.correct(corrected, death, LATER)


def test_only_pending_executions_are_skipped(ledger: Ledger) -> None:
    """The record contains the reason."""
    one, two = planned(ledger, 1, 2)
    assert ledger.executions.skip(one.id, LATER, "overlap")
    skipped = ledger.executions.get(one.id)
    assert (skipped.status, skipped.failure_reason, skipped.ended) == (Status.STOPPED, "overlap", LATER)
    assert not ledger.executions.skip(one.id, LATER, "again")
    ledger.executions.claim(two.id, "a", SOON)
    assert not ledger.executions.skip(two.id, LATER, "overlap")


def test_a_terminal_execution_can_be_reset(ledger: Ledger) -> None:
    """It has a new snapshot and maximum duration, and no result."""
    (execution,) = planned(ledger, 1)
    assert not ledger.executions.reset(execution.id, OTHER_SETTINGS, 500, LATER)
    finished(ledger, execution, Status.FAILED)
    assert ledger.executions.reset(execution.id, OTHER_SETTINGS, 500, LATER)
    assert not ledger.executions.reset(execution.id, OTHER_SETTINGS, 500, LATER)
    assert ledger.executions.get(execution.id) == replace(
        execution, snapshot=OTHER_SETTINGS.digest, max_runtime=500, start_at=LATER, modified=LATER
    )
    assert ledger.snapshot(OTHER_SETTINGS.digest) == OTHER_SETTINGS


def test_texts_are_cut_and_escaped(ledger: Ledger) -> None:
    """Messages have at most 1,024 characters; NUL and lone surrogates are escaped."""
    (execution,) = planned(ledger, 1)
    ledger.executions.claim(execution.id, "a", SOON)
    result = Execution("ü" * 2000, status=Status.FAILED, directory="o" * 2000, failure_reason="a\0b\udc80")
    assert ledger.executions.finish(Claim(execution.id, "a", 1), result, LATER)
    stored = ledger.executions.get(execution.id)
    assert stored.exit_message == "ü" * 1024
    assert stored.failure_reason == "a\\x00b\\udc80"
    assert stored.output == "o" * 2000


def test_expired_executions_have_ended_with_results(ledger: Ledger) -> None:
    """Executions without directory, and later ones, are left out."""
    one, two, three, four = planned(ledger, 1, 2, 3, 4)
    two, one, four = finished(ledger, two), finished(ledger, one), finished(ledger, four)
    ledger.executions.skip(three.id, NOON, "overlap")
    assert ledger.executions.snapshots_with_results() == [SETTINGS.digest]
    assert ledger.executions.expired(SETTINGS.digest, NOON + 4 * HOUR) == [one, two]
    assert ledger.executions.expired(OTHER_SETTINGS.digest, NOON + 4 * HOUR) == []


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
