"""A ledger, a clock that tests set, and executions that are programs of a few lines."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson

from runner import subprocesses
from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, Snapshot
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.dispatcher import Dispatcher
from runner.scheduling.daemon.process import Child
from runner.scheduling.daemon.pulse import HeartbeatMonitor
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.ledger.ledger import Ledger
from runner.scheduling.timetable import Timetable, load
from tests.scheduling.ledger.ledger_samples import NOON
from tests.scheduling.test_timetable import HOURLY

LEASE = 60.0
SETTINGS = Snapshot("monitor: {name: watch}\n", "/")
numbers = itertools.count(1)


@dataclass
class Clock:
    """A time in UTC, and the seconds of a stopwatch, that go on when they are told to."""

    now: datetime = NOON
    seconds: float = 0.0

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def stopwatch(self) -> float:
        """Return the seconds."""
        return self.seconds

    def go_on(self, by: timedelta) -> None:
        """Let time go by."""
        self.now += by
        self.seconds += by.total_seconds()


def program(status: Status = Status.COMPLETED, seconds: float = 0, **told: str) -> str:
    """Return a program that takes so long and tells this."""
    line = orjson.dumps({"status": status, **told}).decode()
    return f"import sys, time; time.sleep({seconds}); print({line!r})"


def deaf(seconds: float = 60) -> str:
    """Return a program that hears no SIGTERM."""
    return f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep({seconds})"


def launched(code: str) -> Child:
    """Return the process of a program; what it says is told to nobody."""
    command = [sys.executable, "-S", "-c", code]
    return Child(lambda _: command, "/", subprocesses.environment(), lambda _: None)


@dataclass
class Bench:
    """What supervises, around one ledger.

    Attributes:
        codes: the program of the executions of each schedule.
        started: which executions were started, in this order.
    """

    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    codes: dict[str, str] = field(default_factory=dict)
    started: list[ExecutionRecord] = field(default_factory=list)

    def launch(self, entry: ExecutionRecord) -> Child:
        """Start the program of an execution."""
        self.started.append(entry)
        return launched(self.codes.get(entry.schedule, program()))

    def supervisor(self, owner: str = "", **changes: Any) -> Supervisor:
        """Return a supervisor of its own name."""
        parts: dict[str, Any] = {"launch": self.launch, "workers": 2, "grace_seconds": 5.0, **changes}
        pulse = HeartbeatMonitor(LEASE, self.clock.stopwatch)
        name = owner or f"owner-{next(numbers)}"
        return Supervisor(ledger=self.ledger, owner=name, pulse=pulse, clock=self.clock, **parts)

    def dispatcher(self, supervisor: Supervisor) -> Dispatcher:
        """Return a dispatcher."""
        return Dispatcher(self.ledger, supervisor, self.clock)

    def create(self, name: str = "watch", reference: str = "reference", **timetable: Any) -> Schedule:
        """Return a new schedule, hourly unless said otherwise."""
        return declaration(name, reference, **timetable).create(self.ledger, self.clock())

    def pending(self, name: str = "watch", hours: int = 1, **changes: Any) -> ExecutionRecord:
        """Return an execution that waits, scheduled so many hours after noon."""
        at = NOON + hours * HOUR
        values: dict[str, Any] = {"schedule": name, "endpoint": "e", "snapshot": SETTINGS, "revision": 1} | changes
        due = ScheduledTime(at, Window(at - HOUR, at), NOON)
        (entry,) = self.ledger.enter(**{"max_runtime": 60, **values}, dues=[due], now=NOON)
        return entry


def declaration(name: str = "watch", reference: str = "reference", **timetable: Any) -> Declaration:
    """Return what a monitor declares; hourly unless said otherwise."""
    return Declaration(name, "e", reference, hourly(**timetable), None, SETTINGS)


def hourly(**changes: Any) -> Timetable:
    """Return an hourly timetable with other settings."""
    return load(orjson.dumps({**HOURLY, "max_runtime": 60, **changes}).decode())


def wait_until(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something to become true; that it does not is a failure."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.0005)


def settled(bench: Bench, entry: ExecutionRecord, supervisor: Supervisor, seconds: float = 10) -> ExecutionRecord:
    """Return an execution once nobody works on it any more."""
    wait_until(partial(_idle, supervisor, entry), seconds)
    return bench.ledger.entry(entry.id)


def _idle(supervisor: Supervisor, entry: ExecutionRecord) -> bool:
    return entry.id not in supervisor.running
