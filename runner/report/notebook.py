"""The report as a notebook: cells that read the documents beside it, stored with what they print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

VEGALITE = "application/vnd.vegalite.v5+json"
MARK = re.compile(r"^# %% (\[markdown\] )?([a-z0-9-]+)$", re.MULTILINE)
"""What starts a cell in the template: its kind, and its name, which becomes its id."""
TABLES = {"windows": "timeline", "medians": "histograms"}
"""The cells that print the table of a chart."""


def notebook(script: str, outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Return the notebook, nbformat 4.5, of a script in cells.

    Args:
        script: cells, each after a line `# %% name` or `# %% [markdown] name`.
        outputs: what code cells have given out, by name.
    """
    _, *parts = MARK.split(script)
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


def outputs(page: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return what the cells of the shipped template give out, from the same strings as the page's.

    Args:
        page: the templates' context, each chart with its specification, its data and its SVG.
    """
    figures = {figure["chart"]: figure for figure in page["figures"]}
    told = {"verdict": _verdict(page), "labels": "".join(_label(section) for section in page["labels"])}
    tables = {"top_changes": page["top_changes"], "segments": page["segments"]}
    tables |= {cell: figures[chart]["table"] for cell, chart in TABLES.items() if chart in figures}
    told |= {name: _table(table) for name, table in tables.items() if table}
    given: dict[str, list[dict[str, Any]]] = {
        name: [{"output_type": "stream", "name": "stdout", "text": _lines(text)}] for name, text in told.items() if text
    }
    for figure in page["figures"]:
        data = {VEGALITE: figure["filled"], "image/svg+xml": _lines(figure["svg"]), "text/plain": [figure["sentence"]]}
        given[figure["id"]] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    return given


def _verdict(page: Mapping[str, Any]) -> str:
    lines = [f"{page['headline']}. {page['sentence']}"]
    for section in page["labels"]:
        if verdict := section["verdict"]:
            lines.append(
                f"{_line(section['label'])}: nDCG {verdict['ndcg']}, alarm below {verdict['threshold']}; "
                f"a reversed ranking would have {verdict['floor']}, a random one {verdict['chance']} on average"
            )
    return "\n".join(lines) + "\n"


def _label(section: Mapping[str, Any]) -> str:
    effects = _table(section["effects"]) if section["effects"] else ""
    return (
        f"{_line(section['label'])}, expected value {section['expected_value']}\n{effects}{_table(section['features'])}"
    )


def _table(table: Mapping[str, Any]) -> str:
    """Return columns aligned to the right, and after them those of texts."""
    rows = [table["heads"], *table["rows"]]
    texts = [i for i, text in enumerate(table["texts"]) if text]
    widths = {i: max(len(row[i]) for row in rows) for i in range(len(table["heads"])) if i not in texts}
    lines = [
        "  ".join([*(row[i].rjust(width) for i, width in widths.items()), *(_line(row[i]) for i in texts)]).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": _lines(text)}


def _code(name: str, text: str, count: int, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": name,
        "metadata": {},
        "outputs": list(given),
        "source": _lines(text),
    }


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)
