"""Runs a monitor once over a window."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.domain.executions import Execution, Outcome
from runner.monitors import Monitor
from runner.results import directory
from runner.scheduling.daemon.process import FENCE, result_line
from runner.types import NO_OTHER_KEYS, Instant, Interval

if TYPE_CHECKING:
    from runner.scheduling.ledger.fence import Fence

STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class MonitorStage:
    """`stage=monitor`; conf/stage/monitor.yaml describes the keys."""

    kind: Literal["monitor"]
    window: Interval
    scheduled: Instant | None
    attached: bool

    __pydantic_config__ = NO_OTHER_KEYS

    def run(self, monitor: Monitor, reference: Path) -> Outcome:
        """Execute a monitor over the window, after a baselining of its reference that is in progress.

        Attached executions do not wait, because their daemon starts them after the baselining.
        """
        if self.attached:
            with _fence() as fence:
                fenced = replace(monitor, fence=fence)
                if fence and fence.is_recorded:
                    recorded = fence.recorded()
                    return _run_attached(lambda: fenced.publish_recorded(recorded))
                return _run_attached(lambda: fenced.run(self.window, self.scheduled))
        directory.wait_until_written(directory.reference_path(reference, self.window))
        return monitor.run(self.window, self.scheduled)


@contextmanager
def _fence() -> Iterator[Fence | None]:
    """Yield the claim under which a daemon or a backfill started this process."""
    if text := os.environ.get(FENCE):
        from runner.scheduling.ledger.fence import Fence

        fence = Fence.load(text)
        with fence.ledger:
            yield fence
    else:
        yield None


def _run_attached(run: Callable[[], Execution]) -> Outcome:
    """Run an execution, and write its result as a JSON line for the parent process.

    Standard output contains only the result. The output of a user's model goes to standard error.
    """
    stdout = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    execution = run()
    os.write(stdout, result_line(execution))
    return Outcome("", execution.succeeded)
