"""One execution from the command line, while its reference is being computed."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from runner.domain.executions import Outcome
from runner.results.directory import writing
from runner.stages.monitor import MonitorStage
from tests.builders import WINDOW, monitor
from tests.processes import wait_until


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
