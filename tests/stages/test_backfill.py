"""A stretch of the past is executed window by window, each once, however often it is begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import islice, pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest

from runner.domain.executions import HOUR, Outcome, Status, Window
from runner.domain.schedules import ExecutionRecord
from runner.errors import NO_DATA, SettingsError
from runner.protocols import Item
from runner.scheduling.daemon.process import Child
from runner.scheduling.ledger.ledger import Ledger
from runner.stages.backfill import Backfill
from runner.stages.status import State
from tests.cli_runner import Shapwatch
from tests.conftest import untracked
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import LEASE, Bench, declaration, telling, wait_until
from tests.scheduling.ledger.ledger_samples import BUSY, NOON

START = NOON - 3 * HOUR
WINDOWS = [Window(NOON - hours * HOUR, NOON - (hours - 1) * HOUR) for hours in (3, 2, 1)]
MINUTE = timedelta(minutes=1)
FAILING = telling(Status.FAILED, exit_message="Failed: the artefact is gone\n  /out/10")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench around a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


def backfill(bench: Bench, **changes: Any) -> Backfill:
    """Return a backfill of the three hours before noon, with other settings."""
    parts: dict[str, Any] = {
        "supervisor": lambda _: bench.supervisor(),
        "declaration": declaration(),
        "start": START,
        "end": NOON,
        "step": HOUR,
        "redo": False,
        "lease_seconds": LEASE,
        "track": untracked,
    }
    return Backfill(ledger=lambda: nullcontext(bench.ledger), clock=bench.clock, **parts | changes)


def done(bench: Bench, **changes: Any) -> str:
    """Return what a backfill says that succeeds."""
    outcome = backfill(bench, **changes).run()
    assert outcome.succeeded, outcome.message
    return outcome.message


def entries(bench: Bench) -> list[ExecutionRecord]:
    """Return all executions, the oldest first."""
    return bench.ledger.entries("watch", newest=1_000)[::-1]


def statuses(bench: Bench) -> list[Status]:
    """Return the statuses of all executions, the oldest first."""
    return [entry.status for entry in entries(bench)]


def gated(gate: Path) -> str:
    """Return a program that waits until a file is there."""
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.005)\n{telling()}"


def begun(bench: Bench) -> list[Window]:
    """Return the windows that were executed, in this order."""
    return [entry.window for entry in bench.started]


@pytest.mark.parametrize(
    ("step", "minutes"),
    [
        (HOUR, [60, 60, 60]),
        (90 * MINUTE, [90, 90]),
        (50 * MINUTE, [50, 50, 50, 30]),
        (timedelta(days=1), [180]),
        (timedelta(seconds=3601), [3601 / 60, 3601 / 60, 3598 / 60]),
    ],
)
def test_windows_leave_nothing_out(bench: Bench, step: timedelta, minutes: list[float]) -> None:
    """Whatever the step, each begins where the one before it ends, and the last one ends with the stretch."""
    windows = backfill(bench, step=step).windows()
    assert [(window.end - window.start) / MINUTE for window in windows] == minutes
    assert (windows[0].start, windows[-1].end) == (START, NOON)
    assert all(later.start == window.end for window, later in pairwise(windows))


def test_each_window_is_executed_once(bench: Bench) -> None:
    """It is scheduled at its end, runs from what was declared, and belongs to no schedule's revision."""
    declared = declaration(max_runtime=77)
    assert done(bench, declaration=declared) == "3 windows: 3 Completed"
    assert begun(bench) == WINDOWS
    for entry, window in zip(entries(bench), WINDOWS, strict=True):
        assert (entry.window, entry.scheduled, entry.status) == (window, window.end, Status.COMPLETED)
        assert (entry.endpoint, entry.revision, entry.attempts, entry.max_runtime) == ("e", 0, 1, 77)
        assert entry.snapshot == declared.snapshot.digest
    assert bench.ledger.schedules() == []


