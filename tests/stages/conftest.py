"""Results of executions with different verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.report.health import Mark
from tests.builders import WINDOW, changed, event, monitor, write
from tests.drift.samples import POLICY


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[Mark, str]:
    """Directories of real results by the mark of their verdict."""
    found = {}
    samples = {Mark.VIOLATION: ([90, 2, 1], 1e5, 2), Mark.NONE: ([6, 2, 1], 1e-3, 2), Mark.FEW: ([6, 2, 1], 1e-3, 30)}
    for mark, (row, false_alarms, min_rows) in samples.items():
        root = tmp_path_factory.mktemp("results")
        policy = replace(POLICY, false_alarms_per_year=false_alarms, min_rows=min_rows)
        stage = changed(monitor(root, []), policy=policy)
        write(root, "09/00-00-000-x.jsonl", event(*[row] * 8))
        found[mark] = stage.run(WINDOW).directory
    return found
