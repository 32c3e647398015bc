"""What a sweep ends in: one table over all of its members, as a CSV and as a page with a chart.

Each member leaves a result in a folder of its own, in whatever process it ran, and the table is made of these.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.domain.text import plural
from runner.paths import resource
from runner.results.directory import ANALYSIS, MANIFEST, put

RESULT = "result.json"
CSV, PAGE = "sweep.csv", "sweep.html"
BUDGET = {"shap", "shap.explainer", "shap.num_samples", "shap.seed", "shap.compat", "shap.max_batch_rows", "engine"}
"""What members may differ in that are compared with each other."""
EXACT = {"exact", "linear"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula at the start of a text."""


@dataclass(frozen=True)
class Member:
    """One run of a sweep: the folder that is its own, and what makes it different."""

    directory: Path
    overrides: tuple[str, ...]


def record(member: Member, code: int, told: str, seconds: float, results: str | None) -> None:
    """Write down how a member ended.

    Args:
        member: which one.
        code: its exit code.
        told: what it printed.
        seconds: that it took.
        results: the folder of its documents, None where there are none.
    """
    document = {"overrides": member.overrides, "code": code, "told": told, "seconds": seconds, "results": results}
    put(member.directory / RESULT, json.dumps(document).encode())


def conclude(folder: Path) -> tuple[str, int]:
    """Make the table of a sweep from what its members have left in a folder.

    Returns:
        Where the table is, as a text for people, and the worst exit code of a member.

    Raises:
        ReportError: when the template or the chart is wrong.
    """
    rows = list(compared(members(folder)))
    put(folder / CSV, as_csv(rows).encode())
    put(folder / PAGE, as_page(rows).encode())
    told = f"{plural(len(rows), 'member')}, one table:\n  {folder / PAGE}\n  {folder / CSV}"
    return told, max((row["code"] for row in rows), default=0)


def members(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each member, in their order."""
    numbered = sorted((path for path in folder.glob(f"*/{RESULT}")), key=lambda path: int(path.parent.name))
    for path in numbered:
        result = json.loads(path.read_bytes())
        found = _documents(result["results"]) if result["code"] == 0 and result["results"] else {}
        manifest = found.get(MANIFEST, {})
        yield {
            "member": int(path.parent.name),
            "settings": dict(override.lstrip("+").partition("=")[::2] for override in result["overrides"]),
            "status": manifest.get("status", "Failed" if result["code"] else "Completed"),
            "seconds": result["seconds"],
            "rows": manifest.get("evaluations"),
            "calls": (manifest.get("calls") or {}).get("requests"),
            "ndcg": _ndcg(manifest),
            "error": None,
            "told": result["told"].splitlines()[0] if result["told"] else "",
            "code": result["code"],
            "values": _values(found.get(ANALYSIS)),
            "exact": manifest.get("estimator", {}).get("explainer") in EXACT,
        }


def compared(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows with the root mean square difference of their global attributions from the best of their kind.

    Members are of one kind that differ in budget alone; the best is an exact one, else that which sent the most rows.
    """
    found = list(rows)
    for row in found:
        alike = [other for other in found if other["values"] and _kind(other) == _kind(row)]
        best = max(alike, key=lambda other: (other["exact"], other["rows"] or 0), default=None)
        comparable = best and best["values"].keys() == row["values"].keys()
        yield row | (_beside(row, best) if best and comparable else {"best": False})


def _beside(row: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far a member is from the best one."""
    gaps = [row["values"][key] - best["values"][key] for key in best["values"]]
    ndcg = _least_ndcg(best["values"], row["values"]) if row["ndcg"] is None else row["ndcg"]
    error = (sum(gap * gap for gap in gaps) / len(gaps)) ** 0.5
    return {"error": error, "ndcg": ndcg, "best": row["member"] == best["member"]}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as CSV; texts that a spreadsheet would take for formulas begin with an apostrophe."""
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    columns = ["status", "error", "ndcg", "seconds", "rows", "calls", "told"]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["member", *map(_safe, keys), *columns])
    for row in rows:
        settings = [_safe(row["settings"].get(key, "")) for key in keys]
        writer.writerow([row["member"], *settings, *(_safe(row[column]) for column in columns)])
    return file.getvalue()


def as_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as a page, with a chart where errors are known.

    Raises:
        ReportError: when the template or the chart is wrong.
    """
    from markupsafe import Markup

    from runner.report import charts
    from runner.report.templates import Templates

    templates = Templates((resource("reports_templates"),))
    keys = _varying(rows)
    same = {key: value for row in rows for key, value in row["settings"].items() if key not in keys}
    points = [
        {
            "name": _told(row, [key.removeprefix("shap.") for key in keys if key in BUDGET]),
            "kind": _told(row, [key for key in keys if key not in BUDGET]) or "all members",
            "rows": row["rows"],
            "error": row["error"],
        }
        for row in rows
        if row["error"] and row["rows"]
    ]
    chart = None
    if points:
        filled = charts.filled(templates.specification("sweep"), points)
        chart = Markup(charts.svg(filled, "sweep", templates.find("charts/sweep.vl.json")))  # noqa: S704  see report/render.py
    return templates.render("sweep.html.j2", {"rows": rows, "keys": keys, "same": same, "chart": chart})


def _documents(folder: str) -> dict[str, Any]:
    return {
        name: json.loads((Path(folder) / name).read_bytes())
        for name in (MANIFEST, ANALYSIS)
        if (Path(folder) / name).is_file()
    }


def _values(analysis: Mapping[str, Any] | None) -> dict[tuple[str, str], float]:
    """Return the global attributions of an analysis by label and feature."""
    labels = analysis["explanations"]["kernel_shap"] if analysis else {}
    return {
        (label, name): value for label, found in labels.items() for name, value in found["global_shap_values"].items()
    }


def _ndcg(manifest: Mapping[str, Any]) -> float | None:
    """Return the nDCG to the reference of the label that ranks worst, None where nothing was compared."""
    labels = manifest.get("verdict", {}).get("labels", [])
    return min((label["ndcg"] for label in labels if label.get("ndcg") is not None), default=None)


def _least_ndcg(best: Mapping[tuple[str, str], float], values: Mapping[tuple[str, str], float]) -> float:
    """Return how far the order of features is the best one's, for the label where it is the least."""
    import numpy as np

    from runner.drift.ndcg import ndcg

    found = []
    for label in dict.fromkeys(label for label, _ in best):
        keys = [key for key in best if key[0] == label]
        pair = (np.abs([side[key] for key in keys]) for side in (best, values))
        found.append(float(ndcg(*pair)))
    return min(found)


def _kind(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in row["settings"].items() if key not in BUDGET)


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that the members do not all have the same value of."""
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    return [key for key in keys if len({row["settings"].get(key) for row in rows}) > 1]


def _told(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    settings = row["settings"]
    return ", ".join(f"{key}={settings.get(key, settings.get(f'shap.{key}'))}" for key in keys)


def _safe(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value
