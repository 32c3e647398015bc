"""The dispatcher plans due executions and starts pending ones, round by round."""

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
from runner.scheduling.daemon.supervisor import RUN_AGAIN, Supervisor
from tests.golden import Golden
from tests.processes import wait_until
from tests.scheduling.daemon.bench import Bench, declaration, program, waiting_program
from tests.scheduling.ledger.ledger_samples import NOON

MINUTE = timedelta(minutes=1)


@contextmanager
def leading(bench: Bench, **changes: Any) -> Iterator[tuple[Dispatcher, Supervisor]]:
    """Yield a dispatcher and a supervisor, and end all executions afterwards."""
    supervisor = bench.supervisor(**changes)
    try:
        yield bench.dispatcher(supervisor), supervisor
    finally:
        supervisor.stop_all(RUN_AGAIN, 5)


def statuses(bench: Bench, name: str = "watch") -> list[Status]:
    """Return the statuses of the executions of a schedule, the oldest first."""
    return [execution.status for execution in bench.ledger.executions.newest(name, limit=100)][::-1]


def hours(bench: Bench) -> list[int]:
    """Return the scheduled times of the started executions, in hours after noon."""
    return [(each.scheduled - NOON) // HOUR for each in bench.started]


def run_rounds(dispatcher: Dispatcher, supervisor: Supervisor) -> None:
    """Run rounds until no execution is running or can start."""
    dispatcher.round()
    while supervisor.running:
        supervisor.wait()
        dispatcher.round()


def test_a_due_execution_runs_once(bench: Bench) -> None:
    """It starts at its scheduled time, with the window before it."""
    bench.create()
    with leading(bench) as (dispatcher, supervisor):
        run_rounds(dispatcher, supervisor)
        assert bench.started == []
        bench.clock.advance(HOUR)
        for _ in range(2):
            dispatcher.wake()
            run_rounds(dispatcher, supervisor)
    (execution,) = bench.ledger.executions.newest()
    assert (execution.status, execution.scheduled, execution.window.start) == (Status.COMPLETED, NOON + HOUR, NOON)


def test_an_execution_starts_after_its_buffer(bench: Bench) -> None:
    """It is planned at the scheduled time, and pending until its start time."""
    bench.create(buffer_minutes=20)
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        bench.clock.advance(HOUR)
        dispatcher.wake()
        run_rounds(dispatcher, supervisor)
        (execution,) = bench.ledger.executions.newest()
        assert (execution.status, bench.started) == (Status.PENDING, [])
        assert execution.scheduled < execution.start_at < execution.scheduled + 20 * MINUTE
        bench.clock.now = execution.start_at
        run_rounds(dispatcher, supervisor)
    assert statuses(bench) == [Status.COMPLETED]


def test_changes_of_schedules_apply_in_the_next_round(bench: Bench) -> None:
    """Schedules are created, updated, stopped, started and deleted while the daemon runs."""
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        bench.create()
        bench.clock.advance(HOUR)
        run_rounds(dispatcher, supervisor)
        assert hours(bench) == [1]
        declaration(expression="cron(0 0/2 ? * * *)").update(bench.ledger.schedules, bench.clock())
        bench.clock.advance(HOUR)
        run_rounds(dispatcher, supervisor)
        assert hours(bench) == [1, 2]
        bench.ledger.schedules.stop("watch", bench.clock())
        bench.clock.advance(2 * HOUR)
        run_rounds(dispatcher, supervisor)
        bench.ledger.schedules.start("watch", bench.clock())
        bench.clock.advance(2 * HOUR)
        run_rounds(dispatcher, supervisor)
        assert hours(bench) == [1, 2, 6]
        bench.ledger.schedules.delete("watch", bench.clock())
        bench.clock.advance(2 * HOUR)
        run_rounds(dispatcher, supervisor)
        assert hours(bench) == [1, 2, 6]


def test_the_oldest_executions_start_first(bench: Bench, tmp_path: Path) -> None:
    """Up to the number of workers run in parallel; missed times precede current ones."""
    released = tmp_path / "released"
    bench.codes |= dict.fromkeys(("a", "b"), waiting_program(released))
    for name in ("a", "b"):
        bench.create(name)
    bench.clock.advance(4 * HOUR)
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        assert [each.schedule for each in bench.started] == ["a", "b"]
        assert supervisor.free == 0
        released.touch()
        run_rounds(dispatcher, supervisor)
    assert hours(bench) == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("overlap", "second", "reason"),
    [
        ("wait", Status.PENDING, None),
        ("skip", Status.STOPPED, "not run: the previous execution was still running (schedule.overlap=skip)"),
        ("allow", Status.IN_PROGRESS, None),
    ],
)
def test_an_execution_during_the_previous_one_follows_overlap(
    bench: Bench, overlap: str, second: Status, reason: str | None
) -> None:
    """It waits, is skipped with a reason, or runs in parallel."""
    bench.codes["watch"] = program(seconds=60)
    bench.create(overlap=overlap)
    with leading(bench) as (dispatcher, _):
        for _ in range(2):
            bench.clock.advance(HOUR)
            dispatcher.wake()
            dispatcher.round()
        assert statuses(bench) == [Status.IN_PROGRESS, second]
        assert bench.ledger.executions.newest()[0].failure_reason == reason


