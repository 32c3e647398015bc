"""The daemon, round by round: leadership, unavailable ledgers, cleanup and shutdown."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.domain.executions import HOUR, Status
from runner.report.health import Mark
from runner.results.directory import ANALYSIS, MANIFEST, execution_directory
from runner.scheduling.daemon.process import Signals
from runner.scheduling.daemon.supervisor import HEARTBEATS_PER_LEASE, Supervisor
from runner.scheduling.ledger import Leadership, Ledger
from runner.stages.daemon import CLEANUP_SECONDS, Daemon, DaemonRun, DaemonStage
from tests.golden import Golden
from tests.processes import wait_until
from tests.scheduling.daemon.bench import LEASE, Bench, declaration, program
from tests.scheduling.ledger.ledger_samples import NOON

BUSY = 0.05
SETTINGS = DaemonStage("daemon", (), 1, poll_seconds=0.01, grace_seconds=5.0, host="127.0.0.1", port=None)


@dataclass
class Stopwatch:
    """Monotonic seconds, which tests advance."""

    ahead: float = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return time.monotonic() + self.ahead


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Components around a ledger with a short wait for locks."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


def make_daemon(
    bench: Bench, supervisor: Supervisor | None = None, settings: DaemonStage = SETTINGS, **changes: Any
) -> Daemon:
    """Return a daemon."""
    supervisor = supervisor or bench.supervisor()
    parts: dict[str, Any] = {
        "ledger": bench.ledger,
        "leadership": Leadership(bench.ledger.database),
        "supervisor": supervisor,
        "create_dispatcher": partial(bench.dispatcher, supervisor),
        "monitors": (),
        "health": None,
        "lease_seconds": LEASE,
        "keep": None,
        "keep_results": lambda _: None,
        "clock": bench.clock,
        "stopwatch": time.monotonic,
    }
    return Daemon(settings, **parts | changes)


@contextmanager
def start(
    bench: Bench, supervisor: Supervisor | None = None, grace_seconds: float = 0, **changes: Any
) -> Iterator[DaemonRun]:
    """Yield a daemon after its first round, and stop it afterwards."""
    settings = replace(SETTINGS, grace_seconds=grace_seconds)
    run = DaemonRun(make_daemon(bench, supervisor, settings, **changes), Signals(lambda: None))
    try:
        run.round()
        yield run
    finally:
        run.drain()


@contextmanager
def executing(bench: Bench) -> Iterator[tuple[DaemonRun, Stopwatch]]:
    """Yield a leader that runs an execution of 60 s, and its stopwatch."""
    bench.codes["watch"] = program(seconds=60)
    bench.create()
    stopwatch = Stopwatch()
    with start(bench, stopwatch=stopwatch) as run:
        bench.clock.advance(HOUR)
        wake(run)
        run.round()
        yield run, stopwatch


def wake(run: DaemonRun) -> None:
    """Let a leader check all schedules in its next round."""
    assert run.dispatcher
    run.dispatcher.wake()


@contextmanager
def locked(bench: Bench) -> Iterator[None]:
    """Lock the ledger from another connection."""
    assert bench.ledger.database.file
    with closing(sqlite3.connect(bench.ledger.database.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_standby_takes_over_from_the_leader(bench: Bench) -> None:
    """The leader alone runs executions; after its end the standby continues with the same ledger."""
    bench.create()
    one, two = bench.supervisor("one"), bench.supervisor("two")
    with start(bench, one) as leader, start(bench, two) as standby:
        assert (leader.leading, standby.leading) == (True, False)
        assert [daemon.leading for daemon in bench.ledger.daemons()] == [True, False]
        bench.clock.advance(HOUR)
        wake(leader)
        for run in (standby, leader):
            run.round()
        one.wait()
        leader.drain()
        standby.round()
        assert standby.leading
        assert [daemon.owner for daemon in bench.ledger.daemons()] == ["two"]
        bench.clock.advance(HOUR)
        wake(standby)
        standby.round()
        two.wait()
    assert [execution.owner for execution in bench.ledger.executions.newest()] == ["two", "one"]


def test_a_new_leader_creates_and_updates_its_monitors(bench: Bench) -> None:
    """Missing schedules are created, changed ones updated, equal ones unchanged."""
    bench.create("old", expression="cron(0 0 ? * * *)")
    bench.create("same")
    with start(bench, monitors=[declaration("new"), declaration("old"), declaration("same")]):
        schedules = bench.ledger.schedules.all()
    revisions = {each.name: (each.revision, '"cron(0 * ' in each.timetable) for each in schedules}
    assert revisions == {"new": (1, True), "old": (2, True), "same": (1, True)}


def test_an_unavailable_ledger_is_reported_once_and_used_again(
    bench: Bench, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Running executions continue, and the state contains the problem."""
    bench.codes["watch"] = program(seconds=0.3)
    bench.create()
    supervisor, stopwatch = bench.supervisor(), Stopwatch()
    with start(bench, supervisor, stopwatch=stopwatch) as run, caplog.at_level(logging.INFO, "shapwatch"):
        bench.clock.advance(HOUR)
        wake(run)
        run.round()
        stopwatch.ahead += LEASE / 2
        with locked(bench):
            for _ in range(3):
                run.round()
            golden(run.state().problem)
            assert run.state().running == 1
        run.round()
        assert run.state().problem is None
        supervisor.wait()
    assert caplog.text.count("; trying again") <= 3
    assert caplog.messages.count("the ledger is available again") == 1
    assert bench.ledger.executions.newest()[0].status == Status.COMPLETED


