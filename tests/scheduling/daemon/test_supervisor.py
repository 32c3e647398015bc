"""The supervisor runs executions as processes, records their results, and takes over those of dead owners."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Timer

import pytest

from runner.domain.executions import Status
from runner.domain.schedules import Claim, ExecutionRecord
from runner.errors import OutdatedSettings
from runner.scheduling.daemon import supervisor as supervisor_module
from runner.scheduling.daemon.process import Child
from runner.scheduling.daemon.supervisor import (
    MAX_LOSSES,
    PAUSE_SECONDS,
    RUN_AGAIN,
    STOPPED_ON_REQUEST,
    HeartbeatMonitor,
    result_after_death,
    result_after_timeout,
)
from runner.scheduling.ledger import Ledger
from tests.cli_runner import HANG_SECONDS
from tests.golden import Golden
from tests.processes import wait_until
from tests.scheduling.daemon.bench import (
    LEASE,
    Bench,
    program,
    result,
    stubborn_program,
    wait_for_end,
    waiting_program,
)
from tests.scheduling.daemon.execution_samples import NOON, make_execution

SECOND = timedelta(seconds=1)


def test_the_result_of_a_process_is_recorded(bench: Bench) -> None:
    """Owner, times and peak memory are added to the reported result."""
    bench.codes["watch"] = program(
        Status.COMPLETED_WITH_VIOLATIONS, message="drift", failure_reason="reason", directory="/out/13"
    )
    supervisor = bench.supervisor("a")
    execution = bench.pending()
    bench.clock.advance(SECOND)
    assert supervisor.start(execution)
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.exit_message, ended.failure_reason, ended.output) == (
        Status.COMPLETED_WITH_VIOLATIONS,
        "drift",
        "reason",
        "/out/13",
    )
    assert (ended.owner, ended.attempts, ended.started, ended.ended) == ("a", 1, NOON + SECOND, NOON + SECOND)
    assert ended.peak_memory is not None
    assert ended.peak_memory > 1_000_000


def test_a_claimed_execution_is_not_started(bench: Bench) -> None:
    """Of two supervisors one runs an execution, and the worker of the other stays free."""
    execution, supervisor = bench.pending(), bench.supervisor()
    assert bench.ledger.executions.claim(execution.id, "b", NOON)
    assert not supervisor.start(execution)
    assert (bench.started, supervisor.free) == ([], 2)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("import os; os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("import sys; sys.exit('the artifact is missing')", "without a result: the artifact is missing"),
        ("raise MemoryError", "ran out of memory"),
        ("print('{')", "exit code 0, without a result"),
    ],
)
def test_a_process_without_result_has_failed(bench: Bench, code: str, reason: str) -> None:
    """The failure reason contains the signal or exit code, and the last lines of standard error."""
    bench.codes["watch"] = code
    supervisor, execution = bench.supervisor(), bench.pending()
    supervisor.start(execution)
    ended = wait_for_end(bench, execution, supervisor)
    assert ended.status == Status.FAILED
    assert reason in (ended.failure_reason or "")
    (published,) = bench.published
    assert (published.claim, published.failure_reason) == (ended.claim, ended.failure_reason)
    assert ended.exit_message == "a sink failed"
    assert ended.ended is not None
    assert ended.peak_memory is not None


def test_a_publication_that_hangs_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not repeated, and does not last longer than its limit."""
    monkeypatch.setattr(supervisor_module, "PUBLISH_SECONDS", 0.3)
    bench.codes |= {"watch": "import sys; sys.exit(1)", "publication": "import time; time.sleep(60)"}
    supervisor, execution = bench.supervisor(), bench.pending()
    supervisor.start(execution)
    ended = wait_for_end(bench, execution, supervisor)
    supervisor.reap()
    assert (ended.status, ended.exit_message, len(bench.published)) == (Status.FAILED, None, 1)
    assert ended == bench.ledger.executions.get(execution.id)
    assert ended.ended is not None


