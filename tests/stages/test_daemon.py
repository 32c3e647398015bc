"""The daemon, round by round: leadership, unavailable ledgers, cleanup and shutdown."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.domain.executions import HOUR, Status
from runner.results.directory import ANALYSIS, MANIFEST, execution_directory
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.ledger.leadership import Leadership
from runner.scheduling.ledger.ledger import Ledger
from runner.stages.daemon import Daemon, DaemonStage
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import LEASE, Bench, declaration, program, wait_until
from tests.scheduling.ledger.ledger_samples import NOON

BUSY = 0.05
SETTINGS = DaemonStage("daemon", (), 1, poll_seconds=0.01, grace_seconds=5.0, host="127.0.0.1", port=None)


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
        "leadership": Leadership(bench.ledger),
        "supervisor": supervisor,
        "create_dispatcher": partial(bench.dispatcher, supervisor),
        "monitors": (),
        "health": None,
        "lease_seconds": LEASE,
        "keep": None,
        "keep_results": lambda _: None,
        "clock": bench.clock,
    }
    return Daemon(settings, **parts | changes)


@contextmanager
def leading(bench: Bench, **changes: Any) -> Iterator[Daemon]:
    """Yield a daemon after its first round, and stop it afterwards."""
    daemon = make_daemon(bench, **changes)
    try:
        daemon.round()
        yield daemon
    finally:
        daemon.settings = replace(SETTINGS, grace_seconds=0)
        daemon._drain()


def wake(daemon: Daemon) -> None:
    """Let a leader check all schedules in its next round."""
    assert daemon._dispatcher
    daemon._dispatcher.wake()


@contextmanager
def locked(bench: Bench) -> Iterator[None]:
    """Lock the ledger from another connection."""
    assert bench.ledger.file
    with closing(sqlite3.connect(bench.ledger.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_standby_takes_over_from_the_leader(bench: Bench) -> None:
    """The leader alone runs executions; after its end the standby continues with the same ledger."""
    bench.create()
    with leading(bench) as first, leading(bench) as second:
        assert (first.leading, second.leading) == (True, False)
        assert [daemon.leading for daemon in bench.ledger.daemons()] == [True, False]
        bench.clock.go_on(HOUR)
        wake(first)
        for daemon in (second, first):
            daemon.round()
        wait_until(lambda: not first.supervisor.running)
        first._drain()
        second.round()
        assert second.leading
        assert [daemon.owner for daemon in bench.ledger.daemons()] == [second.supervisor.owner]
        bench.clock.go_on(HOUR)
        wake(second)
        second.round()
        wait_until(lambda: not second.supervisor.running)
    owners = [entry.owner for entry in bench.ledger.entries()][::-1]
    assert owners == [first.supervisor.owner, second.supervisor.owner]


def test_a_new_leader_creates_and_updates_its_monitors(bench: Bench) -> None:
    """Missing schedules are created, changed ones updated, equal ones unchanged."""
    bench.create("old", expression="cron(0 0 ? * * *)")
    bench.create("same")
    with leading(bench, monitors=[declaration("new"), declaration("old"), declaration("same")]):
        schedules = bench.ledger.schedules()
    revisions = {each.name: (each.revision, '"cron(0 * ' in each.timetable) for each in schedules}
    assert revisions == {"new": (1, True), "old": (2, True), "same": (1, True)}


def test_an_unavailable_ledger_is_reported_once_and_used_again(
    bench: Bench, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Running executions continue, and the health facts contain the problem."""
    bench.codes["watch"] = program(seconds=0.3)
    bench.create()
    with leading(bench) as daemon, caplog.at_level(logging.INFO, "shapwatch"):
        bench.clock.go_on(HOUR)
        wake(daemon)
        daemon.round()
        daemon._last_heartbeat -= LEASE / 2
        with locked(bench):
            for _ in range(3):
                daemon.round()
            golden(daemon.facts().problem or "")
            assert daemon.facts().running == 1
        daemon.round()
        assert daemon.facts().problem is None
        wait_until(lambda: not daemon.supervisor.running)
    assert caplog.text.count("; trying again") <= 3
    assert caplog.messages.count("the ledger is available again") == 1
    assert bench.ledger.entries()[0].status == Status.COMPLETED


def test_a_leader_without_ledger_for_a_lease_steps_down(bench: Bench) -> None:
    """It ends its executions, which another daemon may have taken over, and leads again later."""
    bench.codes["watch"] = program(seconds=60)
    bench.create()
    with leading(bench) as daemon:
        bench.clock.go_on(HOUR)
        wake(daemon)
        daemon.round()
        assert daemon.facts().running == 1
        with locked(bench):
            daemon._last_heartbeat = time.monotonic() - LEASE - 1
            daemon.round()
            assert (daemon.leading, daemon.facts().running) == (False, 0)
        daemon.round()
        assert daemon.leading
        assert bench.ledger.entries()[0].status in {Status.PENDING, Status.IN_PROGRESS}
        assert bench.ledger.entries()[0].attempts <= 2


