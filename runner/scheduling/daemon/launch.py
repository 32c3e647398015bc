"""Starts the process of an execution, from the settings as they were when its schedule was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from runner import subprocesses
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.scheduling.daemon.process import Child

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import Ledger

VARIABLES = {"execution": "SHAPWATCH_EXECUTION", "schedule": "SHAPWATCH_SCHEDULE"}
"""The environment variables that tell a process whose log lines it writes."""


def launch(ledger: Ledger, executing: Callable[[Snapshot, ExecutionRecord], str], entry: ExecutionRecord) -> Child:
    """Return the process that executes an entry.

    Args:
        ledger: has the settings.
        executing: gives the whole configuration of the process as YAML.
        entry: the execution.

    Raises:
        OSError: when the process cannot be started, for one because the folder of its settings is gone.
        LedgerError: when the settings cannot be read.
    """
    snapshot = ledger.snapshot(entry.snapshot)
    settings = executing(snapshot, entry)
    ids = {VARIABLES["execution"]: str(entry.id), VARIABLES["schedule"]: entry.schedule}
    return Child(
        lambda scratch: subprocesses.command(scratch, settings),
        snapshot.folder,
        {**subprocesses.environment(), **ids},
    )


def log_context(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what each log line of this process shall carry."""
    return {key: environment[name] for key, name in VARIABLES.items() if name in environment}
