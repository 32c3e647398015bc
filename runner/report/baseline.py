"""The table of the SHAP baseline in the report of a reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from runner.domain.drift import Verdict
from runner.domain.numbers import plural
from runner.explain.background import most_unusual
from runner.report.tables import BASELINE, ReportTable, make_table
from runner.results.manifest import BackgroundRows, Explanation, compared

BASELINE_ANSWERS = ("What it is", "How good it is", "What it can detect")
"""Names of the sentences on a reference."""
MOST_SCORES = 3
"""Maximum number of labels whose scores are listed."""


@dataclass(frozen=True)
class BaselineTable(ReportTable):
    """Table of the values of masked features, one column per row; `sentence` states the scores of the rows."""

    sentence: str = ""


def baseline_table(background: BackgroundRows) -> BaselineTable | None:
    """Return the table of the SHAP baseline; None without scores, as in executions."""
    if not background.scores:
        return None
    columns = BASELINE[: len(background.rows) + 1]
    rows = [
        SimpleNamespace(
            name=name, **{column.key: _cell(row[d]) for column, row in zip(columns[1:], background.rows, strict=False)}
        )
        for d, name in enumerate(background.names)
    ]
    table = make_table("One column for each row of the SHAP baseline", columns, rows)
    return BaselineTable(
        **{**vars(table), "source": "manifest.json contains"}, sentence=_sentence(background, len(columns) - 1)
    )


def baseline_verdict(size: str, explanation: Explanation, notes: Sequence[str]) -> Verdict:
    """Return a reference in words: its size, the quality of its SHAP baseline, and what it can detect.

    Args:
        size: number of records and of features.
        explanation: origin of the attributions.
        notes: notes of the manifest; one of them states the minimum detectable change.
    """
    background = explanation.background
    rows = plural(len(background.rows), "SHAP baseline row")
    size = size.removesuffix(".")
    title = f"{size}, {rows}" if background.rows else size
    estimator = f"explained with shap.explainer={explanation.estimator['explainer']}"
    quality = _scores(background) if background.scores else ""
    if background.scores:
        _, is_unusual = most_unusual(background.scores)
        quality += " Attributions are differences from it. " + (
            "It is unusual: see the notes." if is_unusual else "It is typical."
        )
    detectable = [note for note in notes if note.startswith("minimum detectable change")]
    found = f"{detectable[0][:1].upper()}{detectable[0][1:]}." if detectable else ""
    return Verdict(title, f"{size}, {estimator}. The executions of the monitor are compared with it.", quality, found)


def _scores(background: BackgroundRows) -> str:
    scores = background.scores or ()
    listed = "; ".join(f"{each.label} {each.score:.5g}, {compared(each)}" for each in scores[:MOST_SCORES])
    return f"Score of the SHAP baseline: {listed}."


def _sentence(background: BackgroundRows, shown: int) -> str:
    scores = background.scores or ()
    listed = "; ".join(f"{each.label} {each.score:.5g}, {compared(each)}" for each in scores[:MOST_SCORES])
    sentence = f"{plural(len(background.rows), 'row')}. Score: {listed}."
    if len(scores) > MOST_SCORES:
        sentence += f" The scores of {plural(len(scores) - MOST_SCORES, 'more label')} are in manifest.json."
    if len(background.rows) > shown:
        sentence += f" The table shows {shown} rows."
    return sentence


def _cell(value: object) -> str:
    """Return a value as in JSON, but a string without quotes, and a float with six digits."""
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
