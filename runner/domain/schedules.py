"""Schedules, their scheduled times, and the records of executions in the ledger. All times are UTC."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from runner.domain.executions import Status, Window


class ScheduleStatus(StrEnum):
    """Status of a schedule, with SageMaker's names."""

    SCHEDULED = "Scheduled"
    STOPPED = "Stopped"


def first_line(text: str) -> str:
    """Return the first line of a string."""
    return text.partition("\n")[0]


@dataclass(frozen=True)
class Snapshot:
    """Settings at the time of a schedule's creation or update; its executions use no other settings.

    Attributes:
        settings: resolved configuration as YAML.
        folder: base folder of relative paths in the settings.
    """

    settings: str
    folder: str

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the snapshot."""
        return hashlib.sha256(f"{self.folder}\0{self.settings}".encode()).hexdigest()


@dataclass(frozen=True)
class ScheduledTime:
    """A scheduled time that is due.

    Attributes:
        scheduled: scheduled time, without the start buffer.
        window: analyzed period.
        start_at: earliest start of the execution.
        skipped: reason for not running the execution; None if it runs.
    """

    scheduled: datetime
    window: Window
    start_at: datetime
    skipped: str | None = None


@dataclass(frozen=True)
class Schedule:
    """A monitor and its timetable.

    Attributes:
        name: unique name of the schedule and of its monitor.
        endpoint: monitored endpoint.
        status: whether executions are planned.
        timetable: timetable as JSON.
        reference: path of the reference, relative to the snapshot's folder.
        max_runtime: maximum duration of an execution, in seconds.
        snapshot: digest of the settings.
        created, modified: times of creation and of the last change.
        cursor: time up to which all due executions are in the ledger.
        revision: 1 plus the number of updates.
    """

    name: str
    endpoint: str
    status: ScheduleStatus
    timetable: str
    reference: str
    max_runtime: int
    snapshot: str
    created: datetime
    modified: datetime
    cursor: datetime
    revision: int = 1


@dataclass(frozen=True)
class Claim:
    """The right of a process to run an execution and to write its result, until another process claims it.

    Attributes:
        execution_id: id of the execution.
        owner: process that claimed it.
        attempt: number of the start; no two claims of an execution have the same owner and number.
    """

    execution_id: int
    owner: str
    attempt: int

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the claim without the name of a machine."""
        return hashlib.sha256(f"{self.execution_id}\0{self.owner}\0{self.attempt}".encode()).hexdigest()


@dataclass(frozen=True)
class ExecutionRecord:
    """Record of an execution in the ledger, unique per schedule and scheduled time.

    Attributes:
        id: unique number in the ledger.
        schedule: name of the schedule, which may have been deleted since.
        endpoint: monitored endpoint.
        revision: revision of the schedule when the record was added; 0 for a backfill.
        scheduled: scheduled time.
        window: analyzed period.
        status: status of the execution.
        start_at: earliest start.
        max_runtime: maximum duration in seconds.
        snapshot: digest of the settings.
        created, modified: times of creation and of the last change.
        owner: process that runs the execution, or ran it last.
        heartbeat: time of the owner's last heartbeat.
        lease_seconds: seconds without heartbeat after which the owner is considered dead.
        attempts: number of starts.
        losses: number of owners that died during the execution, or during the publication of its recorded result.
        started, ended: start and end of the last attempt.
        peak_memory: peak memory of the process in bytes.
        exit_message: message of the execution, at most 1,024 characters.
        failure_reason: reason for failing, for not running, or for the lack of a verdict.
        output: directory of the results.
    """

    id: int
    schedule: str
    endpoint: str
    revision: int
    scheduled: datetime
    window: Window
    status: Status
    start_at: datetime
    max_runtime: int
    snapshot: str
    created: datetime
    modified: datetime
    owner: str | None = None
    heartbeat: datetime | None = None
    lease_seconds: float | None = None
    attempts: int = 0
    losses: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    peak_memory: int | None = None
    exit_message: str | None = None
    failure_reason: str | None = None
    output: str | None = None

    @property
    def claim(self) -> Claim:
        """Last claim of the execution."""
        return Claim(self.id, self.owner or "", self.attempts)

    @property
    def summary(self) -> str:
        """First line of the message; without a message, status, window and failure reason."""
        reason = f": {self.failure_reason}" if self.failure_reason else ""
        return first_line(self.exit_message or f"{self.status}, {self.window}{reason}")
