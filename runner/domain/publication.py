"""What is told to the outside once an execution has ended, the same for every sink."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, Level
from runner.domain.executions import Status, Window

MEANINGS = {
    "execution_status": "1 for the status of the last execution, 0 for the others",
    "execution_scheduled_timestamp_seconds": "When the last execution was scheduled",
    "drift_level": "0 none, 1 too few records, 2 info, 3 warning, 4 violation",
    "label_drift_level": "The same of a model output",
    "ndcg": "How far the order of the features agrees with the reference's, 1 for the same order",
    "attribution_shift": "The part of the attribution that changed hands, 0 to 1",
    "largest_share_moved": "The share moved of the model output where most moved, 0 to 1",
    "mass_log2": "How many times all attribution has grown, as a logarithm to the base 2",
    "attribution": "Global SHAP value of a feature",
}
"""What the name of each figure means, wherever Prometheus or OpenTelemetry finds it."""


State = tuple[Status, Level]
"""How an execution ended, and how much it had to say about drift."""


def judged(state: State) -> bool:
    """Return whether an execution could say that there is drift, or that there is none.

    >>> judged((Status.COMPLETED, Level.INSUFFICIENT_DATA)), judged((Status.FAILED, Level.NONE))
    (False, False)
    >>> judged((Status.COMPLETED_WITH_VIOLATIONS, Level.INSUFFICIENT_DATA))
    True
    """
    return state[0] is not Status.FAILED and state != (Status.COMPLETED, Level.INSUFFICIENT_DATA)


@dataclass(frozen=True)
class AlertHistory:
    """What the executions before one leave to know.

    Attributes:
        judged: the state of the newest that could judge, None where none could.
        failing: whether one that came after it failed; what has too few records to judge by ends no failure.
    """

    judged: State | None = None
    failing: bool = False

    @classmethod
    def of(cls, states: Iterable[State]) -> AlertHistory:
        """Return what states leave to know, given the newest first; none older than the newest that judged is taken."""
        failing = False
        for state in states:
            if judged(state):
                return cls(state, failing)
            failing |= state[0] is Status.FAILED
        return cls(failing=failing)


@dataclass(frozen=True)
class Publication:
    """An execution that has ended.

    Attributes:
        monitor, endpoint: whose execution it is.
        scheduled: its scheduled time in UTC.
        sentence: the verdict, or why there is none, for people.
        report: where the report is, a path or an address.
        directory: of its results, None where nothing could be written.
        attributions: None where it failed.
        ndcg: of each judged label.
        finding: None where it failed, or where the reference keeps no rows.
        past: what is known from the executions scheduled before it.
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
    finding: DriftResult | None
    past: AlertHistory

    @property
    def level(self) -> Level:
        """How much there is to say; a failed execution has nothing to say about drift."""
        return self.finding.level if self.finding else Level.NONE

    @property
    def state(self) -> State:
        """How it ended, and how much it has to say."""
        return self.status, self.level
