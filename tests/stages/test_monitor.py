"""One execution from the command line, while its reference is being computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from runner.domain.drift import Level
from runner.domain.executions import ExitCode, Outcome
from runner.results.directory import writing
from runner.stages.monitor import FailOn, MonitorStage
from tests.builders import WINDOW, changed, monitor
from tests.drift.samples import POLICY
from tests.golden import Golden
from tests.processes import wait_until


@pytest.mark.parametrize(
    ("fail_on", "row", "code"),
    [
        (Level.NONE, [90, 2, 1], ExitCode.COMPLETED),
        (Level.WARNING, [90, 2, 1], ExitCode.ALERT),
        (Level.VIOLATION, [90, 2, 1], ExitCode.ALERT),
        (Level.WARNING, None, ExitCode.FAILED),
    ],
)
def test_verdict_that_reaches_fail_on_has_its_own_exit_code(
    tmp_path: Path, fail_on: FailOn, row: list[Any] | None, code: ExitCode, golden: Golden
) -> None:
    """A failed execution has that of failures, and a daemon receives the same result as without this setting."""
    policy = replace(POLICY, false_alarms_per_year=1e5, min_rows=2)
    usual = changed(monitor(tmp_path, [row] * 8 if row else []), policy=policy)
    stage = MonitorStage("monitor", WINDOW, None, attached=False, fail_on=fail_on)
    outcome = stage.run(usual, tmp_path / "reference")
    assert (outcome.exit_code, outcome.succeeded) == (code, code is not ExitCode.FAILED)
    if code is ExitCode.ALERT:
        golden(outcome.message.splitlines()[-1])


def test_verdict_below_fail_on_completes(tmp_path: Path) -> None:
    """Records like those of the reference reach no level."""
    policy = replace(POLICY, min_rows=2)
    usual = changed(monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]), policy=policy)
    stage = MonitorStage("monitor", WINDOW, None, attached=False, fail_on=Level.WARNING)
    assert stage.run(usual, tmp_path / "reference").exit_code is ExitCode.COMPLETED


def test_execution_waits_for_a_baselining(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It begins after the baselining has ended."""
    caplog.set_level("INFO", "shapwatch.results")
    usual, outcomes = monitor(tmp_path, [[1, 2, 9]]), list[Outcome]()
    stage = MonitorStage("monitor", WINDOW, None, attached=False)
    with writing(tmp_path / "reference"):
        thread = Thread(target=lambda: outcomes.append(stage.run(usual, tmp_path / "reference")))
        thread.start()
        wait_until(lambda: "waiting until" in caplog.text)
        assert not (tmp_path / "monitor").exists()
    thread.join()
    assert outcomes[0].succeeded
