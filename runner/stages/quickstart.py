"""The whole way in one go: traffic, baselining, executions, with an incident in the last hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.domain.executions import Execution, Outcome


@dataclass(frozen=True)
class Quickstart:
    """Plays three hours in the life of a monitor.

    Attributes:
        traffic: sends and captures an hour of traffic each.
        baseline: computes the reference.
        executions: judge an hour each.
    """

    traffic: Sequence[Callable[[], Outcome]]
    baseline: Callable[[], Outcome]
    executions: Sequence[Callable[[], Execution]]

    def run(self) -> Outcome:
        """Return what each step had to say; it succeeds when no execution failed."""
        steps = [hour() for hour in self.traffic]
        steps.append(self.baseline())
        executions = [execute() for execute in self.executions]
        message = "\n".join(step.message for step in (*steps, *executions))
        return Outcome(message, all(execution.succeeded for execution in executions))
