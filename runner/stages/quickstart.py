"""Traffic, baselining and executions in one run, with an incident in the last hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.domain.executions import HOUR, Execution, Outcome
from runner.domain.numbers import Count, Finite
from runner.stages.replay import ReplayStage
from runner.types import NO_OTHER_KEYS, Instant


@dataclass(frozen=True)
class QuickstartStage:
    """`stage=quickstart`; conf/stage/quickstart.yaml describes the keys."""

    kind: Literal["quickstart"]
    start: Instant
    records: Count
    rescale: dict[str, Finite]

    __pydantic_config__ = NO_OTHER_KEYS

    def hours(self) -> list[ReplayStage]:
        """Return the traffic of each hour; the incident happens in the last one."""
        incidents: list[dict[str, float]] = [{}, {}, self.rescale]
        return [
            ReplayStage(
                kind="replay",
                start=self.start + i * HOUR,
                rate=self.records / HOUR.total_seconds(),
                batch_rows=1,
                count=self.records,
                rescale=incident,
                seed=0,
            )
            for i, incident in enumerate(incidents)
        ]


@dataclass(frozen=True)
class Quickstart:
    """Three hours of a monitored endpoint.

    Attributes:
        traffic: functions that capture one hour of traffic each.
        baseline: function that computes the reference.
        executions: functions that monitor one hour each.
    """

    traffic: Sequence[Callable[[], Outcome]]
    baseline: Callable[[], Outcome]
    executions: Sequence[Callable[[], Execution]]

    def run(self) -> Outcome:
        """Return the messages of all steps; the outcome is a success if no execution failed."""
        steps = [hour() for hour in self.traffic]
        steps.append(self.baseline())
        executions = [execute() for execute in self.executions]
        message = "\n".join(step.message for step in (*steps, *executions))
        return Outcome(message, all(execution.succeeded for execution in executions))
