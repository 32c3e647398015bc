"""Each round what is due is written down, and what may start is started."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import Snapshot
from runner.results.directory import writing
from runner.scheduling.daemon.dispatcher import Dispatcher
from runner.scheduling.daemon.supervisor import Supervisor
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import Bench, declaration, program, wait_until
from tests.scheduling.ledger.ledger_samples import NOON

MINUTE = timedelta(minutes=1)


@contextmanager
def leading(bench: Bench, **changes: Any) -> Iterator[tuple[Dispatcher, Supervisor]]:
    """Yield what dispatches, and what runs; nothing runs afterwards."""
    supervisor = bench.supervisor(**changes)
    try:
        yield bench.dispatcher(supervisor), supervisor
    finally:
        supervisor.abandon()


def statuses(bench: Bench, name: str = "watch") -> list[Status]:
    """Return the statuses of the executions of a schedule, the oldest first."""
    return [entry.status for entry in bench.ledger.entries(name, newest=100)][::-1]


def hours(bench: Bench) -> list[int]:
    """Return for how many hours after noon the started executions were scheduled."""
    return [(entry.scheduled - NOON) // HOUR for entry in bench.started]


def rounds(dispatcher: Dispatcher, supervisor: Supervisor) -> None:
    """Go through rounds until nothing is left to do."""
    dispatcher.round()
    while supervisor.running:
        supervisor.wait()
        dispatcher.round()


def test_what_becomes_due_is_run_once(bench: Bench) -> None:
    """Not before its time, once after it, and with the window before it."""
    bench.create()
    with leading(bench) as (dispatcher, supervisor):
        rounds(dispatcher, supervisor)
        assert bench.started == []
        bench.clock.go_on(HOUR)
        for _ in range(2):
            dispatcher.wake()
            rounds(dispatcher, supervisor)
    (entry,) = bench.ledger.entries()
    assert (entry.status, entry.scheduled, entry.window.start) == (Status.COMPLETED, NOON + HOUR, NOON)


def test_a_schedule_waits_for_its_buffer(bench: Bench) -> None:
    """What is due is written down on the hour, and starts a while later, always the same."""
    bench.create(buffer_minutes=20)
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        bench.clock.go_on(HOUR)
        dispatcher.wake()
        rounds(dispatcher, supervisor)
        (entry,) = bench.ledger.entries()
        assert (entry.status, bench.started) == (Status.PENDING, [])
        assert entry.scheduled < entry.start_at < entry.scheduled + 20 * MINUTE
        bench.clock.now = entry.start_at
        rounds(dispatcher, supervisor)
    assert statuses(bench) == [Status.COMPLETED]


def test_changes_are_seen_in_the_next_round(bench: Bench) -> None:
    """A new schedule, a stopped one, one with another timetable, a deleted one: nobody has to tell the daemon."""
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        bench.create()
        bench.clock.go_on(HOUR)
        rounds(dispatcher, supervisor)
        assert hours(bench) == [1]
        declaration(expression="cron(0 0/2 ? * * *)").update(bench.ledger, bench.clock())
        bench.clock.go_on(HOUR)
        rounds(dispatcher, supervisor)
        assert hours(bench) == [1, 2]
        bench.ledger.stop("watch", bench.clock())
        bench.clock.go_on(2 * HOUR)
        rounds(dispatcher, supervisor)
        bench.ledger.start("watch", bench.clock())
        bench.clock.go_on(2 * HOUR)
        rounds(dispatcher, supervisor)
        assert hours(bench) == [1, 2, 6]
        bench.ledger.delete("watch", bench.clock())
        bench.clock.go_on(2 * HOUR)
        rounds(dispatcher, supervisor)
        assert hours(bench) == [1, 2, 6]


def test_so_many_run_at_once_the_oldest_first(bench: Bench) -> None:
    """What was missed comes before what is due now, each schedule in the order of its times."""
    bench.codes |= {"a": program(seconds=0.5), "b": program(seconds=0.5)}
    for name in ("a", "b"):
        bench.create(name)
    bench.clock.go_on(4 * HOUR)
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        assert [entry.schedule for entry in bench.started] == ["a", "b"]
        assert supervisor.free == 0
        rounds(dispatcher, supervisor)
    assert hours(bench) == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("overlap", "second", "reason"),
    [
        ("wait", Status.PENDING, None),
        ("skip", Status.STOPPED, "not run: the execution before it was still running (schedule.overlap=skip)"),
        ("allow", Status.IN_PROGRESS, None),
    ],
)
def test_an_hour_that_comes_while_the_one_before_it_runs(
    bench: Bench, overlap: str, second: Status, reason: str | None
) -> None:
    """It waits, is skipped with the reason, or runs beside it."""
    bench.codes["watch"] = program(seconds=60)
    bench.create(overlap=overlap)
    with leading(bench) as (dispatcher, _):
        for _ in range(2):
            bench.clock.go_on(HOUR)
            dispatcher.wake()
            dispatcher.round()
        assert statuses(bench) == [Status.IN_PROGRESS, second]
        assert bench.ledger.entries()[0].failure_reason == reason


def test_a_baseline_that_is_being_computed_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """Others go on meanwhile; as soon as it is there, or has failed, the execution starts."""
    here = Snapshot("", str(tmp_path))
    waiting = replace(declaration("waiting", "baselines/new"), snapshot=here)
    waiting.create(bench.ledger, bench.clock())
    bench.create("other")
    with leading(bench) as (dispatcher, supervisor):
        with writing(tmp_path / "baselines/new"):
            bench.clock.go_on(HOUR)
            rounds(dispatcher, supervisor)
            assert (statuses(bench, "waiting"), statuses(bench, "other")) == ([Status.PENDING], [Status.COMPLETED])
        rounds(dispatcher, supervisor)
    assert statuses(bench, "waiting") == [Status.COMPLETED]


def test_what_is_told_to_end_is_ended(bench: Bench) -> None:
    """In the round after somebody has asked for it."""
    bench.codes["watch"] = program(seconds=60)
    bench.create()
    bench.clock.go_on(HOUR)
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        assert bench.ledger.ask_all_to_stop("watch", bench.clock()) == 1
        dispatcher.round()
        wait_until(lambda: not supervisor.running)
    assert statuses(bench) == [Status.STOPPED]


def test_a_timetable_of_a_later_version_harms_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """It is left out, and the log says why."""
    strange = bench.create("strange")
    bench.ledger.update(replace(strange, timetable='{"kind": "lunar"}'), declaration().snapshot)
    bench.create()
    bench.clock.go_on(HOUR)
    with leading(bench) as (dispatcher, supervisor), caplog.at_level(logging.ERROR):
        rounds(dispatcher, supervisor)
    assert (statuses(bench), statuses(bench, "strange")) == ([Status.COMPLETED], [])
    golden("\n".join(caplog.messages))


def test_settings_that_are_missing_keep_nobody_waiting(bench: Bench, golden: Golden) -> None:
    """What refers to them is not run, with the reason; everything else is."""
    broken = replace(declaration("broken"), snapshot=Snapshot("gone: true\n", "/"))
    broken.create(bench.ledger, bench.clock())
    bench.create()
    with bench.ledger.writing() as connection:
        connection.exec_driver_sql("DELETE FROM snapshots WHERE settings = 'gone: true\n'")
    bench.clock.go_on(HOUR)
    with leading(bench) as (dispatcher, supervisor):
        rounds(dispatcher, supervisor)
    assert statuses(bench) == [Status.COMPLETED]
    (entry,) = bench.ledger.entries("broken")
    assert entry.status == Status.STOPPED
    golden(entry.failure_reason or "")


def test_a_clock_that_is_set_back_loses_and_repeats_nothing(bench: Bench) -> None:
    """An hour is run once however often it comes; the next one runs on time."""
    bench.create()
    with leading(bench) as (dispatcher, supervisor):
        for by in (HOUR, HOUR, -HOUR, MINUTE, HOUR, HOUR):
            bench.clock.now += by
            dispatcher.wake()
            rounds(dispatcher, supervisor)
    assert hours(bench) == [1, 2, 3]


def test_an_alarm_wakes_a_schedule_by_itself(bench: Bench) -> None:
    """The real clock and APScheduler: a change in the ledger sets the alarm, and the alarm is heard."""
    with leading(bench) as (dispatcher, _):
        dispatcher.start()
        bench.create(expression="cron(* * ? * * *)")
        dispatcher.round()
        assert dispatcher._awake == set()
        (job,) = dispatcher._alarms._scheduler.get_jobs()
        job.modify(next_run_time=datetime.now(UTC))
        wait_until(lambda: dispatcher._awake == {"watch"})
        dispatcher.stop()