def test_the_last_window_may_be_shorter(bench: Bench) -> None:
    """It is executed like the others."""
    assert done(bench, step=100 * MINUTE) == "2 windows: 2 Completed"
    assert begun(bench) == [Window(START, START + 100 * MINUTE), Window(START + 100 * MINUTE, NOON)]


def test_what_is_done_is_left_alone(bench: Bench, golden: Golden) -> None:
    """Also what has violations, and what a longer stretch has in common with one that was done."""
    bench.codes["watch"] = telling(Status.COMPLETED_WITH_VIOLATIONS)
    assert done(bench, end=NOON - HOUR) == "2 windows: 2 CompletedWithViolations"
    before = entries(bench)
    bench.codes["watch"] = telling()
    golden(done(bench))
    golden(done(bench))
    assert begun(bench) == WINDOWS
    assert entries(bench)[:2] == before


def test_what_is_done_is_done_again_on_request(bench: Bench) -> None:
    """As if it were new: with the settings of now, and without what was told before."""
    bench.codes["watch"] = telling(Status.COMPLETED_WITH_VIOLATIONS, exit_message="drift", output="/out")
    done(bench)
    bench.codes["watch"] = telling()
    other = replace(declaration(), snapshot=replace(declaration().snapshot, settings="other: {}\n"))
    assert done(bench, redo=True, declaration=other) == "3 windows: 3 Completed"
    assert begun(bench) == 2 * WINDOWS
    for entry in entries(bench):
        assert (entry.attempts, entry.exit_message, entry.output) == (1, None, None)
        assert entry.snapshot == other.snapshot.digest


def test_a_window_that_failed_is_executed_again(bench: Bench, golden: Golden) -> None:
    """The backfill has failed and says why; the same command makes up for it."""
    bench.codes["watch"] = FAILING
    outcome = backfill(bench, end=NOON - 2 * HOUR).run()
    assert not outcome.succeeded
    golden(outcome.message)
    bench.codes["watch"] = telling()
    assert done(bench) == "3 windows: 3 Completed"
    assert begun(bench) == [WINDOWS[0], *WINDOWS]


def test_of_many_failures_some_are_told(bench: Bench, golden: Golden) -> None:
    """Ten in full; the rest is counted."""
    bench.codes["watch"] = FAILING
    outcome = backfill(bench, step=15 * MINUTE).run()
    first, *told, last = outcome.message.splitlines()
    assert (first, len(told)) == ("12 windows: 12 Failed", 10)
    golden(last)


def test_other_limits_hold_for_what_is_executed_again(bench: Bench) -> None:
    """What was stopped because it took too long has the longer time that somebody gives it."""
    entry = bench.pending(hours=-2, max_runtime=1)
    assert bench.ledger.skip(entry.id, NOON, "stopped after 1 s, the longest it may run (schedule.max_runtime)")
    done(bench, declaration=declaration(max_runtime=500))
    assert [entry.max_runtime for entry in bench.started] == [500, 500, 500]


def test_a_window_without_data_is_no_failure(bench: Bench, golden: Golden) -> None:
    """It is counted as such, and looked at again the next time: data may come late."""
    bench.codes["watch"] = telling(Status.FAILED, failure_reason=NO_DATA, exit_message="Failed: looked in /capture")
    golden(done(bench))
    bench.codes["watch"] = telling()
    assert done(bench) == "3 windows: 3 Completed"


def test_what_waits_already_is_executed_now(bench: Bench) -> None:
    """As when a daemon has written it down, and has ended before it could start it."""
    entry = bench.pending(hours=0)
    assert done(bench) == "3 windows: 3 Completed"
    assert bench.ledger.entry(entry.id).attempts == 1


