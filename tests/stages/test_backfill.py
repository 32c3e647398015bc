"""The stage `backfill` executes each window of a past period once."""

from __future__ import annotations

import time
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

from runner.domain.drift import Level
from runner.domain.executions import HOUR, Execution, ExitCode, Outcome, Status, Window
from runner.domain.schedules import ExecutionRecord
from runner.errors import NO_DATA, SettingsError
from runner.protocols import Item
from runner.results.directory import MANIFEST, writing
from runner.results.manifest_file import dump_manifest
from runner.scheduling.daemon.process import Child
from runner.scheduling.ledger import Ledger
from runner.stages.backfill import Backfill, BackfillStage
from runner.stages.monitor import FailOn
from runner.stages.status import LedgerStatus, StatusStage
from tests.cli_runner import Shapwatch
from tests.conftest import untracked
from tests.golden import Golden
from tests.processes import wait_until
from tests.results.samples import COMPARISON, COMPLETED
from tests.scheduling.daemon.bench import LEASE, Bench, declaration, program
from tests.scheduling.ledger.ledger_samples import BUSY, NOON

START = NOON - 3 * HOUR
WINDOWS = [Window(NOON - hours * HOUR, NOON - (hours - 1) * HOUR) for hours in (3, 2, 1)]
MINUTE = timedelta(minutes=1)
FAILING = program(Status.FAILED, message="Failed: the artifact is missing\n  /out/10")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Components around a new ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


def backfill(bench: Bench, **changes: Any) -> Backfill:
    """Return a backfill of the three hours before noon, with changed fields."""
    options: dict[str, Any] = {"start": START, "end": NOON, "step": HOUR, "workers": 1, "redo": False}
    options["fail_on"] = Level.NONE
    parts: dict[str, Any] = {
        "supervisor": lambda _: bench.supervisor(),
        "declaration": declaration(),
        "lease_seconds": LEASE,
        "stopwatch": time.monotonic,
        "track": untracked,
    }
    settings = BackfillStage("backfill", **{key: changes.pop(key, value) for key, value in options.items()})
    return Backfill(settings, lambda: nullcontext(bench.ledger), clock=bench.clock, **parts | changes)


def run(bench: Bench, **changes: Any) -> str:
    """Run a backfill that succeeds, and return its message."""
    outcome = backfill(bench, **changes).run()
    assert outcome.succeeded, outcome.message
    return outcome.message


def executions(bench: Bench) -> list[ExecutionRecord]:
    """Return all executions, oldest first."""
    return bench.ledger.executions.newest("watch", limit=1_000)[::-1]


def statuses(bench: Bench) -> list[Status]:
    """Return the statuses of all executions, oldest first."""
    return [execution.status for execution in executions(bench)]


def waiting_program(gate: Path) -> str:
    """Return a program that waits for a file."""
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.005)\n{program()}"


def started_windows(bench: Bench) -> list[Window]:
    """Return the windows in the order of their starts."""
    return [execution.window for execution in bench.started]


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
def test_windows_cover_the_period_without_gaps(bench: Bench, step: timedelta, minutes: list[float]) -> None:
    """Each window starts at the end of the previous one, and the last one ends with the period."""
    windows = backfill(bench, step=step).settings.windows()
    assert [(window.end - window.start) / MINUTE for window in windows] == minutes
    assert (windows[0].start, windows[-1].end) == (START, NOON)
    assert all(later.start == window.end for window, later in pairwise(windows))


def test_each_window_is_executed_once(bench: Bench) -> None:
    """Its scheduled time is its end, its settings are the declared ones, and its revision is 0."""
    declared = declaration(max_runtime=77)
    assert run(bench, declaration=declared) == "3 windows: 3 Completed"
    assert started_windows(bench) == WINDOWS
    for execution, window in zip(executions(bench), WINDOWS, strict=True):
        assert (execution.window, execution.scheduled, execution.status) == (window, window.end, Status.COMPLETED)
        assert (execution.endpoint, execution.revision, execution.attempts, execution.max_runtime) == ("e", 0, 1, 77)
        assert execution.snapshot == declared.snapshot.digest
    assert bench.ledger.schedules.all() == []


