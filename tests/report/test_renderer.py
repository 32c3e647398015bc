"""The process that draws charts may crash or hang; a report then lacks its charts, and nothing else is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from runner.report import renderer
from runner.report.renderer import Renderer
from tests.cli_runner import CHECKOUT
from tests.golden import Golden

CHART = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "data": {"values": [{"a": 1, "b": 2}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "b", "type": "quantitative"}},
}


@pytest.fixture
def drawing() -> Iterator[Renderer]:
    """A renderer, which ends with the test."""
    found = Renderer()
    yield found
    found.close()


def test_charts_are_drawn_by_one_process(drawing: Renderer) -> None:
    """An invalid specification is an error, and the process continues."""
    assert drawing.svg(CHART).startswith("<svg")
    process = drawing._process
    with pytest.raises(ValueError, match="conversion failed"):
        drawing.svg({**CHART, "mark": "hologram"})
    assert drawing.svg(CHART).startswith("<svg")
    assert drawing._process is process


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "import os, sys; sys.stdin.buffer.readline(); os.kill(os.getpid(), 11)",
        "import sys; sys.stdin.buffer.readline(); print('{', end='')",
        "import time; time.sleep(60)",
    ],
    ids=["abort", "crash", "half an answer", "hang"],
)
def test_a_crash_is_an_error(code: str, drawing: Renderer, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The next chart starts a new process."""
    command = [sys.executable, "-S", "-c", code]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(renderer, "_start", start)
    monkeypatch.setattr(renderer, "CHART_SECONDS", 0.3 if "sleep" in code else 60)
    with golden.raises(ValueError):
        drawing.svg(CHART)
    assert drawing._process is None


def test_a_killed_process_is_replaced(drawing: Renderer) -> None:
    """The chart is drawn by a new process."""
    drawing.svg(CHART)
    process = drawing._process
    assert process
    process.kill()
    assert drawing.svg(CHART).startswith("<svg")


@pytest.mark.soak
def test_a_memory_limit_costs_only_the_report(tmp_path: Path) -> None:
    """The JavaScript engine ends its process if it cannot reserve address space."""
    command = f"ulimit -v 4000000; exec {sys.executable} -m runner stage=baseline paths.root={tmp_path}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "baseline").iterdir()
    notes = orjson.loads((folder / "manifest.json").read_bytes())["notes"]
    assert any("report.html was not written" in note for note in notes)
    assert (folder / "analysis.json").exists()
