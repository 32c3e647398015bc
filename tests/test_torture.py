"""Daemons and executions are killed at random points; the results are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.domain.executions import HOUR, Status
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST, NOTEBOOK, PDF, REPORT, SETTINGS, VIOLATIONS
from runner.scheduling.ledger import Ledger
from tests.history_samples import TrafficHistory, settle, unfinished
from tests.processes import Daemon, start_daemon

pytestmark = pytest.mark.soak

KILLS = 200
HOURS = 12
SETTLE_SECONDS = 300.0
NOTHING = "nothing"
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
                kill(one.process.pid)
                one.process.wait()

    def kill_one(self) -> str:
        """Kill an execution or a daemon, and return its kind; seldom a daemon without executions."""
        executions = children([one.process.pid for one in self.daemons])
        if not any(executions) and self.random.random() < 0.95:
            return NOTHING
        if any(executions) and self.random.random() < 0.8:
            kill(self.random.choice([process for processes in executions for process in processes]))
            return "execution"
        index = self.random.randrange(2)
        kill(self.daemons[index].process.pid)
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
            return frozenset(entry.name for entry in os.scandir(folder))
        if not folder.exists():
            return FAILED


def children(processes: Sequence[int]) -> list[list[int]]:
    """Return for each process the processes that it started."""
    listed = subprocess.run(["ps", "-e", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [[child for parent, child in pairs if parent == process] for process in processes]


def kill(process: int) -> None:
    """Kill a process with SIGKILL."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


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
