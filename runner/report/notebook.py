"""The report as a notebook: cells that read the documents beside it, stored with what they print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

VEGALITE = "application/vnd.vegalite.v5+json"
MARK = re.compile(r"^# %% (\[markdown\] )?([a-z0-9-]+)$", re.MULTILINE)
"""What starts a cell in the template: its kind, and its name, which becomes its id."""


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


def outputs(
    page: Mapping[str, Any], charts: Sequence[tuple[Mapping[str, Any], str]]
) -> dict[str, list[dict[str, Any]]]:
    """Return what the cells of the shipped template give out, from the same strings as the page's.

    Args:
        page: the templates' context.
        charts: of each label the specification with its data, and its SVG.
    """
    told = {"verdict": _verdict(page), "effects": _effects(page["labels"]), "features": _features(page["labels"])}
    given: dict[str, list[dict[str, Any]]] = {
        name: [{"output_type": "stream", "name": "stdout", "text": _lines(text)}] for name, text in told.items() if text
    }
    for i, (specification, drawn) in enumerate(charts):
        if not drawn:
            continue
        data = {VEGALITE: specification, "image/svg+xml": _lines(drawn), "text/plain": ["Global attributions"]}
        given[f"chart-{i}"] = [{"output_type": "display_data", "data": data, "metadata": {}}]
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


def _effects(sections: Sequence[Mapping[str, Any]]) -> str:
    told = ""
    for section in sections:
        if section["effects"]:
            rows = [(row["value"], row["noise"], row["p"], row["name"]) for row in section["effects"]]
            told += f"{_line(section['label'])}\n{_table(('found', 'by chance', 'p', 'effect'), rows)}"
    return told


def _features(sections: Sequence[Mapping[str, Any]]) -> str:
    told = ""
    for section in sections:
        names = ["rank_now", "now_text", "share_now_text"]
        heads = ["rank", "attribution", "share"]
        if section["compared"]:
            names = ["rank_before", "rank_now", "before_text", "now_text", "share_before_text", "share_now_text"]
            heads = ["rank before", "now", "attribution before", "now", "share before", "now", "moved, points"]
            names.append("moved_text")
        if section["tested"]:
            names += ["distance_text", "p_text"]
            heads += ["distance of φ", "p (Holm)"]
        rows = [[*(str(row[name]) for name in names), _line(row["name"])] for row in section["features"]]
        told += f"{_line(section['label'])}, expected value {section['expected_value']}\n"
        told += _table([*heads, "feature"], rows)
    return told


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns aligned to the right; the last one, the name, to the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)), row[-1]])
        for row in [heads, *rows]
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
