"""Each script in examples/ runs, and its result is the documented one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.cli_runner import CHECKOUT, HANG_SECONDS

EXAMPLES = CHECKOUT / "examples"


@pytest.fixture
def output(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The lines that an example prints; the test is named after the example."""
    script = EXAMPLES / f"{request.function.__name__.removeprefix('test_')}.py"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False, timeout=HANG_SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_explain_records(output: list[str]) -> None:
    """Five records, each with its three strongest features."""
    assert len(output) == 5 * 4
    assert output[0] == "record 0: score 0.629, expected 0.345"
    assert output[1] == "  +0.101 texture = 21.72"


def test_compare_windows(output: list[str]) -> None:
    """The changed unit is detected, and named as the cause."""
    level, shift, change = output
    assert level == "level: violation"
    assert 0.6 < float(shift.split()[2].rstrip("%,")) / 100 < 0.7
    assert "compactness, rank 10 to 1: 100 times" in change


def test_capture_middleware(output: list[str]) -> None:
    """All ten requests are captured and readable."""
    assert "  10 events, 10 records" in output
    assert "  rejected: none" in output


def test_custom_model(output: list[str]) -> None:
    """Only the two features that the function uses have attributions."""
    first, second, third = output[-3:]
    assert (first[6:], second[6:]) == ("mean radius", "mean concavity")
    assert third.startswith("0.000 ")


def test_custom_sink(output: list[str]) -> None:
    """The sink receives the verdict of the one execution."""
    (line,) = output
    verdict = orjson.loads(line)
    assert (verdict["status"], verdict["level"]) == ("CompletedWithViolations", "violation")
    assert "mean compactness" in verdict["sentence"]


def test_every_example_is_tested_short_and_linked() -> None:
    """Each script has a test above, fewer than 60 lines, and a link in the documentation."""
    pages = "".join(path.read_text("utf-8") for path in (CHECKOUT / "docs").rglob("*.md"))
    for path in EXAMPLES.glob("*.py"):
        assert f"test_{path.stem}" in globals()
        assert len(path.read_text("utf-8").splitlines()) < 60
        assert f"examples/{path.name})" in pages