def test_an_execution_waits_for_its_baseline(bench: Bench, tmp_path: Path) -> None:
    """Other schedules do not wait; the execution starts after the baselining ends, also in failure."""
    waiting = replace(declaration("waiting", "baselines/new"), snapshot=Snapshot("", str(tmp_path)))
    waiting.create(bench.ledger.schedules, bench.clock())
    bench.create("other")
    with leading(bench) as (dispatcher, supervisor):
        with writing(tmp_path / "baselines/new"):
            bench.clock.advance(HOUR)
            run_rounds(dispatcher, supervisor)
            assert (statuses(bench, "waiting"), statuses(bench, "other")) == ([Status.PENDING], [Status.COMPLETED])
        run_rounds(dispatcher, supervisor)
    assert statuses(bench, "waiting") == [Status.COMPLETED]


def test_a_stop_request_applies_in_the_next_round(bench: Bench) -> None:
    """The process is ended, and the execution is stopped."""
    bench.codes["watch"] = program(seconds=60)
    bench.create()
    bench.clock.advance(HOUR)
    with leading(bench) as (dispatcher, supervisor):
        dispatcher.round()
        assert bench.ledger.executions.request_stop_of_all("watch", bench.clock()) == 1
        dispatcher.round()
        wait_until(lambda: not supervisor.running)
    assert statuses(bench) == [Status.STOPPED]


def test_a_timetable_of_a_later_version_does_not_affect_others(
    bench: Bench, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """It is ignored, and the log contains the reason."""
    unknown = bench.create("unknown")
    bench.ledger.schedules.update(replace(unknown, timetable='{"kind": "lunar"}'), declaration().snapshot)
    bench.create()
    bench.clock.advance(HOUR)
    with leading(bench) as (dispatcher, supervisor), caplog.at_level(logging.ERROR):
        run_rounds(dispatcher, supervisor)
    assert (statuses(bench), statuses(bench, "unknown")) == ([Status.COMPLETED], [])
    golden("\n".join(caplog.messages))


def test_a_missing_snapshot_does_not_affect_other_schedules(bench: Bench, golden: Golden) -> None:
    """Executions with that snapshot are skipped with a reason."""
    broken = replace(declaration("broken"), snapshot=Snapshot("removed: true\n", "/"))
    broken.create(bench.ledger.schedules, bench.clock())
    bench.create()
    with bench.ledger.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM snapshots WHERE settings = 'removed: true\n'")
    bench.clock.advance(HOUR)
    with leading(bench) as (dispatcher, supervisor):
        run_rounds(dispatcher, supervisor)
    assert statuses(bench) == [Status.COMPLETED]
    (execution,) = bench.ledger.executions.newest("broken")
    assert execution.status == Status.STOPPED
    golden(execution.failure_reason)


def test_each_time_runs_once_although_the_clock_is_set_back(bench: Bench) -> None:
    """The next time runs when it is due."""
    bench.create()
    with leading(bench) as (dispatcher, supervisor):
        for by in (HOUR, HOUR, -HOUR, MINUTE, HOUR, HOUR):
            bench.clock.now += by
            dispatcher.wake()
            run_rounds(dispatcher, supervisor)
    assert hours(bench) == [1, 2, 3]


def test_an_alarm_wakes_a_schedule(bench: Bench) -> None:
    """A new schedule in the ledger has an alarm in APScheduler, with the real clock."""
    with leading(bench) as (dispatcher, _):
        dispatcher.start()
        bench.create(expression="cron(* * ? * * *)")
        dispatcher.round()
        assert dispatcher._due == set()
        (job,) = dispatcher._alarms._scheduler.get_jobs()
        job.modify(next_run_time=datetime.now(UTC))
        wait_until(lambda: dispatcher._due == {"watch"})
        dispatcher.stop()
