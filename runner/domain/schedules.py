"""The nouns of time: schedules, what is due, and what the ledger knows of executions. All times are UTC."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from runner.domain.executions import Status, Window


class ScheduleStatus(StrEnum):
    """The statuses of a schedule, as SageMaker spells them."""

    SCHEDULED = "Scheduled"
    STOPPED = "Stopped"


def first_line(text: str) -> str:
    """Return what stands before a line's end."""
    return text.partition("\n")[0]


@dataclass(frozen=True)
class Snapshot:
    """Settings as they were when a schedule was created: an execution runs from them and from nothing else.

    Attributes:
        settings: the resolved configuration as YAML.
        folder: the working folder that its relative paths start from.
    """

    settings: str
    folder: str

    @property
    def digest(self) -> str:
        """The SHA-256 that the snapshot is known by."""
        return hashlib.sha256(f"{self.folder}\0{self.settings}".encode()).hexdigest()


@dataclass(frozen=True)
class ScheduledTime:
    """A scheduled time that has come.

    Attributes:
        scheduled: on the clock of the schedule, without the start buffer.
        window: the data that its execution looks at.
        start_at: when the execution may start.
        skipped: why there will be no execution, None where there will be one.
    """

    scheduled: datetime
    window: Window
    start_at: datetime
    skipped: str | None = None


@dataclass(frozen=True)
class Schedule:
    """A monitor and the times at which it is executed.

    Attributes:
        name: of the monitor; no two schedules share one.
        endpoint: what is monitored.
        timetable: when it is executed, as JSON.
        reference: what it is judged against, a path that starts from the snapshot's folder.
        max_runtime: seconds that an execution may take.
        snapshot: the digest of its settings.
        revision: how often it has been updated.
        cursor: every scheduled time up to here is in the ledger, or was never due.
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
class ExecutionRecord:
    """An execution as the ledger knows it; there is one for a schedule and a scheduled time.

    Attributes:
        id: a number that no other execution of the ledger has.
        schedule: the name of the schedule; it may be gone by now.
        revision: of the schedule when the entry was made.
        start_at: when it may start.
        max_runtime: seconds that it may take.
        snapshot: the digest of the settings it runs from.
        owner: the process that runs it, or ran it last.
        heartbeat: when the owner was last heard; it promises to be heard again within `lease_seconds`.
        attempts: how often it was started.
        started, ended: of the last attempt.
        peak_memory: of the process, in bytes.
        exit_message: what it had to say, at most 1,024 characters; failure_reason: why it failed or never ran.
        output: the directory of its results.
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
    started: datetime | None = None
    ended: datetime | None = None
    peak_memory: int | None = None
    exit_message: str | None = None
    failure_reason: str | None = None
    output: str | None = None

    @property
    def told(self) -> str:
        """How it went, in a line: status, window and why."""
        why = f": {self.failure_reason}" if self.failure_reason else ""
        return first_line(self.exit_message or f"{self.status}, {self.window}{why}")