def test_a_leader_without_ledger_for_a_lease_steps_down(bench: Bench) -> None:
    """It ends its executions, which another daemon may take over, returns them, and leads again later."""
    with executing(bench) as (run, stopwatch):
        (running,) = run._supervisor.running.values()
        with locked(bench):
            stopwatch.ahead += LEASE + 1
            run.round()
            assert not run.state().leading
            assert running.child.wait(10)
        bench.codes["watch"] = program()
        run.round()
        assert run.state().leading
        while len(bench.started) < 2:
            run._supervisor.wait(0.1)
            run.round()
        (execution,) = bench.ledger.executions.newest()
        assert (execution.attempts, execution.losses) == (2, 0)


def test_a_short_failure_of_the_ledger_ends_no_execution(bench: Bench) -> None:
    """Within the lease the daemon tries again."""
    with executing(bench) as (run, stopwatch):
        for _ in range(5):
            with locked(bench):
                stopwatch.ahead += LEASE * 0.9
                run.round()
                assert run.state().problem
            run.round()
        assert (run.leading, run.state().problem, run.state().running) == (True, None, 1)
    assert bench.ledger.executions.newest()[0].attempts == 1


def test_a_former_leader_supervises_its_executions(bench: Bench) -> None:
    """They have heartbeats, so that the new leader leaves them alone; a stop request is heeded."""
    with executing(bench) as (former, stopwatch):
        assert bench.ledger.database.file
        bench.ledger.database.file.with_name("ledger.sqlite.leader").unlink()
        with start(bench, stopwatch=stopwatch) as leader:
            for _ in range(4):
                stopwatch.ahead += LEASE / 2
                bench.clock.advance(timedelta(seconds=LEASE / 2))
                former.round()
                leader.round()
            assert (former.leading, leader.leading) == (False, True)
            (execution,) = bench.ledger.executions.running()
            assert (execution.attempts, execution.heartbeat) == (1, bench.clock())
            assert bench.ledger.executions.request_stop(execution.id, bench.clock())
            former.round()
            former._supervisor.wait()
        assert bench.ledger.executions.get(execution.id).status == Status.STOPPED


def test_a_leader_without_its_lock_file_steps_down(bench: Bench) -> None:
    """Otherwise a second daemon could lead at the same time."""
    with start(bench) as run:
        assert bench.ledger.database.file
        lock = bench.ledger.database.file.with_name("ledger.sqlite.leader")
        lock.unlink()
        run.round()
        assert run.leading
        lock.unlink()
        with start(bench) as other:
            run.round()
            assert (run.leading, other.leading) == (False, True)


