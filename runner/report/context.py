"""What the templates receive: strings, numbers and plain rows, made from the JSON documents of a directory.

The page, the PDF and the notebook show the same strings in the same order, for all of them come from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.domain.drift import Level
from runner.report import features, figures, health, labels, segments, timeline
from runner.report.advice import advice
from runner.report.appendix import appendix
from runner.report.states import state

Document = Mapping[str, Any]


def page(manifest: Document, analysis: Document | None, drift: Document | None, most: int) -> dict[str, Any]:
    """Return the templates' context; a failed execution has no attributions, a baselining only live ones.

    Args:
        manifest: the manifest.json.
        analysis: the analysis.json, None where there is none.
        drift: the drift.json, None where nothing was compared.
        most: features in a chart.
    """
    finding = (drift or {}).get("finding") or {}
    sections = [] if analysis is None else labels.sections(manifest, analysis, drift or {})
    checks, headline, sentence = health.strip(manifest, finding), manifest["headline"], manifest["sentence"]
    doubt = health.doubt(checks) if manifest.get("verdict") else ""
    return {
        "headline": headline,
        "state": state(headline),
        "sentence": sentence[:1].upper() + sentence[1:],
        "doubt": doubt,
        "advice": advice(headline, bool(doubt)),
        "facts": _facts(manifest, finding),
        "health": checks,
        "notes": manifest["notes"],
        "top_changes": _movers(manifest, sections),
        "figures": _figures(manifest, sections, drift or {}, most),
        "heading": "All labels" if len(sections) > 1 else "All features",
        "labels": sections,
        "segments": segments.parts(finding.get("segments", [])),
        "columns": _columns(manifest["estimator"]["agg_method"]) if sections else {},
        "effects": labels.EFFECTS,
        "levels": list(map(str, Level)),
        "appendix": appendix(manifest, analysis is not None, drift is not None),
    }


def _columns(method: str) -> dict[str, Any]:
    """Return the columns of all tables, as plain lists."""
    columns = {
        "top_changes": features.moving(method),
        "windows": timeline.COLUMNS,
        "medians": features.MEDIANS,
        "effects": labels.COLUMNS,
        "compared": features.compared(method),
        "alone": features.alone(method),
        "segments": segments.COLUMNS,
    }
    return {name: [list(column) for column in each] for name, each in columns.items()}


def _facts(manifest: Document, finding: Document) -> list[tuple[str, str]]:
    monitored = manifest["stage"] == "monitor"
    facts = [("Window", manifest["window"]["text"])] if monitored else []
    facts.append(("Status", manifest["status"]))
    verdict = manifest.get("verdict") or {}
    if ndcg := [label["ndcg"] for label in verdict.get("labels", []) if label["ndcg"] is not None]:
        facts.append(("nDCG", f"{min(ndcg):.4f}, alarm below {verdict['threshold']:g}"))
    if finding:
        facts += [("Level", _level(finding)), ("Could have been seen", _sight(finding["smallest"]))]
    if monitored:
        facts.append(("Scheduled", f"{timeline.when(manifest['scheduled'])} UTC"))
        facts.append(("Endpoint", manifest["endpoint"]))
    return [*facts, ("Monitor", manifest["monitor"])]


def _level(finding: Document) -> str:
    level, alone = (finding.get(key, finding["level"]).replace("_", " ") for key in ("level", "alone"))
    return level if level == alone else f"{level}; this window alone: {alone}"


def _sight(smallest: float) -> str:
    return f"a change in {smallest:.0%} of a feature's records" if smallest < 1 else "nothing, in so few records"


def _movers(manifest: Document, sections: Sequence[Document]) -> dict[str, Any] | None:
    """Return the table of what moved most of the first label, None where nothing was compared."""
    if not sections or not sections[0]["compared"]:
        return None
    moved = features.moved(sections[0]["rows"], manifest["estimator"]["agg_method"])
    return {**moved, "label": sections[0]["label"] if len(sections) > 1 else ""}


def _figures(manifest: Document, sections: Sequence[Document], drift: Document, most: int) -> list[dict[str, Any]]:
    """Return the charts, in their order."""
    if not sections:
        return []
    if not sections[0]["compared"]:
        return figures.alone(sections, most)
    drawn = figures.compared(sections[0], drift.get("finding") or {}, manifest.get("material"), most)
    told = figures.windows(timeline.points(manifest, drift))
    first = [figure for figure in drawn if figure["chart"] == "quadrant"]
    return [*first, *told, *(figure for figure in drawn if figure not in first)]