def test_a_leader_without_its_lock_file_steps_down(bench: Bench) -> None:
    """Otherwise a second daemon could lead at the same time."""
    with leading(bench) as daemon:
        assert bench.ledger.file
        bench.ledger.file.with_name("ledger.sqlite.leader").unlink()
        with leading(bench) as other:
            daemon.round()
            assert (daemon.leading, other.leading) == (False, True)


def test_expired_results_and_executions_are_removed(bench: Bench, tmp_path: Path) -> None:
    """Directories with other files and recent ones remain."""
    for hours in (1, 2, 30):
        folder = execution_directory(tmp_path / "monitor", "e", "watch", NOON + hours * HOUR)
        folder.mkdir(parents=True)
        for name in (ANALYSIS, MANIFEST):
            (folder / name).write_text("{}")
        bench.codes["watch"] = program(output=str(folder))
        supervisor, bench.clock.now = bench.supervisor(), NOON + hours * HOUR
        supervisor.start(bench.pending(hours=hours))
        supervisor.wait()
    foreign = execution_directory(tmp_path / "monitor", "e", "watch", NOON + 2 * HOUR)
    (foreign / "notes.txt").write_text("mine")
    bench.clock.now = NOON + 31 * HOUR
    with leading(bench, keep=timedelta(hours=10), keep_results=lambda _: timedelta(hours=5)):
        pass
    remaining = {path.parent.relative_to(tmp_path / "monitor/e/watch").as_posix() for path in tmp_path.rglob("*.json")}
    assert remaining == {"2026/01/05/14", "2026/01/06/18"}
    assert [entry.scheduled for entry in bench.ledger.entries()] == [NOON + 30 * HOUR]


def test_a_directory_that_cannot_be_removed_is_logged(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other directories are removed, and the failure is logged at each cleanup."""
    for hours in (1, 30):
        folder = execution_directory(tmp_path / "monitor", "e", "watch", NOON + hours * HOUR)
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text("{}")
        bench.codes["watch"] = program(output=str(folder))
        supervisor = bench.supervisor()
        supervisor.start(bench.pending(hours=hours))
        supervisor.wait()
    day = tmp_path / "monitor/e/watch/2026/01/05"
    shutil.rmtree(day)
    day.write_text("no folder")
    bench.clock.go_on(100 * HOUR)
    with caplog.at_level(logging.INFO), leading(bench, keep_results=lambda _: timedelta(hours=5)) as daemon:
        assert daemon.leading
        daemon._last_cleanup = float("-inf")
        daemon.round()
    assert not (tmp_path / "monitor/e/watch/2026/01/06").exists()
    assert sum(line.endswith(" removed (monitor.keep)") for line in caplog.messages) == 1
    assert sum("cannot be removed" in line for line in caplog.messages) == 2


def test_a_daemon_runs_until_a_stop_request(bench: Bench, golden: Golden) -> None:
    """It waits for running executions, removes its row in the ledger, and releases the leadership."""
    bench.codes["watch"] = program(seconds=0.5)
    bench.create()
    daemon = make_daemon(bench)
    bench.clock.go_on(HOUR)

    def stop() -> None:
        wait_until(lambda: daemon.supervisor.running)
        daemon._signals.request_stop()

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = daemon.run()
    thread.join()
    golden(outcome.message)
    assert bench.ledger.entries()[0].status == Status.COMPLETED
    assert bench.ledger.daemons() == []
    with leading(bench) as other:
        assert other.leading


@pytest.mark.parametrize("forced", [False, True])
def test_unfinished_executions_are_pending_again(bench: Bench, forced: bool) -> None:
    """Executions are ended after the grace period, or after a second signal."""
    bench.codes["watch"] = program(seconds=60)
    bench.create()
    daemon = make_daemon(bench, settings=replace(SETTINGS, grace_seconds=60.0 if forced else 0.1))
    bench.clock.go_on(HOUR)
    daemon.round()
    daemon._signals.request_stop()
    if forced:
        daemon._signals.request_stop()
    daemon._drain()
    (entry,) = bench.ledger.entries()
    assert (entry.status, entry.attempts) == (Status.PENDING, 1)


def test_a_daemon_is_well_while_the_ledger_answers(bench: Bench) -> None:
    """The facts for the health server have the state of the last round."""
    with leading(bench) as daemon:
        facts = daemon.facts()
        assert (facts.leading, facts.well, facts.running, facts.workers) == (True, True, 0, 2)
        daemon._last_round -= 1000
        assert not daemon.facts().well