def test_the_last_window_may_be_shorter(bench: Bench) -> None:
    """Its length is the remainder of the period."""
    assert run(bench, step=100 * MINUTE) == "2 windows: 2 Completed"
    assert started_windows(bench) == [Window(START, START + 100 * MINUTE), Window(START + 100 * MINUTE, NOON)]


def test_completed_windows_are_skipped(bench: Bench, golden: Golden) -> None:
    """Windows with violations count as completed, also in a longer period."""
    bench.codes["watch"] = program(Status.COMPLETED_WITH_VIOLATIONS)
    assert run(bench, end=NOON - HOUR) == "2 windows: 2 CompletedWithViolations"
    before = executions(bench)
    bench.codes["watch"] = program()
    golden(run(bench))
    golden(run(bench))
    assert started_windows(bench) == WINDOWS
    assert executions(bench)[:2] == before


def test_completed_windows_are_repeated_on_request(bench: Bench) -> None:
    """Their settings are the current ones, and the previous result is removed."""
    bench.codes["watch"] = program(Status.COMPLETED_WITH_VIOLATIONS, message="drift", directory="/out")
    run(bench)
    bench.codes["watch"] = program()
    other = replace(declaration(), snapshot=replace(declaration().snapshot, settings="other: {}\n"))
    assert run(bench, redo=True, declaration=other) == "3 windows: 3 Completed"
    assert started_windows(bench) == 2 * WINDOWS
    for execution in executions(bench):
        assert (execution.attempts, execution.exit_message, execution.output) == (1, None, None)
        assert execution.snapshot == other.snapshot.digest


def test_failed_windows_are_repeated(bench: Bench, golden: Golden) -> None:
    """The backfill fails with the reason; the same command repeats the window."""
    bench.codes["watch"] = FAILING
    outcome = backfill(bench, end=NOON - 2 * HOUR).run()
    assert not outcome.succeeded
    golden(outcome.message)
    bench.codes["watch"] = program()
    assert run(bench) == "3 windows: 3 Completed"
    assert started_windows(bench) == [WINDOWS[0], *WINDOWS]


def test_many_failures_are_listed_up_to_a_limit(bench: Bench, golden: Golden) -> None:
    """Ten failures are listed, the others are counted."""
    bench.codes["watch"] = FAILING
    outcome = backfill(bench, step=15 * MINUTE).run()
    head, *failures, count = outcome.message.splitlines()
    assert (head, len(failures)) == ("12 windows: 12 Failed", 10)
    golden(count)


def test_repeated_windows_have_the_new_max_runtime(bench: Bench) -> None:
    """A window that was stopped by its limit is repeated with the new limit."""
    execution = bench.pending(hours=-2, max_runtime=1)
    assert bench.ledger.executions.skip(execution.id, NOON, "stopped after 1 s (schedule.max_runtime)")
    run(bench, declaration=declaration(max_runtime=500))
    assert [execution.max_runtime for execution in bench.started] == [500, 500, 500]


def test_a_window_without_data_is_not_a_failure(bench: Bench, golden: Golden) -> None:
    """It is counted separately, and repeated by the next backfill, because data may arrive late."""
    bench.codes["watch"] = program(Status.FAILED, failure_reason=NO_DATA, message="Failed: looked in /capture")
    golden(run(bench))
    bench.codes["watch"] = program()
    assert run(bench) == "3 windows: 3 Completed"


@pytest.mark.parametrize(
    ("stored", "fail_on", "code"),
    [
        (Level.VIOLATION, Level.NONE, ExitCode.COMPLETED),
        (Level.INFO, Level.WARNING, ExitCode.COMPLETED),
        (Level.INSUFFICIENT_DATA, Level.WARNING, ExitCode.COMPLETED),
        (Level.WARNING, Level.WARNING, ExitCode.ALERT),
        (Level.WARNING, Level.VIOLATION, ExitCode.COMPLETED),
        (None, Level.WARNING, ExitCode.COMPLETED),
    ],
)
def test_verdicts_that_reach_fail_on_have_their_own_exit_code(
    bench: Bench, tmp_path: Path, stored: Level | None, fail_on: FailOn, code: ExitCode, golden: Golden
) -> None:
    """Also if the windows were completed before; a directory that has been removed counts as no verdict."""
    if stored:
        found = replace(COMPLETED, status=Status.COMPLETED, comparison=replace(COMPARISON, level=stored))
        (tmp_path / MANIFEST).write_bytes(dump_manifest(found))
    bench.codes["watch"] = program(message="Completed, a window", directory=str(tmp_path))
    outcomes = [backfill(bench, fail_on=fail_on).run() for _ in range(2)]
    assert [outcome.exit_code for outcome in outcomes] == [code] * 2
    assert len(bench.started) == 3
    if code is ExitCode.ALERT:
        golden(outcomes[0].message)


