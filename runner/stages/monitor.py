"""Runs a monitor once over a window."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.domain.drift import Level
from runner.domain.executions import Alert, Execution, ExitCode, Outcome
from runner.monitors import Monitor
from runner.results import directory
from runner.results.manifest_file import read_manifest
from runner.scheduling.daemon.process import FENCE, result_line
from runner.stages.terminal import verdict_text
from runner.types import NO_OTHER_KEYS, Instant, Interval

if TYPE_CHECKING:
    from runner.scheduling.ledger.fence import Fence

STDOUT, STDERR = 1, 2
FailOn = Literal[Level.NONE, Level.WARNING, Level.VIOLATION]
"""Lowest level for which a run ends with `ExitCode.ALERT`; `none`: no level."""


@dataclass(frozen=True)
class MonitorStage:
    """`stage=monitor`; conf/stage/monitor.yaml describes the keys."""

    kind: Literal["monitor"]
    window: Interval
    scheduled: Instant | None
    attached: bool
    fail_on: FailOn = Level.NONE  # commands in manifests of earlier versions lack this key

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
        execution = monitor.run(self.window, self.scheduled)
        if not (execution.succeeded and reaches(execution.directory, self.fail_on)):
            return replace(execution, text=verdict_text(execution.directory, execution.message))
        reason = f"The verdict reaches stage.fail_on={self.fail_on}: exit code {ExitCode.ALERT:d}."
        message = f"{execution.message}\n  {reason}"
        text = verdict_text(execution.directory, message)
        return Alert(message, directory=execution.directory, text=text)


def reaches(result: str, fail_on: FailOn) -> bool:
    """Return whether the verdict in a directory is at least as severe as `stage.fail_on`; never for `none`.

    A directory whose manifest has been removed or damaged since then has no verdict.
    """
    if fail_on is Level.NONE:
        return False
    with suppress(ValueError):
        manifest = read_manifest(Path(result))
        return manifest is not None and manifest.state.reaches(fail_on)
    return False


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
