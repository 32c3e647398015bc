"""What becomes of an execution: told by its process in one line, or concluded from how the process ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from runner.domain.executions import Execution, Status
from runner.domain.schedules import ExecutionRecord
from runner.scheduling.daemon.process import End

MOST_ATTEMPTS = 3
"""An execution that is lost so often, with the process that watched it, is not tried again."""


@dataclass(frozen=True)
class Result:
    """How an execution ended: what the ledger writes down.

    Attributes:
        status: a terminal one, or Pending to have it run again.
    """

    status: Status
    exit_message: str | None = None
    failure_reason: str | None = None
    output: str | None = None
    peak_memory: int | None = None


STOPPED_BY_HAND = Result(Status.STOPPED, failure_reason="stopped by hand while it was running")
RUN_AGAIN = Result(Status.PENDING)


def answer(execution: Execution) -> bytes:
    """Return the line with which a process tells the one that started it how its execution ended."""
    output = str(Path(execution.directory).absolute()) if execution.directory else None
    result = Result(execution.status, execution.message, execution.failure_reason, output)
    return b"\n" + orjson.dumps(asdict(result)) + b"\n"


def told(end: End) -> Result | None:
    """Return the result that a process has told, None when it did not come so far."""
    try:
        result = Result(**orjson.loads(end.answer.strip().rpartition("\n")[2]))
        return replace(result, status=Status(result.status), peak_memory=end.peak_memory)
    except (TypeError, ValueError):
        return None


def failed(end: End) -> Result:
    """Return what is written down of a process that ended by itself, without a result."""
    return Result(Status.FAILED, failure_reason=end.reason, peak_memory=end.peak_memory)


def overran(entry: ExecutionRecord) -> Result:
    """Return what is written down of an execution that has taken too long."""
    limit = f"stopped after {entry.max_runtime} s, the longest it may run (schedule.max_runtime)"
    return Result(Status.STOPPED, failure_reason=limit)


def lost(entry: ExecutionRecord) -> Result:
    """Return what becomes of an execution whose owner is gone."""
    if entry.status == Status.STOPPING:
        return STOPPED_BY_HAND
    if entry.attempts >= MOST_ATTEMPTS:
        reason = f"given up: {entry.attempts} times it was lost together with the process that watched it"
        return Result(Status.FAILED, failure_reason=reason)
    return RUN_AGAIN