def test_failure_precedes_a_verdict(bench: Bench, tmp_path: Path) -> None:
    """The exit code of a backfill with both is that of failures."""
    (tmp_path / MANIFEST).write_bytes(dump_manifest(COMPLETED))
    bench.codes["watch"] = program(Status.COMPLETED_WITH_VIOLATIONS, directory=str(tmp_path))
    assert backfill(bench, end=NOON - HOUR, fail_on=Level.VIOLATION).run().exit_code is ExitCode.ALERT
    bench.codes["watch"] = FAILING
    assert backfill(bench, fail_on=Level.VIOLATION).run().exit_code is ExitCode.FAILED


def test_pending_executions_are_run(bench: Bench) -> None:
    """A daemon may have planned them and stopped before their start."""
    execution = bench.pending(hours=0)
    assert run(bench) == "3 windows: 3 Completed"
    assert bench.ledger.executions.get(execution.id).attempts == 1


def test_executions_of_a_dead_process_are_taken_over_after_its_lease(bench: Bench) -> None:
    """Other windows do not wait for the lease."""
    orphan = bench.pending(hours=-1)
    assert bench.ledger.executions.claim(orphan.id, "dead", NOON)
    outcomes: list[Outcome] = []
    thread = Thread(target=lambda: outcomes.append(backfill(bench).run()))
    thread.start()
    try:
        wait_until(lambda: statuses(bench) == [Status.COMPLETED, Status.IN_PROGRESS, Status.COMPLETED])
        bench.clock.advance(timedelta(seconds=LEASE - 1))
        thread.join(0.2)
        assert bench.ledger.executions.get(orphan.id).owner == "dead"
    finally:
        bench.clock.advance(timedelta(seconds=1))
        thread.join(20)
    assert outcomes == [Outcome("3 windows: 3 Completed")]
    repeated = bench.ledger.executions.get(orphan.id)
    assert (repeated.status, repeated.attempts) == (Status.COMPLETED, 2)
    assert repeated.owner != "dead"


def interrupted(items: Iterable[Item], unit: str, total: int | None) -> Iterable[Item]:
    """Yield the first item, then raise KeyboardInterrupt."""
    yield from islice(items, 1)
    raise KeyboardInterrupt


def test_an_interrupted_backfill_is_resumed(bench: Bench, golden: Golden) -> None:
    """Running windows are stopped with a reason; the same command executes them and the remaining ones."""

    def launch(execution: ExecutionRecord) -> Child:
        bench.codes["watch"] = program(seconds=60 if bench.started else 0)
        return bench.launch(execution)

    with pytest.raises(KeyboardInterrupt):
        backfill(bench, track=interrupted, supervisor=lambda _: bench.supervisor(launch=launch)).run()
    first, second = executions(bench)
    assert (first.status, second.status) == (Status.COMPLETED, Status.STOPPED)
    golden(second.failure_reason)
    assert bench.ledger.daemons() == []
    bench.codes["watch"] = program()
    bench.started.clear()
    golden(run(bench))
    assert started_windows(bench) == WINDOWS[1:]


