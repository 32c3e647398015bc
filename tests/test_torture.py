"""Daemons and executions are killed at random points; the results are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST, NOTEBOOK, PDF, REPORT, SETTINGS, VIOLATIONS
from runner.scheduling.daemon.supervisor import MAX_LOSSES
from runner.scheduling.ledger import Ledger
from tests.history_samples import TrafficHistory, settle, unfinished
from tests.models.servers import RunningServer, always, serving
from tests.postgres import server
from tests.processes import Daemon, start_daemon, wait_until

pytestmark = pytest.mark.soak

KILLS = 200
HOURS = 12
SETTLE_SECONDS = 300.0
SIGNALS = 500
"""Number of signals for each kind of ledger."""
SIGNALLED_HOURS = 8
MAX_SUSPENDED = 4
DISTURBANCE = 12
"""Number of signals between two disturbances of the ledger."""
KINDS = ("hold", "restart", "cut")
LEASE = 2.0
STUCK_SECONDS = 60.0
"""Seconds after the lease of a dead owner within which each execution must have ended."""
NOTHING = "nothing"
DONE = {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
TERMINAL = [status for status in Status if status.terminal]
FAILED = frozenset({MANIFEST, REPORT, PDF, NOTEBOOK, SETTINGS})
COMPLETE = {FAILED, FAILED | {ANALYSIS, DRIFT}, FAILED | {ANALYSIS, DRIFT, VIOLATIONS}}


@dataclass
class Killer:
    """Kills executions and daemons, and replaces each killed daemon."""

    history: TrafficHistory
    random: random.Random
    daemons: list[Daemon] = field(default_factory=list)

    def start(self) -> Daemon:
        """Start a daemon."""
        return start_daemon(self.history.root, *self.history.settings, "stage.poll_seconds=0.05")

    @contextmanager
    def two_daemons(self) -> Iterator[None]:
        """Run two daemons, and kill both at the end."""
        self.daemons = [self.start(), self.start()]
        try:
            yield
        finally:
            for one in self.daemons:
                send(one.process.pid, signal.SIGKILL)
                one.process.wait()

    def kill_one(self) -> str:
        """Kill an execution or a daemon, and return its kind; seldom a daemon without executions."""
        executions = children([one.process.pid for one in self.daemons])
        if not any(executions) and self.random.random() < 0.95:
            return NOTHING
        if any(executions) and self.random.random() < 0.8:
            send(self.random.choice([process for processes in executions for process in processes]), signal.SIGKILL)
            return "execution"
        index = self.random.randrange(2)
        send(self.daemons[index].process.pid, signal.SIGKILL)
        self.daemons[index].process.wait()
        self.daemons[index] = self.start()
        return "busy daemon" if executions[index] else "idle daemon"


def incomplete(history: TrafficHistory) -> list[str]:
    """Return the visible directories with missing or unexpected files."""
    return [
        f"{folder}: {sorted(found)}"
        for folder in history.directories()
        if (found := file_names(folder)) not in COMPLETE
    ]


def file_names(folder: Path) -> frozenset[str]:
    """Return the file names of a directory, read again after a replacement; a removed directory counts as complete."""
    while True:
        with suppress(FileNotFoundError):
            before = folder.stat()
            names = frozenset(entry.name for entry in os.scandir(folder))
            if os.path.samestat(before, folder.stat()):
                return names
        if not folder.exists():
            return FAILED


def children(processes: Sequence[int]) -> list[list[int]]:
    """Return for each process the processes that it started."""
    listed = subprocess.run(["ps", "-e", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [[child for parent, child in pairs if parent == process] for process in processes]


def redo(ledger: Ledger, statuses: list[Status]) -> None:
    """Repeat the executions with these statuses, as a backfill does."""
    for entry in ledger.executions.newest(statuses=statuses, limit=HOURS):
        ledger.executions.reset(entry.id, ledger.snapshot(entry.snapshot), entry.max_runtime, datetime.now(UTC))


def test_random_kills_leave_no_trace(ledger_url: str, tmp_path: Path) -> None:
    """After 200 kills there is one finished row per window, every directory is complete, and all bytes are the same."""
    history = TrafficHistory(tmp_path / "killed", HOURS, (f"ledger.url={ledger_url}", "ledger.lease_seconds=1"))
    calm = TrafficHistory(tmp_path / "calm", HOURS)
    for each in (history, calm):
        each.prepare()
    killer, kills = Killer(history, random.Random(200)), Counter[str]()
    with Ledger(ledger_url, 30) as ledger:
        history.schedule(ledger, "schedule.overlap=allow")
        with killer.two_daemons():
            while kills.total() < KILLS:
                time.sleep(killer.random.uniform(0, 0.3))
                kills[killer.kill_one()] += 1
                del kills[NOTHING]
                assert not incomplete(history)
                if len(unfinished(ledger)) < HOURS / 4:
                    redo(ledger, TERMINAL)
            settle(ledger, SETTLE_SECONDS)
            redo(ledger, [Status.FAILED])
            entries = settle(ledger, SETTLE_SECONDS)
    assert min(kills["execution"], 5 * kills["busy daemon"]) > KILLS / 4, kills
    assert [entry.scheduled for entry in entries][:HOURS] == [history.first + i * HOUR for i in range(1, HOURS + 1)]
    assert {entry.status for entry in entries} <= {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
    for i in range(len(entries)):
        calm("stage=monitor", f"stage.window={history.first + i * HOUR:%FT%H}")
    assert history.analyses() == calm.analyses()
    assert not list(history.root.glob("monitor/**/.*"))


@dataclass
class Chaos(Killer):
    """Suspends, continues and kills daemons and everything they started, and disturbs their ledger.

    Attributes:
        suspended: processes that are suspended.
    """

    suspended: list[int] = field(default_factory=list)

    def signal_one(self) -> str:
        """Send a signal to a process, and return the name of the signal; nothing if no execution is running."""
        executions = descendants([one.process.pid for one in self.daemons])
        if not executions and not self.suspended:
            return NOTHING
        if self.suspended and (len(self.suspended) >= MAX_SUSPENDED or self.random.random() < 0.4):
            return send(self.suspended.pop(self.random.randrange(len(self.suspended))), signal.SIGCONT)
        number = signal.SIGKILL if self.random.random() < 0.35 else signal.SIGSTOP
        if executions and self.random.random() < 0.85:
            process = self.random.choice(executions)
        else:
            process = self.random.choice(self.daemons).process.pid
        if number == signal.SIGSTOP:
            self.suspended.append(process)
        send(process, number)
        self.replace_killed()
        return number.name

    def replace_killed(self) -> None:
        """Start a daemon for each one that has ended."""
        time.sleep(0.01)
        for index, one in enumerate(self.daemons):
            if one.process.poll() is not None:
                self.daemons[index] = self.start()

    def continue_all(self) -> None:
        """Continue all suspended processes."""
        while self.suspended:
            send(self.suspended.pop(), signal.SIGCONT)


def descendants(processes: Sequence[int]) -> list[int]:
    """Return all processes that these processes, and those started by them, have started."""
    found = [child for each in children(processes) for child in each]
    return found + descendants(found) if found else []


def send(process: int, number: signal.Signals) -> str:
    """Send a signal, and return its name."""
    with suppress(ProcessLookupError):
        os.kill(process, number)
    return number.name


def disturb(url: str, kind: str, seconds: float) -> None:
    """Hold the ledger for some time, restart its server, or cut all connections."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), 1, isolation_level=None)) as connection:
            with suppress(sqlite3.OperationalError):  # a suspended daemon holds it
                connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
    elif kind == "hold":
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE executions, daemons IN ACCESS EXCLUSIVE MODE")
            time.sleep(seconds)
    elif kind == "restart":
        with server().unreachable(url):
            time.sleep(seconds)
    else:
        name = url.rpartition("/")[2]
        server().execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608


