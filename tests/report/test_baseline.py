"""The rows of the SHAP baseline in the report of a reference: the same in page, PDF and notebook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner.explain.background import BaselineScore
from runner.report import health
from runner.report.baseline import baseline_table
from runner.report.health import State
from runner.report.tables import MOST_BASELINE_ROWS
from runner.results.manifest import BackgroundRows
from tests.golden import Golden
from tests.report.samples import BASELINE, EXPLANATION, HOSTILE, attributions, files, write
from tests.report.test_notebook import run_notebook
from tests.report.test_render import pdf_text
from tests.report.visible import text_of

USUAL, LOW = BaselineScore("yes", 0.2506232, 0.713), BaselineScore("no", -3.0, 0.02)
VALUES = (184870, 0.123456789, True, None, "a <b>")


def background(rows: int, *scores: BaselineScore) -> BackgroundRows:
    """Return a background of five features with hostile names."""
    return BackgroundRows(tuple(HOSTILE[:5]), (VALUES,) * rows, scores or None)


def test_values_are_those_of_the_manifest(golden: Golden) -> None:
    """Numbers have six digits; null, booleans and strings are as in JSON, strings without quotes."""
    table = baseline_table(background(1, USUAL))
    assert table
    assert [row[1] for row in table.rows] == ["184870", "0.123457", "true", "null", "a <b>"]
    golden(table.sentence)


def test_many_rows_and_labels_are_counted(golden: Golden) -> None:
    """The table has five of twelve rows, and the sentence the scores of three of nine labels."""
    table = baseline_table(background(12, *[replace(USUAL, label=f"label{i}") for i in range(9)]))
    assert table
    assert {len(row) for row in table.rows} == {1 + MOST_BASELINE_ROWS}
    golden(table.sentence)


def test_an_execution_has_no_table() -> None:
    """Its background is that of its reference, which has no scores of the window."""
    assert baseline_table(background(1)) is None


@pytest.mark.parametrize("rows", [1, 7])
def test_page_pdf_and_notebook_show_the_baseline(tmp_path: Path, rows: int) -> None:
    """Names are data in all three, and the notebook reads the manifest."""
    explanation = replace(EXPLANATION, background=background(rows, USUAL, LOW))
    folder = write(tmp_path, files(replace(BASELINE, explanation=explanation), attributions(HOSTILE[:5])))
    page, printed = (folder / "report.html").read_text(), run_notebook(folder)["baseline"]
    assert page.count("184870") == min(rows, MOST_BASELINE_ROWS)
    assert "<script>document" not in page
    assert "184870" in pdf_text(folder / "report.pdf")
    stored = (folder / "report.ipynb").read_text()
    for line in printed.splitlines():
        assert line.replace('"', '\\"') in stored
    assert len(printed.splitlines()) == 6
    assert "Records with a lower score" in page
    assert "71.3%" in run_notebook(folder)["baseline-scores"]


def test_limited_rows_name_the_document_with_all(tmp_path: Path) -> None:
    """A PDF with 60 features shows the first 50."""
    names = [f"feature {i:02}" for i in range(60)]
    rows = BackgroundRows(tuple(names), (tuple(range(60)),), (USUAL,))
    folder = write(
        tmp_path,
        files(replace(BASELINE, explanation=replace(EXPLANATION, background=rows)), attributions(names)),
    )
    assert "manifest.json contains" in " ".join(pdf_text(folder / "report.pdf").split())
    assert "feature 59" in text_of((folder / "report.html").read_text(), "scroll")


@pytest.mark.parametrize(
    ("scores", "state"), [((USUAL,), State.GOOD), ((LOW,), State.WARNING), ((USUAL, LOW), "warning")]
)
def test_unusual_baseline_is_a_warning(scores: tuple[BaselineScore, ...], state: State, golden: Golden) -> None:
    """Of several labels, the check shows the most unusual one."""
    found = replace(BASELINE, explanation=replace(EXPLANATION, background=background(1, *scores)))
    (check,) = (each for each in health.checks(found, None) if each.name == "SHAP baseline")
    assert check.state == state
    golden(str(check))