def test_a_result_that_a_killed_backfill_did_not_publish_is_published(bench: Bench) -> None:
    """Without a daemon, nobody else would do so; the window is not executed again."""
    execution = bench.pending(hours=-2)
    claim = bench.ledger.executions.claim(execution.id, "dead", NOON, LEASE)
    assert claim
    assert bench.ledger.executions.record(claim, Execution("done"), NOON)

    def advancing() -> float:
        bench.clock.advance(timedelta(seconds=20))
        return bench.clock.seconds

    assert run(bench, stopwatch=advancing) == "3 windows: 3 Completed"
    assert [each.window for each in bench.published] == [WINDOWS[0]]
    assert started_windows(bench) == WINDOWS[1:]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_windows_run_in_parallel_up_to_the_number_of_workers(bench: Bench, tmp_path: Path, workers: int) -> None:
    """No window ends before all workers are busy."""
    running: list[int] = []

    def launch(execution: ExecutionRecord) -> Child:
        running.append(len(supervisor.running) + 1)
        if running[-1] == workers:
            (tmp_path / "gate").touch()
        return bench.launch(execution)

    bench.codes["watch"] = waiting_program(tmp_path / "gate")
    supervisor = bench.supervisor(workers=workers, launch=launch)
    assert run(bench, supervisor=lambda _: supervisor, step=30 * MINUTE) == "6 windows: 6 Completed"
    assert max(running) == workers


def test_a_backfill_waits_for_windows_that_a_daemon_executes(bench: Bench, tmp_path: Path) -> None:
    """They are not executed twice, and their results are counted."""
    busy = bench.pending(hours=-1)
    bench.codes["watch"] = waiting_program(tmp_path / "gate")
    daemon = bench.supervisor("daemon")
    assert daemon.start(busy)
    bench.codes["watch"] = program()

    def launch(execution: ExecutionRecord) -> Child:
        if execution.window == WINDOWS[-1]:
            (tmp_path / "gate").touch()
        return bench.launch(execution)

    assert run(bench, supervisor=lambda _: bench.supervisor(launch=launch)) == "3 windows: 3 Completed"
    ended = bench.ledger.executions.get(busy.id)
    assert (ended.owner, ended.attempts) == ("daemon", 1)
    assert started_windows(bench) == [WINDOWS[1], WINDOWS[0], WINDOWS[2]]
    daemon.wait()


def test_another_step_with_the_same_scheduled_time_is_refused(bench: Bench, golden: Golden) -> None:
    """The existing execution is unchanged; the message says what to do."""
    run(bench)
    before = executions(bench)
    with pytest.raises(SettingsError) as caught:
        backfill(bench, step=3 * HOUR).run()
    (problem,) = caught.value.problems
    golden(problem)
    assert executions(bench) == before


def test_an_error_stops_running_windows(bench: Bench) -> None:
    """No process continues, and no execution stays in progress."""
    run(bench, start=NOON - HOUR)
    bench.codes["watch"] = program(seconds=60)
    with pytest.raises(SettingsError):
        backfill(bench, step=90 * MINUTE).run()
    assert statuses(bench) == [Status.STOPPED, Status.COMPLETED]
    assert bench.ledger.daemons() == []


def test_a_window_that_ends_in_the_future_is_not_executed(bench: Bench) -> None:
    """Its data are incomplete, and it would not be repeated later."""
    bench.clock.now = NOON - 30 * MINUTE
    with suppress(SettingsError):
        backfill(bench).run()
    assert all(window.end <= bench.clock() for window in started_windows(bench))


def test_progress_counts_ended_windows(bench: Bench) -> None:
    """Windows completed before count immediately."""
    shown: list[Any] = []

    def track(items: Iterable[Item], unit: str, total: int | None) -> Iterable[Item]:
        shown.append((unit, total))
        for item in items:
            shown.append(item)
            yield item

    run(bench, end=NOON - 2 * HOUR)
    run(bench, track=track)
    head, (execution, before), *remaining = shown
    assert (head, execution.window, before) == (("windows", 3), WINDOWS[0], True)
    assert [before for _, before in remaining] == [False, False]


def test_running_windows_have_heartbeats(bench: Bench, tmp_path: Path) -> None:
    """Heartbeats continue until the end, so that no daemon takes the window over."""
    bench.codes["watch"] = waiting_program(tmp_path / "gate")
    thread = Thread(target=backfill(bench, end=NOON - 2 * HOUR, lease_seconds=0.06).run)
    thread.start()
    try:
        wait_until(lambda: statuses(bench) == [Status.IN_PROGRESS])
        for _ in range(3):
            bench.clock.advance(MINUTE)
            wait_until(lambda: executions(bench)[0].heartbeat == bench.clock())
    finally:
        (tmp_path / "gate").touch()
        thread.join(20)
    assert statuses(bench) == [Status.COMPLETED]
    assert bench.ledger.daemons() == []