def test_a_publication_that_dies_is_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of repetitions is limited, so that the execution ends in any case; deaths before do not count."""
    monkeypatch.setattr(supervisor_module, "MAX_LOSSES", 4)
    killed = "import os; os.kill(os.getpid(), 9)"
    bench.codes |= {"watch": killed, "publication": killed}
    supervisor, execution = bench.supervisor(), bench.pending()
    for _ in range(3):
        claim = bench.ledger.executions.claim(execution.id, "dead", NOON)
        assert claim
        assert bench.ledger.executions.release(claim, NOON, lost=True)
    supervisor.start(execution)
    while not wait_for_end(bench, execution, supervisor).ended:
        supervisor.reap()
    ended = bench.ledger.executions.get(execution.id)
    assert (ended.status, ended.exit_message, len(bench.published)) == (Status.FAILED, None, 4)


def test_a_publication_that_cannot_be_started_is_repeated_after_a_pause(bench: Bench) -> None:
    """The disk may be full for some time; each round would otherwise count as a death."""
    attempts = list[ExecutionRecord]()

    def launch(execution: ExecutionRecord) -> Child:
        if not execution.status.terminal:
            return bench.launch(execution)
        attempts.append(execution)
        if len(attempts) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return bench.launch(execution)

    bench.codes["watch"] = "import os; os.kill(os.getpid(), 9)"
    supervisor, execution = bench.supervisor(launch=launch), bench.pending()
    supervisor.start(execution)
    for attempt in (1, 2):
        wait_for_end(bench, execution, supervisor)
        for _ in range(MAX_LOSSES):
            supervisor.reap()
        assert (len(attempts), bench.ledger.executions.get(execution.id).ended) == (attempt, None)
        bench.clock.advance(timedelta(seconds=PAUSE_SECONDS))
        supervisor.reap()
    assert wait_for_end(bench, execution, supervisor).ended
    assert len(bench.published) == 1


def test_a_result_is_published_again_if_its_process_dies(bench: Bench) -> None:
    """The process has recorded the result, and died while it was publishing; the result remains."""
    bench.codes["watch"] = "import sys, time; print(1, flush=True); time.sleep(60)"
    supervisor, execution = bench.supervisor(), bench.pending()
    supervisor.start(execution)
    running = supervisor.running[execution.id]
    wait_until(lambda: running.child._output)
    assert bench.ledger.executions.record(running.execution.claim, result(), NOON)
    os.kill(running.child.pid, signal.SIGKILL)
    recorded = wait_for_end(bench, execution, supervisor)
    assert (recorded.status, recorded.ended) == (Status.COMPLETED, None)
    supervisor.reap()
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.exit_message, ended.ended) == (Status.COMPLETED, "a sink failed", NOON)
    assert [each.claim for each in bench.published] == [ended.claim]


def test_a_result_is_published_again_if_its_owner_dies(bench: Bench) -> None:
    """This is the case after the lease of the owner."""
    supervisor, execution = bench.supervisor("a"), bench.pending()
    claim = bench.ledger.executions.claim(execution.id, "dead", NOON)
    assert claim
    assert bench.ledger.executions.record(claim, result(), NOON)
    supervisor.reap()
    assert bench.published == []
    bench.clock.advance(timedelta(seconds=LEASE))
    supervisor.reap()
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.owner, ended.ended) == (Status.COMPLETED, "a", bench.clock())
    assert len(bench.published) == 1
    assert not bench.ledger.executions.settle(claim, "too late", NOON)


def test_an_execution_is_stopped_after_max_runtime(bench: Bench, golden: Golden) -> None:
    """A process that ignores SIGTERM is killed."""
    bench.codes["watch"] = stubborn_program()
    supervisor, execution = bench.supervisor(grace_seconds=0.1), bench.pending(max_runtime=1)
    supervisor.start(execution)
    ended = wait_for_end(bench, execution, supervisor)
    assert ended.status == Status.STOPPED
    assert [each.failure_reason for each in bench.published] == [ended.failure_reason]
    golden(ended.failure_reason)


def test_a_stopped_execution_keeps_a_reported_result(bench: Bench) -> None:
    """Without a reported result the one of the stop is recorded."""
    bench.codes |= {"watch": program(seconds=60), "done": f"{program()}; sys.stdout.flush(); time.sleep(60)"}
    supervisor, execution, done = bench.supervisor(), bench.pending(), bench.pending("done")
    for each in (execution, done):
        supervisor.start(each)
    child = supervisor.running[done.id].child
    wait_until(lambda: child._output)
    for each in (execution, done):
        supervisor.stop(each.id, STOPPED_ON_REQUEST)
        supervisor.stop(each.id, RUN_AGAIN)  # has no effect
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.failure_reason) == (Status.STOPPED, STOPPED_ON_REQUEST.failure_reason)
    assert wait_for_end(bench, done, supervisor).status == Status.COMPLETED
    assert bench.published == []


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_process_that_cannot_be_started_has_failed(bench: Bench, is_damaged: bool) -> None:
    """The failure reason names the missing folder or the damage of the settings, and the failure is published."""

    def launch(execution: ExecutionRecord) -> Child:
        if execution.status.terminal:
            return bench.launch(execution)
        if is_damaged:
            raise OutdatedSettings(["/no/such/folder"])
        return Child(lambda _: ["/bin/true"], "/no/such/folder", {})

    supervisor, execution = bench.supervisor(launch=launch), bench.pending()
    assert supervisor.start(execution)
    ended = wait_for_end(bench, execution, supervisor)
    assert ended.status == Status.FAILED
    assert "/no/such/folder" in (ended.failure_reason or "")
    assert [each.failure_reason for each in bench.published] == [ended.failure_reason]
    assert ended.ended is not None


def test_a_result_is_recorded_once_a_locked_ledger_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording is repeated until it succeeds."""
    monkeypatch.setattr(supervisor_module, "RETRY_SECONDS", 0.05)
    file = tmp_path / "ledger.sqlite"
    with (
        Ledger(f"sqlite:///{file}", 0.05) as ledger,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other,
    ):
        bench = Bench(ledger, codes={"watch": program(seconds=0.1)})
        supervisor, execution = bench.supervisor(), bench.pending()
        supervisor.start(execution)
        other.execute("BEGIN EXCLUSIVE")
        Timer(0.5, other.execute, ["ROLLBACK"]).start()
        assert wait_for_end(bench, execution, supervisor).status == Status.COMPLETED


