"""A ledger, an adjustable clock, and small programs as executions."""

from __future__ import annotations

import itertools
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from runner import subprocesses
from runner.domain.executions import HOUR, Execution, Status, Window
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, Snapshot
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.dispatcher import Dispatcher
from runner.scheduling.daemon.process import Child
from runner.scheduling.daemon.supervisor import HeartbeatMonitor, Supervisor
from runner.scheduling.ledger import Ledger
from runner.scheduling.timetable import Timetable, load
from tests.processes import wait_until
from tests.scheduling.ledger.ledger_samples import NOON
from tests.scheduling.timetable_samples import HOURLY

LEASE = 60.0
SETTINGS = Snapshot("monitor: {name: watch}\n", "/")
numbers = itertools.count(1)


@dataclass
class Clock:
    """A clock in UTC and a stopwatch, which tests advance."""

    now: datetime = NOON
    seconds: float = 0.0

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def stopwatch(self) -> float:
        """Return the seconds."""
        return self.seconds

    def advance(self, by: timedelta) -> None:
        """Advance both."""
        self.now += by
        self.seconds += by.total_seconds()


def result(status: Status = Status.COMPLETED, **changes: Any) -> Execution:
    """Return the result of an execution."""
    return replace(Execution("", status=status), **changes)


def program(status: Status = Status.COMPLETED, seconds: float = 0, **changes: Any) -> str:
    """Return a program that sleeps, and reports a result."""
    line = orjson.dumps(asdict(result(status, **changes))).decode()
    return f"import sys, time; time.sleep({seconds}); print({line!r})"


def waiting_program(released: Path) -> str:
    """Return a program that reports a result when a file exists."""
    return f"import os, time\nwhile not os.path.exists({str(released)!r}): time.sleep(0.01)\n{program()}"


def stubborn_program(seconds: float = 60) -> str:
    """Return a program that ignores SIGTERM."""
    return f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep({seconds})"


def start_program(code: str) -> Child:
    """Return the process of a program; its standard error is discarded."""
    command = [sys.executable, "-I", "-S", "-c", code]
    return Child(lambda _: command, "/", subprocesses.environment(), lambda _: None)


@dataclass
class Bench:
    """Components around a ledger.

    Attributes:
        ledger: ledger.
        clock: clock of all components.
        codes: program of the executions by schedule.
        started: started executions in order.
        published: executions whose failures were published, in order.
    """

    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    codes: dict[str, str] = field(default_factory=dict)
    started: list[ExecutionRecord] = field(default_factory=list)
    published: list[ExecutionRecord] = field(default_factory=list)

    def launch(self, execution: ExecutionRecord) -> Child:
        """Start the program of an execution, or one that publishes its failure."""
        if execution.status.terminal:
            self.published.append(execution)
            failed = program(Status.FAILED, message="a sink failed")
            return start_program(self.codes.get("publication", failed))
        self.started.append(execution)
        return start_program(self.codes.get(execution.schedule, program()))

    def supervisor(self, owner: str = "", **changes: Any) -> Supervisor:
        """Return a supervisor with a unique name."""
        parts: dict[str, Any] = {"launch": self.launch, "workers": 2, "grace_seconds": 5.0, **changes}
        heartbeats = HeartbeatMonitor(LEASE, self.clock.stopwatch)
        name = owner or f"owner-{next(numbers)}"
        return Supervisor(
            executions=self.ledger.executions, owner=name, heartbeats=heartbeats, clock=self.clock, **parts
        )

    def dispatcher(self, supervisor: Supervisor) -> Dispatcher:
        """Return a dispatcher."""
        return Dispatcher(self.ledger, supervisor, self.clock, self.clock.stopwatch)

    def create(self, name: str = "watch", reference: str = "reference", **timetable: Any) -> Schedule:
        """Create a schedule, by default an hourly one."""
        return declaration(name, reference, **timetable).create(self.ledger.schedules, self.clock())

    def pending(
        self, name: str = "watch", hours: int = 1, snapshot: Snapshot = SETTINGS, **changes: Any
    ) -> ExecutionRecord:
        """Add a pending execution, scheduled some hours after noon."""
        at = NOON + hours * HOUR
        schedule = replace(declaration(name).schedule(NOON), snapshot=snapshot.digest, **changes)
        due = ScheduledTime(at, Window(at - HOUR, at), NOON)
        (execution,) = self.ledger.executions.add(schedule, snapshot, [due], NOON)
        return execution


def declaration(name: str = "watch", reference: str = "reference", **timetable: Any) -> Declaration:
    """Return a declaration, by default hourly."""
    return Declaration(name, "e", reference, hourly(**timetable), None, SETTINGS)


def hourly(**changes: Any) -> Timetable:
    """Return an hourly timetable with changed settings."""
    return load(orjson.dumps({**HOURLY, "max_runtime": 60, **changes}).decode())


def wait_for_end(bench: Bench, execution: ExecutionRecord, supervisor: Supervisor) -> ExecutionRecord:
    """Wait for the end of an execution, and return its record."""
    wait_until(lambda: execution.id not in supervisor.running)
    return bench.ledger.executions.get(execution.id)