def test_a_backfill_is_not_listed_as_daemon(bench: Bench, golden: Golden) -> None:
    """The stage `status` during a backfill lists no standby."""
    messages: list[str] = []

    def launch(execution: ExecutionRecord) -> Child:
        messages.append(
            LedgerStatus(StatusStage("status", "table"), lambda: nullcontext(bench.ledger), LEASE, bench.clock)
            .run()
            .message
        )
        return bench.launch(execution)

    run(bench, end=NOON - 2 * HOUR, supervisor=lambda _: bench.supervisor(launch=launch))
    golden(messages[0])


@pytest.mark.soak
def test_a_backfill_on_the_command_line(tmp_path: Path) -> None:
    """Two hours of the quickstart are executed by real processes, once."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.rate=0.0125", "stage.count=90")
    shapwatch("stage=baseline")
    period = ("stage=backfill", "stage.start=2026-01-05T09:00:00Z", "stage.end=2026-01-05T11:00:00Z")
    assert "2 windows: 2 Completed\n" in shapwatch(*period)
    for hour in ("10", "11"):
        manifest = shapwatch.read("manifest.json", f"monitor/breast-cancer/breast-cancer-monitor/2026/01/05/{hour}")
        assert (manifest["status"], manifest["scheduled"]) == ("Completed", f"2026-01-05T{hour}:00:00Z")
    printed = shapwatch(*period)
    assert "2 windows: 2 Completed" in printed
    assert printed.splitlines()[-1].strip() == str(shapwatch.find("index.html"))
    together = ("drift.datapoints_to_alert=2", "drift.evaluation_period=3")
    assert "2 windows: 2 Completed\n" in shapwatch(*period, *together, "stage.redo=true", "stage.workers=2")
    drift = shapwatch.read("drift.json", "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/11")
    assert [point["start"] for point in drift["history"]] == ["2026-01-05T09:00:00Z"]
    listed = shapwatch("stage=schedule", "stage.action=executions", "stage.format=json")
    summaries = orjson.loads(listed)["MonitoringExecutionSummaries"]
    assert [summary["ScheduledTime"] for summary in summaries] == [
        "2026-01-05T11:00:00+00:00",
        "2026-01-05T10:00:00+00:00",
    ]
    assert all(Path(summary["Output"]["Destination"]).is_dir() for summary in summaries)


def test_windows_without_traffic_complete_on_request(tmp_path: Path) -> None:
    """The processes of executions know the setting. The next backfill repeats them, because data may arrive late."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=baseline")
    period = ("stage=backfill", "stage.start=2026-01-05T09:00:00Z", "stage.end=2026-01-05T10:00:00Z")
    assert "1 window: 1 no data" in shapwatch(*period, "schedule.on_empty=skip")
    folder = "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10"
    assert shapwatch.read("manifest.json", folder)["status"] == Status.COMPLETED
    listed = orjson.loads(shapwatch("stage=schedule", "stage.action=executions", "stage.format=json"))
    assert listed["MonitoringExecutionSummaries"][0]["MonitoringExecutionStatus"] == Status.COMPLETED
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    assert "1 window: 1 Completed" in shapwatch(*period, "schedule.on_empty=skip")
    assert "1 completed before" in shapwatch(*period)


def test_windows_wait_for_a_baselining(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No execution starts while another process computes the reference; this is logged once."""
    caplog.set_level("INFO", "shapwatch.backfill")
    outcomes: list[Outcome] = []
    waiting = replace(declaration(), reference=str(tmp_path / "reference"))
    with writing(tmp_path / "reference"):
        thread = Thread(target=lambda: outcomes.append(backfill(bench, declaration=waiting).run()))
        thread.start()
        wait_until(lambda: "waiting for the baseline" in caplog.text)
        assert statuses(bench) == []
    thread.join()
    assert outcomes[0].succeeded
    assert len(statuses(bench)) == 3
    assert caplog.text.count("waiting for the baseline") == 1