@pytest.mark.parametrize("problem", [errno.EMFILE, errno.EAGAIN])
def test_a_start_without_resources_is_repeated(bench: Bench, problem: int) -> None:
    """Without file descriptors or processes the execution is pending again, for at most three attempts."""

    def launch(execution: ExecutionRecord) -> Child:
        if execution.status.terminal:
            return bench.launch(execution)
        raise OSError(problem, os.strerror(problem))

    supervisor, execution = bench.supervisor(launch=launch), bench.pending()
    for attempt in (1, 2, 3):
        assert supervisor.start(bench.ledger.executions.get(execution.id))
        supervisor.reap()
        assert bench.ledger.executions.get(execution.id).attempts == attempt
    assert wait_for_end(bench, execution, supervisor).status == Status.FAILED
    assert len(bench.published) == 1


def test_reaping_may_be_limited_to_some_executions(bench: Bench) -> None:
    """A backfill does not take over the executions of a dead daemon."""
    supervisor = bench.supervisor()
    checked, ignored = bench.pending(), bench.pending(hours=2)
    for execution in (checked, ignored):
        assert bench.ledger.executions.claim(execution.id, "dead", NOON)
    supervisor.reap({checked.id})
    bench.clock.advance(timedelta(seconds=LEASE))
    supervisor.reap({checked.id})
    assert bench.ledger.executions.get(checked.id).status == Status.PENDING
    assert bench.ledger.executions.get(ignored.id).status == Status.IN_PROGRESS


def test_the_lease_is_that_of_the_owner(bench: Bench) -> None:
    """An owner with a longer lease is dead only after that lease."""
    supervisor, execution = bench.supervisor(), bench.pending()
    assert bench.ledger.executions.claim(execution.id, "slow", NOON, 3 * LEASE)
    for expected in (Status.IN_PROGRESS, Status.IN_PROGRESS, Status.IN_PROGRESS, Status.PENDING):
        supervisor.reap()
        assert bench.ledger.executions.get(execution.id).status == expected
        bench.clock.advance(timedelta(seconds=LEASE))