def ended(ledger: Ledger) -> list[ExecutionRecord]:
    """Return the executions that have ended and are published; none if the ledger does not answer."""
    try:
        return [each for each in ledger.executions.newest(limit=10_000) if each.status.terminal and each.ended]
    except LedgerError:
        return []


def unsettled(ledger: Ledger) -> list[ExecutionRecord]:
    """Return the executions that have not ended, or are not yet published."""
    return [*unfinished(ledger), *ledger.executions.running()]


def repeat(ledger: Ledger, execution: ExecutionRecord) -> bool:
    """Repeat an execution, as a backfill does; return whether the ledger answered."""
    try:
        snapshot = ledger.snapshot(execution.snapshot)
        return ledger.executions.reset(execution.id, snapshot, execution.max_runtime, datetime.now(UTC))
    except LedgerError:
        return False


def check_no_fault(executions: Sequence[ExecutionRecord]) -> None:
    """Check that executions failed only if their own process was killed."""
    failures = [each for each in executions if each.status is Status.FAILED]
    assert [each.failure_reason for each in failures if "SIGKILL" not in (each.failure_reason or "")] == []
    assert {each.status for each in executions} <= DONE | {Status.FAILED}


def publications(collector: RunningServer) -> list[datetime]:
    """Return the scheduled times of the published executions, in the order of the requests."""
    times = []
    for seen in list(collector.seen):
        (resource,) = ExportMetricsServiceRequest.FromString(seen.body).resource_metrics
        metrics = {each.name: each.gauge.data_points for scope in resource.scope_metrics for each in scope.metrics}
        (scheduled,) = metrics["shapwatch.execution_scheduled_timestamp_seconds"]
        times.append(datetime.fromtimestamp(scheduled.as_double, UTC))
    return times