def test_what_a_dead_process_left_is_taken_over_after_its_lease(bench: Bench) -> None:
    """Not before: it may be alive; the other windows do not wait for it."""
    left = bench.pending(hours=-1)
    assert bench.ledger.begin(left.id, "gone", NOON)
    told: list[Outcome] = []
    thread = Thread(target=lambda: told.append(backfill(bench).run()))
    thread.start()
    try:
        wait_until(lambda: statuses(bench) == [Status.COMPLETED, Status.IN_PROGRESS, Status.COMPLETED])
        bench.clock.go_on(timedelta(seconds=LEASE - 1))
        thread.join(0.2)
        assert bench.ledger.entry(left.id).owner == "gone"
    finally:
        bench.clock.go_on(timedelta(seconds=1))
        thread.join(20)
    assert told == [Outcome("3 windows: 3 Completed")]
    taken = bench.ledger.entry(left.id)
    assert (taken.status, taken.attempts) == (Status.COMPLETED, 2)
    assert taken.owner != "gone"


def interrupted(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
    """Pass the first item through, as on Ctrl-C."""
    yield from islice(items, 1)
    raise KeyboardInterrupt


def test_an_interrupted_backfill_goes_on_where_it_was(bench: Bench, golden: Golden) -> None:
    """What was under way is stopped, and says so; the same command executes that and the rest."""

    def launch(entry: ExecutionRecord) -> Child:
        bench.codes["watch"] = telling(seconds=60 if bench.started else 0)
        return bench.launch(entry)

    with pytest.raises(KeyboardInterrupt):
        backfill(bench, track=interrupted, supervisor=lambda _: bench.supervisor(launch=launch)).run()
    first, second = entries(bench)
    assert (first.status, second.status) == (Status.COMPLETED, Status.STOPPED)
    golden(second.failure_reason)
    assert bench.ledger.daemons() == []
    bench.codes["watch"] = telling()
    bench.started.clear()
    golden(done(bench))
    assert begun(bench) == WINDOWS[1:]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_so_many_windows_are_executed_at_once(bench: Bench, tmp_path: Path, workers: int) -> None:
    """As many as there are workers, and not one more; here none ends before so many have begun."""
    at_once: list[int] = []

    def launch(entry: ExecutionRecord) -> Child:
        at_once.append(len(supervisor.running) + 1)
        if at_once[-1] == workers:
            (tmp_path / "gate").touch()
        return bench.launch(entry)

    bench.codes["watch"] = gated(tmp_path / "gate")
    supervisor = bench.supervisor(workers=workers, launch=launch)
    assert done(bench, supervisor=lambda _: supervisor, step=30 * MINUTE) == "6 windows: 6 Completed"
    assert max(at_once) == workers


def test_what_a_daemon_executes_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """It is not executed twice, and its end is told as that of the others."""
    busy = bench.pending(hours=-1)
    bench.codes["watch"] = gated(tmp_path / "gate")
    daemon = bench.supervisor("daemon")
    assert daemon.start(busy)
    bench.codes["watch"] = telling()

    def launch(entry: ExecutionRecord) -> Child:
        if entry.window == WINDOWS[-1]:
            (tmp_path / "gate").touch()
        return bench.launch(entry)

    assert done(bench, supervisor=lambda _: bench.supervisor(launch=launch)) == "3 windows: 3 Completed"
    ended = bench.ledger.entry(busy.id)
    assert (ended.owner, ended.attempts) == ("daemon", 1)
    assert begun(bench) == [WINDOWS[1], WINDOWS[0], WINDOWS[2]]
    daemon.wait()


def test_another_step_that_meets_a_scheduled_time_is_refused(bench: Bench, golden: Golden) -> None:
    """The execution at that time keeps its window; the sentence says what to do."""
    done(bench)
    before = entries(bench)
    with pytest.raises(SettingsError) as caught:
        backfill(bench, step=3 * HOUR).run()
    (problem,) = caught.value.problems
    golden(problem)
    assert entries(bench) == before


def test_a_refusal_ends_what_was_begun(bench: Bench) -> None:
    """No process goes on, and nothing is left in progress."""
    done(bench, start=NOON - HOUR)
    bench.codes["watch"] = telling(seconds=60)
    with pytest.raises(SettingsError):
        backfill(bench, step=90 * MINUTE).run()
    assert statuses(bench) == [Status.STOPPED, Status.COMPLETED]
    assert bench.ledger.daemons() == []


def test_a_window_that_has_not_ended_is_not_executed(bench: Bench) -> None:
    """Half an hour of data is no hour: done once, it would never be looked at whole."""
    bench.clock.now = NOON - 30 * MINUTE
    with suppress(SettingsError):
        backfill(bench).run()
    assert all(window.end <= bench.clock() for window in begun(bench))


def test_its_progress_is_shown(bench: Bench) -> None:
    """Windows are counted as they end, those that were done before at once."""
    shown: list[Any] = []

    def track(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
        shown.append((what, total))
        for item in items:
            shown.append(item)
            yield item

    done(bench, end=NOON - 2 * HOUR)
    done(bench, track=track)
    head, (entry, was), *others = shown
    assert (head, entry.window, was) == (("windows", 3), WINDOWS[0], True)
    assert [was for _, was in others] == [False, False]


def test_what_it_executes_is_heard_of(bench: Bench, tmp_path: Path) -> None:
    """As long as it lasts, so that no daemon takes it over."""
    bench.codes["watch"] = gated(tmp_path / "gate")
    thread = Thread(target=backfill(bench, end=NOON - 2 * HOUR, lease_seconds=0.06).run)
    thread.start()
    try:
        wait_until(lambda: statuses(bench) == [Status.IN_PROGRESS])
        for _ in range(3):
            bench.clock.go_on(MINUTE)
            wait_until(lambda: entries(bench)[0].heartbeat == bench.clock())
    finally:
        (tmp_path / "gate").touch()
        thread.join(20)
    assert statuses(bench) == [Status.COMPLETED]
    assert bench.ledger.daemons() == []


def test_a_backfill_is_no_daemon(bench: Bench, golden: Golden) -> None:
    """It waits for no lead, so stage=status does not tell of a standby."""
    told: list[str] = []
    lease = timedelta(seconds=LEASE)

    def launch(entry: ExecutionRecord) -> Child:
        told.append(State(lambda: nullcontext(bench.ledger), "table", lease, bench.clock).run().message)
        return bench.launch(entry)

    done(bench, end=NOON - 2 * HOUR, supervisor=lambda _: bench.supervisor(launch=launch))
    golden(told[0])


@pytest.mark.soak
def test_the_quickstarts_past_is_executed(tmp_path: Path) -> None:
    """The program itself, with processes of its own: two hours, the second time nothing is left to do."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.rate=0.0125", "stage.count=90")
    shapwatch("stage=baseline")
    stretch = ("stage=backfill", "stage.start=2026-01-05T09:00:00Z", "stage.end=2026-01-05T11:00:00Z")
    assert "2 windows: 2 Completed\n" in shapwatch(*stretch)
    for hour in ("10", "11"):
        manifest = shapwatch.read("manifest.json", f"monitor/breast-cancer/breast-cancer-monitor/2026/01/05/{hour}")
        assert (manifest["status"], manifest["scheduled"]) == ("Completed", f"2026-01-05T{hour}:00:00Z")
    assert "2 windows: 2 Completed" in shapwatch(*stretch)
    together = ("drift.datapoints_to_alert=2", "drift.evaluation_period=3")
    assert "2 windows: 2 Completed\n" in shapwatch(*stretch, *together, "stage.redo=true", "stage.workers=2")
    drift = shapwatch.read("drift.json", "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/11")
    assert [point["start"] for point in drift["history"]] == ["2026-01-05T09:00:00Z"]
    listed = shapwatch("stage=schedule", "stage.action=executions", "stage.format=json")
    told = orjson.loads(listed)["MonitoringExecutionSummaries"]
    assert [one["ScheduledTime"] for one in told] == ["2026-01-05T11:00:00+00:00", "2026-01-05T10:00:00+00:00"]
    assert all(Path(one["Output"]["Destination"]).is_dir() for one in told)