def test_executions_of_a_dead_owner_are_repeated_after_its_lease(bench: Bench, golden: Golden) -> None:
    """After the death of too many owners the execution has failed; one that was stopping is stopped."""
    supervisor = bench.supervisor()
    execution, stopping = bench.pending(), bench.pending(hours=2)
    for attempt in range(1, MAX_LOSSES + 1):
        assert bench.ledger.executions.claim(execution.id, "dead", bench.clock())
        supervisor.reap()
        bench.clock.advance(timedelta(seconds=LEASE - 1))
        supervisor.reap()
        assert bench.ledger.executions.get(execution.id).status == Status.IN_PROGRESS, attempt
        bench.clock.advance(SECOND)
        supervisor.reap()
        expected = Status.FAILED if attempt == MAX_LOSSES else Status.PENDING
        assert bench.ledger.executions.get(execution.id).status == expected
    golden(wait_for_end(bench, execution, supervisor).failure_reason)
    assert [each.id for each in bench.published] == [execution.id]
    assert bench.ledger.executions.claim(stopping.id, "dead", NOON)
    assert bench.ledger.executions.request_stop(stopping.id, NOON)
    supervisor.reap()
    bench.clock.advance(timedelta(seconds=LEASE))
    supervisor.reap()
    assert bench.ledger.executions.get(stopping.id).status == Status.STOPPED


def test_executions_with_heartbeats_are_not_taken_over(bench: Bench) -> None:
    """Another process with heartbeats keeps its executions."""
    supervisor, execution = bench.supervisor(), bench.pending()
    claim = bench.ledger.executions.claim(execution.id, "alive", NOON)
    assert claim
    for _ in range(5):
        bench.clock.advance(timedelta(seconds=LEASE / 2))
        assert bench.ledger.executions.record_heartbeats([claim], bench.clock()) == {claim}
        supervisor.reap()
    assert bench.ledger.executions.get(execution.id).status == Status.IN_PROGRESS


def test_an_own_execution_without_process_is_pending_again(bench: Bench) -> None:
    """This happens if the ledger failed after the claim, however often."""
    supervisor, execution = bench.supervisor("a"), bench.pending()
    for _ in range(MAX_LOSSES):
        assert bench.ledger.executions.claim(execution.id, "a", NOON)
        supervisor.reap()
    back = bench.ledger.executions.get(execution.id)
    assert (back.status, back.losses) == (Status.PENDING, 0)


def test_only_running_executions_have_heartbeats(bench: Bench) -> None:
    """An execution of this owner without a process has none, so that another process takes it over."""
    bench.codes["watch"] = program(seconds=60)
    supervisor, running, orphan = bench.supervisor("a"), bench.pending(), bench.pending(hours=2)
    supervisor.start(running)
    assert bench.ledger.executions.claim(orphan.id, "a", NOON)
    bench.clock.advance(SECOND)
    supervisor.record_heartbeats()
    heartbeats = [bench.ledger.executions.get(each.id).heartbeat for each in (running, orphan)]
    assert heartbeats == [NOON + SECOND, NOON]
    supervisor.stop_all(RUN_AGAIN, 5)


def test_an_overtaken_execution_is_ended(bench: Bench) -> None:
    """Its record belongs to the new owner, and it is not started a second time before its process has ended."""
    bench.codes["watch"] = stubborn_program()
    supervisor, execution = bench.supervisor("a", grace_seconds=0.1), bench.pending()
    supervisor.start(execution)
    assert bench.ledger.executions.release(Claim(execution.id, "a", 1), NOON)
    assert not supervisor.start(bench.ledger.executions.get(execution.id))
    later = bench.ledger.executions.claim(execution.id, "b", NOON)
    supervisor.record_heartbeats()
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.claim) == (Status.IN_PROGRESS, later)


def test_running_executions_are_pending_after_the_end_of_the_daemon(bench: Bench) -> None:
    """An execution with a stop request is stopped."""
    bench.codes["watch"] = program(seconds=60)
    supervisor, execution, stopping = bench.supervisor(), bench.pending(), bench.pending(hours=2)
    for each in (execution, stopping):
        supervisor.start(each)
    assert bench.ledger.executions.request_stop(stopping.id, NOON)
    supervisor.stop_all(RUN_AGAIN, 5)
    assert (supervisor.running, supervisor.free) == ({}, 2)
    assert bench.ledger.executions.get(execution.id).status == Status.PENDING
    assert bench.ledger.executions.get(stopping.id).status == Status.STOPPED


def test_executions_are_handed_back(bench: Bench) -> None:
    """They are pending again, which does not count as a death of their owner."""
    bench.codes["watch"] = program(seconds=60)
    supervisor, execution = bench.supervisor(), bench.pending()
    supervisor.start(execution)
    supervisor.hand_back()
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.attempts, ended.losses) == (Status.PENDING, 1, 0)
    bench.codes["watch"] = program()
    supervisor.start(ended)
    assert wait_for_end(bench, ended, supervisor).status == Status.COMPLETED