def test_random_signals_and_failures_of_the_ledger_leave_no_trace(ledger_url: str, tmp_path: Path) -> None:
    """No hour is lost, doubled or stuck, none fails without a fault of its own, and each is published.

    On a slow machine, the pauses between signals are longer, so that executions can end.
    """
    chaos_random = random.Random(500)
    with serving(always(200, "")) as collector:
        settings = (f"ledger.url={ledger_url}", f"ledger.lease_seconds={LEASE:g}", "ledger.busy_seconds=1")
        sink = ("publish=[otel]", f"publish.otel.endpoint={collector.url}/v1/metrics")
        history = TrafficHistory(tmp_path / "chaos", SIGNALLED_HOURS, (*settings, *sink))
        calm = TrafficHistory(tmp_path / "calm", SIGNALLED_HOURS)
        for each in (history, calm):
            each.prepare()
        pause = calm.seconds() / 3
        chaos, signals, since = Chaos(history, chaos_random), Counter[str](), Counter[datetime]()

        def check(executions: Sequence[ExecutionRecord]) -> None:
            """Check executions that have ended; each was published since it was repeated last."""
            check_no_fault(executions)
            times = publications(collector)
            for each in executions:
                assert 1 <= times[since[each.scheduled] :].count(each.scheduled) <= MAX_LOSSES, each

        with Ledger(ledger_url, 1) as ledger:
            history.schedule(ledger, "schedule.overlap=allow")
            with chaos.two_daemons():
                while signals.total() < SIGNALS:
                    time.sleep(chaos_random.uniform(0, pause))
                    if (name := chaos.signal_one()) != NOTHING:
                        signals[name] += 1
                        if signals.total() % DISTURBANCE == 0:
                            disturb(ledger_url, chaos_random.choice(KINDS), chaos_random.uniform(0, 2 * LEASE))
                    assert not incomplete(history)
                    if len(executions := ended(ledger)) > SIGNALLED_HOURS / 2:
                        check(executions)
                        for execution in executions:
                            requests = len(collector.seen)
                            if repeat(ledger, execution):
                                since[execution.scheduled] = requests
                chaos.continue_all()
                wait_until(lambda: not unsettled(ledger), LEASE + STUCK_SECONDS)
                check(ended(ledger))
                redo(ledger, [Status.FAILED])
                entries = settle(ledger, SETTLE_SECONDS)
    assert min(signals[each.name] for each in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL)) > SIGNALS // 10, signals
    hours = [history.first + i * HOUR for i in range(1, SIGNALLED_HOURS + 1)]
    assert [entry.scheduled for entry in entries][:SIGNALLED_HOURS] == hours
    assert {entry.status for entry in entries} <= DONE
    for i in range(len(entries)):
        calm("stage=monitor", f"stage.window={history.first + i * HOUR:%FT%H}")
    assert history.analyses() == calm.analyses()
    assert not list(history.root.glob("monitor/**/.*"))
