"""A year of an hourly schedule, with everything that happens in a year, in a few seconds of a clock that is set."""

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
from runner.scheduling.daemon.process import Child, End
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.ledger.ledger import Ledger
from tests.scheduling.daemon.supervisor_bench import LEASE, Bench, Clock, wait_until
from tests.scheduling.ledger.ledger_samples import BUSY

pytestmark = pytest.mark.soak

YEAR = 2028
START = datetime(YEAR, 1, 1, tzinfo=UTC)
HOURS = (366 if calendar.isleap(YEAR) else 365) * 24
MINUTE = timedelta(minutes=1)
UNDONE = [status for status in Status if not status.terminal]


@dataclass
class Program:
    """An execution without a process: it ends when it is to, and with whoever watches it."""

    done: Event = field(default_factory=Event)

    def wait(self, _: float | None = None) -> End:
        """Return that it completed."""
        self.done.wait()
        return End(0, 1, '{"status": "Completed"}', "")


@dataclass
class Year:
    """The world around a ledger: daemons that are killed, outages, executions that take long."""

    bench: Bench
    chance: random.Random
    begun: list[datetime] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    kills: int = 0

    def launch(self, entry: ExecutionRecord) -> Child:
        """Start an execution; one of ten takes long."""
        self.begun.append(entry.scheduled)
        program = Program()
        self.programs.append(program)
        if self.chance.random() > 0.1:
            program.done.set()
        return cast(Child, program)

    def daemon(self) -> tuple[Dispatcher, Supervisor]:
        """Return a new daemon."""
        supervisor = self.bench.supervisor(launch=self.launch)
        return self.bench.dispatcher(supervisor), supervisor

    def kill(self, supervisor: Supervisor) -> None:
        """Let a daemon and what it runs end without a word."""
        self.kills += 1
        supervisor._abandoned.set()
        self.complete(supervisor)

    def complete(self, supervisor: Supervisor) -> None:
        """Let all executions come to their end."""
        while self.programs:
            self.programs.pop().done.set()
        wait_until(lambda: not supervisor.running)

    def go_through(self) -> None:
        """Let the year go by, and a little more."""
        clock = self.bench.clock
        dispatcher, supervisor = self.daemon()
        while clock() < START + (HOURS + 72) * HOUR:
            dispatcher.wake()  # as its alarm does
            dispatcher.round()
            while self.chance.random() < 0.35:
                self.complete(supervisor)
                dispatcher.round()
            luck = self.chance.random()
            if luck < 0.03:
                self.kill(supervisor)
                dispatcher, supervisor = self.daemon()
                clock.go_on(HOUR * min(200, int(self.chance.paretovariate(0.8))))
            elif luck < 0.04:
                clock.now -= self.chance.randint(1, 90) * MINUTE
            clock.go_on(self.chance.randint(15, 75) * MINUTE)
        while self.bench.ledger.entries(statuses=UNDONE):
            dispatcher.round()
            self.complete(supervisor)
            clock.go_on(timedelta(seconds=LEASE))


def test_every_hour_of_a_year_is_run_once_or_says_why_not(tmp_path: Path) -> None:
    """Outages, kills, a leap day, a clock that is set back: none is lost, none is there twice."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        year = Year(Bench(ledger, Clock(START)), random.Random(2028))
        year.bench.create(max_catch_up=48)
        year.go_through()
        entries = ledger.entries("watch", newest=100_000)[::-1][:HOURS]
    assert [entry.scheduled for entry in entries] == [START + i * HOUR for i in range(1, HOURS + 1)]
    assert all(entry.window == Window(entry.scheduled - HOUR, entry.scheduled) for entry in entries)
    told: Counter[Any] = Counter(
        (str(entry.status), (entry.failure_reason or "").partition(":")[0]) for entry in entries
    )
    reasons = {(Status.COMPLETED, ""), (Status.STOPPED, "not run"), (Status.FAILED, "given up")}
    assert told.keys() <= reasons
    assert told[Status.COMPLETED, ""] > 0.7 * HOURS
    assert told[Status.STOPPED, "not run"] > 100
    assert year.kills > 100
    begun = Counter(year.begun)
    assert all(begun[entry.scheduled] == entry.attempts for entry in entries)
    assert any(entry.scheduled == datetime(YEAR, 2, 29, 12, tzinfo=UTC) for entry in entries)