def test_the_result_of_a_former_owner_is_not_recorded(bench: Bench, tmp_path: Path) -> None:
    """The record belongs to the new owner."""
    released = tmp_path / "released"
    bench.codes["watch"] = waiting_program(released)
    supervisor, execution = bench.supervisor("a"), bench.pending()
    supervisor.start(execution)
    assert bench.ledger.executions.release(Claim(execution.id, "a", 1), NOON)
    assert bench.ledger.executions.claim(execution.id, "b", NOON)
    released.touch()
    ended = wait_for_end(bench, execution, supervisor)
    assert (ended.status, ended.owner) == (Status.IN_PROGRESS, "b")


def test_waiting_ends_with_the_last_execution_or_the_time_limit(bench: Bench, tmp_path: Path) -> None:
    """The return value states whether nothing is running."""
    released = tmp_path / "released"
    bench.codes["watch"] = waiting_program(released)
    supervisor = bench.supervisor()
    assert supervisor.wait(0)
    supervisor.start(bench.pending())
    assert not supervisor.wait(0.01)
    released.touch()
    assert supervisor.wait(HANG_SECONDS)


def test_an_execution_is_repeated_after_the_death_of_its_owner() -> None:
    """The number of repetitions is limited; an execution with a stop request is stopped."""
    assert result_after_death(make_execution(losses=0)) is RUN_AGAIN
    assert result_after_death(make_execution(losses=MAX_LOSSES - 2, attempts=100)) is RUN_AGAIN
    assert result_after_death(make_execution(losses=MAX_LOSSES - 1)).status == Status.FAILED
    assert result_after_death(make_execution(status=Status.STOPPING)) is STOPPED_ON_REQUEST


def test_an_execution_after_max_runtime_is_stopped_rather_than_failed(golden: Golden) -> None:
    """The reason names the setting."""
    result = result_after_timeout(make_execution(max_runtime=7))
    assert result.status == Status.STOPPED
    golden(result.failure_reason)


def test_an_owner_is_dead_if_its_heartbeat_is_unchanged_for_the_lease() -> None:
    """The time in the heartbeat does not matter."""
    seconds = iter([0.0, 0.0, 9.9, 10.0])
    monitor = HeartbeatMonitor(10, lambda: next(seconds))
    execution = make_execution(heartbeat=NOON + timedelta(days=1000))
    assert monitor.expired([execution]) == []
    assert monitor.expired([execution]) == []
    assert monitor.expired([execution]) == [execution]


def test_any_change_of_the_heartbeat_counts() -> None:
    """An owner whose clock runs backwards is alive."""
    stopwatch = count(0, 9.0)
    monitor = HeartbeatMonitor(10, lambda: next(stopwatch))
    for minutes in (0, -60, 5, 4, -1):
        assert monitor.expired([make_execution(heartbeat=NOON + timedelta(minutes=minutes))]) == []


def test_an_execution_that_runs_again_has_a_new_lease() -> None:
    """Executions that are no longer running are forgotten."""
    seconds = iter([0.0, 0.0, 5.0, 15.0, 24.0])
    monitor = HeartbeatMonitor(10, lambda: next(seconds))
    assert monitor.expired([make_execution()]) == []
    assert monitor.expired([]) == []
    assert monitor.expired([make_execution()]) == []
    assert monitor.expired([make_execution()]) == []


def test_after_a_suspension_of_the_observer_owners_have_time_for_a_heartbeat() -> None:
    """They were perhaps suspended together with it; half a lease counts, so that a slow observer is not blocked."""
    seconds = iter([0.0, 0.0, 1000.0, 1004.0, 1005.0])
    monitor = HeartbeatMonitor(10, lambda: next(seconds))
    execution = make_execution()
    for _ in range(3):
        assert monitor.expired([execution]) == []
    assert monitor.expired([execution]) == [execution]


def test_a_failure_of_the_ledger_does_not_count_as_silence() -> None:
    """Owners could not record heartbeats during the failure."""
    seconds = iter([0.0, 0.0, 9.0, 18.0, 19.0])
    monitor = HeartbeatMonitor(10, lambda: next(seconds))
    execution = make_execution()
    assert monitor.expired([execution]) == []
    assert monitor.expired([execution]) == []
    monitor.pause()
    assert monitor.expired([execution]) == [execution]
