"""The table of the SHAP baseline in the report of a reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

from runner.domain.numbers import plural
from runner.report.tables import BASELINE, ReportTable, make_table
from runner.results.manifest import BackgroundRows, compared

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