def test_a_silent_leader_is_replaced(bench: Bench) -> None:
    """A standby takes the lead of a suspended leader, which stands by when it continues."""
    stopwatch = Stopwatch()
    with start(bench, stopwatch=stopwatch) as leader, start(bench, stopwatch=stopwatch) as standby:
        for _ in range(5):
            stopwatch.ahead += LEASE / 2
            bench.clock.advance(timedelta(seconds=LEASE / 2))
            leader.round()
            standby.round()
        assert (leader.leading, standby.leading) == (True, False)
        for _ in range(4):
            stopwatch.ahead += LEASE / 2
            bench.clock.advance(timedelta(seconds=LEASE / 2))
            standby.round()
        assert standby.leading
        leader.round()
        assert (leader.leading, standby.leading) == (False, True)


def test_expired_results_and_executions_are_removed(bench: Bench, tmp_path: Path) -> None:
    """Directories with other files and recent ones remain."""
    for hours in (1, 2, 30):
        folder = execution_directory(tmp_path / "monitor", "e", "watch", NOON + hours * HOUR)
        folder.mkdir(parents=True)
        for name in (ANALYSIS, MANIFEST):
            (folder / name).write_text("{}")
        bench.codes["watch"] = program(directory=str(folder))
        supervisor, bench.clock.now = bench.supervisor(), NOON + hours * HOUR
        supervisor.start(bench.pending(hours=hours))
        supervisor.wait()
    foreign = execution_directory(tmp_path / "monitor", "e", "watch", NOON + 2 * HOUR)
    (foreign / "notes.txt").write_text("mine")
    bench.clock.now = NOON + 31 * HOUR
    with start(bench, keep=timedelta(hours=10), keep_results=lambda _: timedelta(hours=5)):
        pass
    remaining = {path.parent.relative_to(tmp_path / "monitor/e/watch").as_posix() for path in tmp_path.rglob("*.json")}
    assert remaining == {"2026/01/05/14", "2026/01/06/18"}
    assert [execution.scheduled for execution in bench.ledger.executions.newest()] == [NOON + 30 * HOUR]


