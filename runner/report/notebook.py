"""The report as a notebook: cells that read the documents in the same directory, stored with their output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from runner.domain.drift import Level
from runner.report import sections, tables
from runner.report.charts import Drawing
from runner.report.context import Page
from runner.report.sections import Section
from runner.report.tables import ReportTable

VEGALITE = "application/vnd.vegalite.v5+json"
CELL = re.compile(r"^# %% (\[markdown\] )?([a-z0-9-]+)$", re.MULTILINE)
"""Start of a cell in the template: its kind, and its name, which becomes its id."""
TABLE_CELLS = {"timeline": "windows", "histograms": "medians"}
"""Names of the cells that print the table of a chart."""


def script_context(agg_method: str) -> dict[str, Any]:
    """Return the constants of the template: columns of tables, effects and levels, as lists of strings."""
    columns = {
        "top_changes": tables.top_changes_columns(agg_method),
        "windows": tables.WINDOWS,
        "medians": tables.MEDIANS,
        "effects": tables.EFFECTS,
        "compared": tables.compared_columns(agg_method),
        "live": tables.live_columns(agg_method),
        "segments": tables.SEGMENTS,
    }
    return {
        "columns": {name: [list(astuple(column)) for column in each] for name, each in columns.items()},
        "effects": sections.EFFECTS,
        "levels": list(map(str, Level)),
    }


def notebook(script: str, outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Return the notebook, nbformat 4.5, of a script in cells.

    Args:
        script: cells, each after a line `# %% name` or `# %% [markdown] name`.
        outputs: outputs of code cells by name.
    """
    _, *parts = CELL.split(script)
    cells = [
        _markdown(name, text.strip()) if kind else _code(name, text.strip(), i, outputs.get(name, []))
        for i, (kind, name, text) in enumerate(zip(parts[::3], parts[1::3], parts[2::3], strict=True), 1)
    ]
    document = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def outputs(page: Page, drawings: Sequence[Drawing]) -> dict[str, list[dict[str, Any]]]:
    """Return the outputs of the cells of the shipped template by name, with the same strings as the page."""
    streams = dict(_printed(page, drawings))
    cells: dict[str, list[dict[str, Any]]] = {
        name: [{"output_type": "stream", "name": "stdout", "text": _lines(text)}] for name, text in streams.items()
    }
    for drawing in drawings:
        data = {VEGALITE: drawing.filled, "image/svg+xml": _lines(drawing.svg), "text/plain": [drawing.sentence]}
        cells[drawing.id] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    return cells


def _printed(page: Page, drawings: Sequence[Drawing]) -> Iterator[tuple[str, str]]:
    """Yield the names of cells that print, with their text."""
    yield "verdict", _verdict(page)
    if page.top_changes:
        yield "top-changes", _table(page.top_changes)
    for drawing in drawings:
        if drawing.table:
            yield TABLE_CELLS[drawing.chart], _table(drawing.table)
    if page.labels:
        yield "labels", "".join(map(_section, page.labels))
    if page.segments:
        yield "segments", _table(page.segments)


def _verdict(page: Page) -> str:
    lines = [f"{page.headline}. {page.sentence}"]
    for section in page.labels:
        if rule := section.rule:
            lines.append(
                f"{_one_line(section.label)}: nDCG {rule.ndcg} (alert below {rule.threshold}; "
                f"reversed ranking {rule.floor}, random ranking {rule.chance} on average)"
            )
    return "\n".join(lines) + "\n"


def _section(section: Section) -> str:
    effects = _table(section.effects) if section.effects else ""
    label = f"{_one_line(section.label)}, expected value {section.expected_value}\n"
    return f"{label}{effects}{_table(section.features)}"


def _table(table: ReportTable) -> str:
    """Return a table as text: numbers aligned right, then strings."""
    rows = [tuple(column.head for column in table.columns), *table.rows]
    texts = [i for i, column in enumerate(table.columns) if column.is_text]
    widths = {i: max(len(row[i]) for row in rows) for i in range(len(table.columns)) if i not in texts}
    lines = []
    for row in rows:
        numbers = [row[i].rjust(width) for i, width in widths.items()]
        lines.append("  ".join([*numbers, *(_one_line(row[i]) for i in texts)]).rstrip())
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": _lines(text)}


def _code(name: str, text: str, count: int, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": name,
        "metadata": {},
        "outputs": list(outputs),
        "source": _lines(text),
    }


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)
