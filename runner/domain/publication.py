"""The result of an execution as it is published, the same for every sink."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, Level
from runner.domain.executions import ExecutionState, Status, Window

METRICS = {
    "execution_status": "1 for the status of the last execution, 0 for all other statuses",
    "execution_scheduled_timestamp_seconds": "Scheduled time of the last execution, in seconds since 1970",
    "drift_level": "0 none, 1 too few records, 2 info, 3 warning, 4 violation",
    "label_drift_level": "Drift level of one model output",
    "ndcg": "Agreement of the feature ranking with the reference, 1 for the same order",
    "attribution_shift": "Total variation distance between the attribution shares and the reference's, 0 to 1",
    "largest_attribution_shift": "Attribution shift of the model output with the largest one, 0 to 1",
    "total_log2_change": "Log2 fold change of the total attribution, 0 without change",
    "attribution": "Global SHAP value of a feature",
}
"""Help text of each published metric by name."""


@dataclass(frozen=True)
class AlertHistory:
    """Summary of the executions scheduled before another one.

    Attributes:
        last_verdict: state of the newest execution with a verdict, None without one.
        failing: whether a later execution failed and none has had a verdict since.
    """

    last_verdict: ExecutionState | None = None
    failing: bool = False

    @classmethod
    def from_states(cls, states: Iterable[ExecutionState]) -> AlertHistory:
        """Summarise states (newest first), stopping at the newest one with a verdict."""
        failing = False
        for state in states:
            if state.has_verdict:
                return cls(state, failing)
            failing |= state.status is Status.FAILED
        return cls(failing=failing)


@dataclass(frozen=True)
class Publication:
    """An execution that has ended.

    Attributes:
        monitor: name of the monitor.
        endpoint: name of the monitored endpoint.
        window: analyzed period.
        scheduled: scheduled time in UTC.
        status: terminal status.
        sentence: verdict or failure reason, for people.
        report: path or address of the report, empty without one.
        directory: directory of the results, None if nothing could be written.
        attributions: global attributions of the window, None after a failure.
        ndcg: nDCG by label, for labels that the reference has.
        drift: result of the statistical tests, None after a failure or without a reference sample.
        history: summary of the executions scheduled before this one.
    """

    monitor: str
    endpoint: str
    window: Window
    scheduled: datetime
    status: Status
    sentence: str
    report: str
    directory: Path | None
    attributions: GlobalAttributions | None
    ndcg: dict[str, float]
    drift: DriftResult | None
    history: AlertHistory

    @property
    def level(self) -> Level:
        """Drift level, `NONE` after a failure."""
        return self.drift.level if self.drift else Level.NONE

    @property
    def state(self) -> ExecutionState:
        """Status and drift level."""
        return ExecutionState(self.status, self.level)