def test_a_directory_that_cannot_be_removed_is_logged(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other directories are removed, and the failure is logged at each cleanup."""
    for hours in (1, 30):
        folder = execution_directory(tmp_path / "monitor", "e", "watch", NOON + hours * HOUR)
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text("{}")
        bench.codes["watch"] = program(directory=str(folder))
        supervisor = bench.supervisor()
        supervisor.start(bench.pending(hours=hours))
        supervisor.wait()
    day = tmp_path / "monitor/e/watch/2026/01/05"
    shutil.rmtree(day)
    day.write_text("no folder")
    bench.clock.advance(100 * HOUR)
    stopwatch, keep = Stopwatch(), timedelta(hours=5)
    with caplog.at_level(logging.INFO), start(bench, keep_results=lambda _: keep, stopwatch=stopwatch) as run:
        assert run.leading
        stopwatch.ahead += CLEANUP_SECONDS
        run.round()
    assert not (tmp_path / "monitor/e/watch/2026/01/06").exists()
    assert sum(line.endswith(" removed (monitor.keep)") for line in caplog.messages) == 1
    assert sum("cannot be removed" in line for line in caplog.messages) == 2


def test_a_daemon_runs_until_a_stop_request(bench: Bench, golden: Golden) -> None:
    """It waits for running executions, removes its row in the ledger, and releases the leadership."""
    bench.codes["watch"] = program(seconds=0.3)
    bench.create()
    supervisor = bench.supervisor()
    bench.clock.advance(HOUR)

    def stop() -> None:
        wait_until(lambda: supervisor.running)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = make_daemon(bench, supervisor).run()
    thread.join()
    golden(outcome.message)
    assert bench.ledger.executions.newest()[0].status == Status.COMPLETED
    assert bench.ledger.daemons() == []
    with start(bench) as other:
        assert other.leading


@pytest.mark.parametrize("forced", [False, True])
def test_unfinished_executions_are_pending_again(bench: Bench, forced: bool) -> None:
    """Executions are ended after the grace period, or after a second signal."""
    bench.codes["watch"] = program(seconds=60)
    bench.create()
    with start(bench, grace_seconds=60.0 if forced else 0.1) as run:
        bench.clock.advance(HOUR)
        wake(run)
        run.round()
        for _ in range(2 if forced else 1):
            run.signals.request_stop()
    (execution,) = bench.ledger.executions.newest()
    assert (execution.status, execution.attempts) == (Status.PENDING, 1)


def test_rounds_are_frequent_enough_for_heartbeats(bench: Bench) -> None:
    """This also applies to a daemon that rarely looks for due executions, and while it drains."""
    bench.codes["watch"] = program(seconds=60)
    rare = replace(SETTINGS, poll_seconds=1000.0, grace_seconds=1000.0)
    supervisor = bench.supervisor()
    supervisor.start(bench.pending())
    run = DaemonRun(make_daemon(bench, supervisor, rare, lease_seconds=0.3), Signals(lambda: None))
    draining = threading.Thread(target=run.drain)
    draining.start()
    bench.clock.advance(HOUR)
    wait_until(lambda: bench.ledger.executions.running()[0].heartbeat == bench.clock())
    for _ in range(2):
        run.signals.request_stop()
    draining.join()
    assert make_daemon(bench, supervisor, rare).pause_seconds == LEASE / HEARTBEATS_PER_LEASE


def test_a_daemon_is_healthy_while_the_ledger_answers(bench: Bench) -> None:
    """The state for the health server contains the age of the last successful round."""
    stopwatch = Stopwatch()
    with start(bench, stopwatch=stopwatch) as run:
        state = run.state()
        assert (state.leading, state.healthy, state.running, state.workers) == (True, True, 0, 2)
        stopwatch.ahead += 1000
        assert not run.state().healthy


def end(bench: Bench, run: DaemonRun, hours: int, directory: str = "", **changes: Any) -> None:
    """Let a daemon run the execution of an hour to its end."""
    bench.codes["watch"] = program(directory=directory, **changes)
    bench.clock.now = NOON + hours * HOUR
    bench.pending(hours=hours)
    run.round()
    run._supervisor.wait()


def counted(record: logging.LogRecord) -> int:
    """Return the number of executions that a log record counts."""
    return int(str(record.args[1]).split()[0]) if record.funcName == "count" and isinstance(record.args, tuple) else 0


def test_only_changed_levels_are_logged(
    bench: Bench, results: dict[Mark, str], caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Windows with the same level, or with too few records, are only counted, once an hour."""
    caplog.set_level(logging.INFO)
    calm, violation, few = (results[mark] for mark in (Mark.NONE, Mark.VIOLATION, Mark.FEW))
    with start(bench) as run:
        for hours, directory in enumerate([calm, calm, few, violation, violation, few, violation, calm], 1):
            end(bench, run, hours, directory)
        end(bench, run, 9, status=Status.FAILED, failure_reason="access denied\nmore")
        end(bench, run, 10, status=Status.FAILED, failure_reason="access denied again")
        end(bench, run, 11, calm)
    news = [record for record in caplog.records if ": " in record.getMessage() and hasattr(record, "execution")]
    levels = [record.levelname for record in news]
    assert levels == ["INFO", "WARNING", "INFO", "ERROR", "INFO"]
    assert sum(counted(record) for record in caplog.records) == 6
    golden("\n".join(record.getMessage() for record in news), (re.escape(violation), "{result}"))


def test_a_new_daemon_knows_the_level_of_the_previous_window(
    bench: Bench, results: dict[Mark, str], caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """After a restart, an unchanged level is no news; the number of executions is logged at the end."""
    with start(bench) as run:
        end(bench, run, 1, results[Mark.NONE])
    caplog.set_level(logging.INFO)
    caplog.clear()
    with start(bench) as run:
        end(bench, run, 2, results[Mark.NONE])
    assert not [record for record in caplog.records if hasattr(record, "execution")]
    assert counted(caplog.records[-1]) == 1
    golden(caplog.messages[-1])


def test_an_unreadable_result_is_logged_as_before(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The line is the message of the execution."""
    caplog.set_level(logging.INFO)
    with start(bench) as run:
        end(bench, run, 1, "/nowhere", message=f"{(message := 'by another program')}\n  details")
    assert message in caplog.messages
