"""Executions are planned once and move to their end, in either database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError
from runner.scheduling.ledger.ledger import Ledger
from tests.golden import Golden
from tests.scheduling.ledger.ledger_samples import NOON, OTHERS, SETTINGS, due, dues, ended, planned, schedule

SOON, LATER = NOON + timedelta(minutes=1), NOON + 9 * HOUR


def test_planning_writes_down_what_is_due(ledger: Ledger) -> None:
    """The executions come oldest first, and the cursor stands at the last of them."""
    ledger.create(schedule(), SETTINGS)
    first, second = ledger.plan(schedule(), [due(1), due(2, start_at=LATER)], SOON) or []
    assert first == ExecutionRecord(
        id=first.id,
        schedule="watch",
        endpoint="adult",
        revision=1,
        scheduled=NOON + HOUR,
        window=due(1).window,
        status=Status.PENDING,
        start_at=NOON + HOUR,
        max_runtime=3600,
        snapshot=SETTINGS.digest,
        created=SOON,
        modified=SOON,
    )
    assert (second.scheduled, second.start_at) == (NOON + 2 * HOUR, LATER)
    assert ledger.schedule("watch") == schedule(cursor=NOON + 2 * HOUR)
    assert ledger.entries("watch") == [second, first]


def test_what_is_skipped_is_stopped_at_once(ledger: Ledger) -> None:
    """Its row says why there is no execution."""
    ledger.create(schedule(), SETTINGS)
    skipped, wanted = ledger.plan(schedule(), [due(1, skipped="too old"), due(2)], SOON) or []
    assert (skipped.status, skipped.failure_reason, skipped.ended) == (Status.STOPPED, "too old", SOON)
    assert (wanted.status, wanted.failure_reason, wanted.ended) == (Status.PENDING, None, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.plan(schedule(), dues(1), NOON),
        lambda ledger: ledger.stop("watch", NOON),
        lambda ledger: ledger.delete("watch", NOON),
        lambda ledger: ledger.update(schedule(), SETTINGS),
    ],
    ids=["planned", "stopped", "deleted", "updated"],
)
def test_a_schedule_that_has_changed_is_not_planned(ledger: Ledger, change: Callable[[Ledger], object]) -> None:
    """Whoever has read it before gets None, and nothing is written."""
    ledger.create(schedule(), SETTINGS)
    change(ledger)
    before = ledger.entries(newest=100)
    assert ledger.plan(schedule(), dues(1, 2), SOON) is None
    assert ledger.entries(newest=100) == before


def test_a_scheduled_time_is_planned_once(ledger: Ledger) -> None:
    """What is there already, as from a backfill, is left alone, and only what is new comes back."""
    ledger.create(schedule(), SETTINGS)
    (first,) = ledger.enter("watch", "adult", SETTINGS, 0, 3600, dues(1), NOON)
    first = ended(ledger, first)
    (second,) = ledger.plan(schedule(), dues(1, 2), SOON) or []
    assert second.scheduled == NOON + 2 * HOUR
    assert ledger.entries("watch") == [second, first]


def test_thousands_are_planned_at_once(ledger: Ledger) -> None:
    """A long outage is written down in one go."""
    entries = planned(ledger, *range(1, 2501))
    assert [entry.scheduled for entry in entries] == [NOON + i * HOUR for i in range(1, 2501)]
    assert len(ledger.startable(NOON + 3000 * HOUR, 10_000, 10_000)) == 2500


def test_what_is_entered_comes_back_new_or_not(ledger: Ledger) -> None:
    """A backfill needs no schedule, and finds what is there between the times it asks for."""
    assert ledger.enter("watch", "adult", SETTINGS, 0, 60, [], NOON) == []
    first, third = ledger.enter("watch", "adult", SETTINGS, 0, 60, dues(1, 3), NOON)
    assert (first.status, first.revision, first.max_runtime, first.created) == (Status.PENDING, 0, 60, NOON)
    (second,) = ledger.enter("watch", "adult", SETTINGS, 0, 60, dues(2), NOON)
    third = ended(ledger, third)
    again = ledger.enter("watch", "other", OTHERS, 7, 90, dues(3, 1), SOON)
    assert again == [first, third]
    assert second.scheduled == NOON + 2 * HOUR


def test_executions_are_listed_newest_first(ledger: Ledger, golden: Golden) -> None:
    """Of a schedule or of all, so many, with some statuses."""
    one, two, three = planned(ledger, 1, 2, 3)
    (other,) = planned(ledger, 4, name="other")
    two = ended(ledger, two, Status.FAILED)
    assert ledger.entries() == [other, three, two, one]
    assert ledger.entries("watch", newest=2) == [three, two]
    assert ledger.entries("watch", statuses=[Status.PENDING]) == [three, one]
    assert ledger.entries(statuses={Status.FAILED, Status.COMPLETED}) == [two]
    assert ledger.entries("nobody") == []
    assert ledger.last("watch") == three
    assert ledger.last("nobody") is None
    with golden.raises(LedgerError):
        ledger.entry(999)


def test_each_schedule_has_its_last_execution(ledger: Ledger) -> None:
    """It is the one scheduled last; a schedule without any, or a deleted one, has none."""
    planned(ledger, 1, 5, 3)
    planned(ledger, 2, name="other")
    planned(ledger, 2, name="gone")
    ledger.delete("gone", NOON)
    ledger.create(schedule("new"), SETTINGS)
    lasts = ledger.last_of_each()
    assert {name: entry.scheduled for name, entry in lasts.items()} == {
        "watch": NOON + 5 * HOUR,
        "other": NOON + 2 * HOUR,
    }


def test_each_schedule_has_its_last_execution_that_ended(ledger: Ledger) -> None:
    """What is pending after it does not count where it is not asked for."""
    one, _, _ = planned(ledger, 1, 2, 3)
    planned(ledger, 2, name="other")
    one = ended(ledger, one, Status.FAILED)
    assert ledger.last_of_each([Status.COMPLETED, Status.FAILED]) == {"watch": one}
    assert ledger.last_of_each([Status.COMPLETED]) == {}


def test_what_may_start_comes_oldest_first(ledger: Ledger) -> None:
    """Only what is pending and whose time has come, and not more than asked for."""
    ledger.create(schedule(), SETTINGS)
    hours = [due(3), due(1, start_at=LATER), due(2), due(4), due(5, skipped="too old")]
    entries = {entry.scheduled: entry for entry in ledger.plan(schedule(), hours, NOON) or []}
    one, two, three, four = (entries[NOON + i * HOUR] for i in (1, 2, 3, 4))
    assert ledger.startable(NOON + 3 * HOUR, 10, 10) == [two, three]
    assert ledger.startable(LATER, 10, 10) == [one, two, three, four]
    assert ledger.startable(LATER, 10, 2) == [one, two]
    ledger.begin(two.id, "us", NOON)
    assert ledger.startable(LATER, 10, 2) == [one, three]


def test_a_schedule_with_a_long_past_keeps_no_other_waiting(ledger: Ledger) -> None:
    """Of each schedule there are so many, of all together the oldest come first."""
    old, new = planned(ledger, *range(1, 50)), planned(ledger, 60, 61, 62, name="young")
    assert ledger.startable(NOON + 100 * HOUR, 2, 1000) == [*old[:2], *new[:2]]


def test_an_execution_begins_and_ends(ledger: Ledger) -> None:
    """Each move sets what belongs to it, and is made once."""
    (entry,) = planned(ledger, 1)
    assert ledger.begin(entry.id, "us", SOON)
    assert not ledger.begin(entry.id, "them", SOON)
    begun = replace(
        entry, status=Status.IN_PROGRESS, owner="us", attempts=1, started=SOON, heartbeat=SOON, modified=SOON
    )
    assert ledger.running() == ledger.running("watch") == [ledger.entry(entry.id)] == [begun]
    assert ledger.running("other") == []
    told = {"exit_message": "CompletedWithViolations: …", "failure_reason": None, "output": "o/ü", "peak_memory": 2**40}
    assert not ledger.settle(entry.id, "them", Status.FAILED, LATER, **told)  # type: ignore[arg-type]
    assert ledger.settle(entry.id, "us", Status.COMPLETED_WITH_VIOLATIONS, LATER, **told)  # type: ignore[arg-type]
    assert ledger.entry(entry.id) == replace(
        begun,
        status=Status.COMPLETED_WITH_VIOLATIONS,
        ended=LATER,
        modified=LATER,
        exit_message="CompletedWithViolations: …",
        output="o/ü",
        peak_memory=2**40,
    )
    assert not ledger.settle(entry.id, "us", Status.FAILED, LATER, **told)  # type: ignore[arg-type]
    assert ledger.running() == []


def test_what_is_told_to_end_is_stopping_until_its_owner_settles_it(ledger: Ledger) -> None:
    """It cannot be handed back any more; what is pending or has ended cannot be told."""
    one, two, three = planned(ledger, 1, 2, 3)
    assert not ledger.ask_to_stop(one.id, SOON)
    ledger.begin(one.id, "us", SOON)
    ledger.begin(two.id, "us", SOON)
    assert ledger.ask_to_stop(one.id, LATER)
    assert not ledger.ask_to_stop(one.id, LATER)
    assert (ledger.entry(one.id).status, ledger.entry(one.id).modified) == (Status.STOPPING, LATER)
    assert not ledger.hand_back(one.id, "us", LATER)
    assert ledger.ask_all_to_stop("other", LATER) == 0
    assert ledger.ask_all_to_stop("watch", LATER) == 1
    assert [entry.status for entry in ledger.running()] == [Status.STOPPING, Status.STOPPING]
    for entry in (one, two):
        assert ledger.settle(
            entry.id,
            "us",
            Status.STOPPED,
            LATER,
            exit_message=None,
            failure_reason="by hand",
            output=None,
            peak_memory=None,
        )
    assert not ledger.ask_to_stop(two.id, LATER)
    assert ledger.entry(three.id) == three


def test_what_is_handed_back_begins_again(ledger: Ledger) -> None:
    """Only its owner can give it up; the attempts are counted."""
    (entry,) = planned(ledger, 1)
    ledger.begin(entry.id, "us", SOON)
    assert not ledger.hand_back(entry.id, "them", LATER)
    assert ledger.hand_back(entry.id, "us", LATER)
    assert not ledger.hand_back(entry.id, "us", LATER)
    back = ledger.entry(entry.id)
    assert (back.status, back.attempts, back.owner, back.modified) == (Status.PENDING, 1, "us", LATER)
    assert ledger.begin(entry.id, "them", LATER)
    begun = ledger.entry(entry.id)
    assert (begun.attempts, begun.owner, begun.started, begun.heartbeat) == (2, "them", LATER, LATER)


def test_only_what_is_pending_is_skipped(ledger: Ledger) -> None:
    """Its row says why."""
    one, two = planned(ledger, 1, 2)
    assert ledger.skip(one.id, LATER, "overlap")
    skipped = ledger.entry(one.id)
    assert (skipped.status, skipped.failure_reason, skipped.ended) == (Status.STOPPED, "overlap", LATER)
    assert not ledger.skip(one.id, LATER, "again")
    ledger.begin(two.id, "us", SOON)
    assert not ledger.skip(two.id, LATER, "overlap")


def test_what_has_ended_may_be_done_again_as_if_it_were_new(ledger: Ledger) -> None:
    """It gets other settings and another limit; nothing of what it was before is left."""
    (entry,) = planned(ledger, 1)
    assert not ledger.redo(entry.id, OTHERS, 500, LATER)
    ended(ledger, entry, Status.FAILED)
    assert ledger.redo(entry.id, OTHERS, 500, LATER)
    assert not ledger.redo(entry.id, OTHERS, 500, LATER)
    assert ledger.entry(entry.id) == replace(
        entry, snapshot=OTHERS.digest, max_runtime=500, start_at=LATER, modified=LATER
    )
    assert ledger.snapshot(OTHERS.digest) == OTHERS


def test_texts_fit(ledger: Ledger) -> None:
    """A text is cut to 1,024 characters, and holds what no database takes escaped."""
    (entry,) = planned(ledger, 1)
    ledger.begin(entry.id, "us", SOON)
    assert ledger.settle(
        entry.id,
        "us",
        Status.FAILED,
        LATER,
        exit_message="ü" * 2000,
        failure_reason="a\0b\udc80",
        output="o" * 2000,
        peak_memory=None,
    )
    found = ledger.entry(entry.id)
    assert found.exit_message == "ü" * 1024
    assert found.failure_reason == "a\\x00b\\udc80"
    assert found.output == "o" * 2000


def test_what_has_results_expires(ledger: Ledger) -> None:
    """Only what has ended, with a directory, before that time."""
    one, two, three, four = planned(ledger, 1, 2, 3, 4)
    two, one, four = ended(ledger, two), ended(ledger, one), ended(ledger, four)
    ledger.skip(three.id, NOON, "overlap")
    assert ledger.with_results() == [SETTINGS.digest]
    assert ledger.expired(SETTINGS.digest, NOON + 4 * HOUR) == [one, two]
    assert ledger.expired(OTHERS.digest, NOON + 4 * HOUR) == []
