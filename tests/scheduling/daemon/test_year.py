"""A simulated year of an hourly schedule with killed daemons, outages and clock changes."""

from __future__ import annotations

import calendar
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import ExecutionRecord
from runner.scheduling.daemon.dispatcher import Dispatcher
from runner.scheduling.daemon.process import Child, ProcessExit
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.ledger import Ledger
from tests.processes import wait_until
from tests.scheduling.daemon.bench import LEASE, Bench, Clock
from tests.scheduling.ledger.ledger_samples import BUSY

pytestmark = pytest.mark.soak

YEAR = 2028
START = datetime(YEAR, 1, 1, tzinfo=UTC)
HOURS = (366 if calendar.isleap(YEAR) else 365) * 24
MINUTE = timedelta(minutes=1)
UNFINISHED = [status for status in Status if not status.terminal]


@dataclass
class Program:
    """A replacement of a process, which ends on request."""

    done: Event = field(default_factory=Event)

    def wait(self, _: float | None = None) -> ProcessExit:
        """Wait for the end, and return a completed result."""
        self.done.wait()
        return ProcessExit(0, 1, '{"message": "", "status": "Completed"}', "")


@dataclass
class Year:
    """A simulation of killed daemons, outages and long executions around a ledger."""

    bench: Bench
    chance: random.Random
    started: list[datetime] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    kills: int = 0

    def launch(self, execution: ExecutionRecord) -> Child:
        """Start an execution; one in ten takes long."""
        self.started.append(execution.scheduled)
        program = Program()
        self.programs.append(program)
        if self.chance.random() > 0.1:
            program.done.set()
        return cast(Child, program)

    def daemon(self) -> tuple[Dispatcher, Supervisor]:
        """Return the components of a new daemon."""
        supervisor = self.bench.supervisor(launch=self.launch)
        return self.bench.dispatcher(supervisor), supervisor

    def kill(self, supervisor: Supervisor) -> None:
        """End a daemon and its executions without any record."""
        self.kills += 1
        supervisor._abandoned.set()
        self.complete(supervisor)

    def complete(self, supervisor: Supervisor) -> None:
        """End all executions."""
        while self.programs:
            self.programs.pop().done.set()
        wait_until(lambda: not supervisor.running)

    def simulate(self) -> None:
        """Simulate the year and three more days."""
        clock = self.bench.clock
        dispatcher, supervisor = self.daemon()
        while clock() < START + (HOURS + 72) * HOUR:
            dispatcher.wake()  # as an alarm does
            dispatcher.round()
            while self.chance.random() < 0.35:
                self.complete(supervisor)
                dispatcher.round()
            event = self.chance.random()
            if event < 0.03:
                self.kill(supervisor)
                dispatcher, supervisor = self.daemon()
                clock.advance(HOUR * min(200, int(self.chance.paretovariate(0.8))))
            elif event < 0.04:
                clock.now -= self.chance.randint(1, 90) * MINUTE
            clock.advance(self.chance.randint(15, 75) * MINUTE)
        while self.bench.ledger.executions.newest(statuses=UNFINISHED):
            dispatcher.round()
            self.complete(supervisor)
            clock.advance(timedelta(seconds=LEASE))


def test_each_hour_of_a_year_runs_once_or_has_a_reason(tmp_path: Path) -> None:
    """No hour is lost or repeated by outages, kills, the leap day or a clock that is set back."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        year = Year(Bench(ledger, Clock(START)), random.Random(2028))
        year.bench.create(max_catch_up=48)
        year.simulate()
        executions = ledger.executions.newest("watch", limit=100_000)[::-1][:HOURS]
    assert [each.scheduled for each in executions] == [START + i * HOUR for i in range(1, HOURS + 1)]
    assert all(each.window == Window(each.scheduled - HOUR, each.scheduled) for each in executions)
    counts: Counter[Any] = Counter(
        (str(each.status), (each.failure_reason or "").partition(":")[0]) for each in executions
    )
    reasons = {(Status.COMPLETED, ""), (Status.STOPPED, "not run"), (Status.FAILED, "given up")}
    assert counts.keys() <= reasons
    assert counts[Status.COMPLETED, ""] > 0.7 * HOURS
    assert counts[Status.STOPPED, "not run"] > 100
    assert year.kills > 100
    starts = Counter(year.started)
    assert all(starts[each.scheduled] == each.attempts for each in executions)
    assert any(each.scheduled == datetime(YEAR, 2, 29, 12, tzinfo=UTC) for each in executions)
