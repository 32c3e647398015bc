"""Daemons and executions are killed at random points; in the end everything is as if nothing had happened."""

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
from runner.scheduling.ledger.ledger import Ledger
from tests.history_samples import AlertHistory, settle, undone
from tests.processes import Daemon, start_daemon

pytestmark = pytest.mark.soak

KILLS = 200
HOURS = 12
SECONDS = 300.0
NOBODY = "nobody"
ENDED = [status for status in Status if status.terminal]
FAILED = frozenset({MANIFEST, REPORT, PDF, NOTEBOOK, SETTINGS})
WHOLE = {FAILED, FAILED | {ANALYSIS, DRIFT}, FAILED | {ANALYSIS, DRIFT, VIOLATIONS}}


@dataclass
class Killer:
    """Kills executions and daemons; for each daemon that is killed another one starts."""

    past: AlertHistory
    chance: random.Random
    daemons: list[Daemon] = field(default_factory=list)

    def start(self) -> Daemon:
        """Return a new daemon."""
        return start_daemon(self.past.root, *self.past.settings, "stage.poll_seconds=0.05")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have two daemons inside, and none afterwards."""
        self.daemons = [self.start(), self.start()]
        try:
            yield
        finally:
            for one in self.daemons:
                kill(one.process.pid)
                one.process.wait()

    def strike(self) -> str:
        """Kill an execution, or a daemon; return which. Mostly nobody is killed where nothing is executed."""
        executions = children([one.process.pid for one in self.daemons])
        if not any(executions) and self.chance.random() < 0.95:
            return NOBODY
        if any(executions) and self.chance.random() < 0.8:
            kill(self.chance.choice([process for processes in executions for process in processes]))
            return "execution"
        place = self.chance.randrange(2)
        kill(self.daemons[place].process.pid)
        self.daemons[place].process.wait()
        self.daemons[place] = self.start()
        return "busy daemon" if executions[place] else "idle daemon"


def torn(past: AlertHistory) -> list[str]:
    """Return the visible directories that are not whole."""
    return [f"{folder}: {sorted(held)}" for folder in past.directories() if (held := names(folder)) not in WHOLE]


def names(folder: Path) -> frozenset[str]:
    """Return what a directory holds; one that was replaced meanwhile is looked at again, one that is gone is whole."""
    while True:
        with suppress(FileNotFoundError):
            return frozenset(entry.name for entry in os.scandir(folder))
        if not folder.exists():
            return FAILED


def children(processes: Sequence[int]) -> list[list[int]]:
    """Return for each of some processes those that it has started."""
    listed = subprocess.run(["ps", "-e", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [[child for parent, child in pairs if parent == process] for process in processes]


def kill(process: int) -> None:
    """End a process without a warning."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def again(ledger: Ledger, statuses: list[Status]) -> None:
    """Have executions that ended so run again, as a backfill does."""
    for entry in ledger.executions.newest(statuses=statuses, limit=HOURS):
        ledger.executions.reset(entry.id, ledger.snapshot(entry.snapshot), entry.max_runtime, datetime.now(UTC))


def test_what_is_killed_at_random_is_as_if_nothing_had_happened(ledger_url: str, tmp_path: Path) -> None:
    """Two daemons and their executions, 200 kills: one terminal row a window, whole directories, the same bytes."""
    past = AlertHistory(tmp_path / "wild", HOURS, (f"ledger.url={ledger_url}", "ledger.lease_seconds=1"))
    calm = AlertHistory(tmp_path / "calm", HOURS)
    for each in (past, calm):
        each.prepare()
    killer, kills = Killer(past, random.Random(200)), Counter[str]()
    with Ledger(ledger_url, 30) as ledger:
        past.schedule(ledger, "schedule.overlap=allow")
        with killer.at_work():
            while kills.total() < KILLS:
                time.sleep(killer.chance.uniform(0, 0.3))
                kills[killer.strike()] += 1
                del kills[NOBODY]
                assert not torn(past)
                if len(undone(ledger)) < HOURS / 4:
                    again(ledger, ENDED)
            settle(ledger, SECONDS)
            again(ledger, [Status.FAILED])
            entries = settle(ledger, SECONDS)
    assert min(kills["execution"], 5 * kills["busy daemon"]) > KILLS / 4, kills
    assert [entry.scheduled for entry in entries][:HOURS] == [past.first + i * HOUR for i in range(1, HOURS + 1)]
    assert {entry.status for entry in entries} <= {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
    for i in range(len(entries)):
        calm("stage=monitor", f"stage.window={past.first + i * HOUR:%FT%H}")
    assert past.analyses() == calm.analyses()
    assert not list(past.root.glob("monitor/**/.*"))
