"""What the templates receive: strings, numbers and plain rows, made from the JSON documents of a directory.

The page, the PDF and the notebook show the same strings in the same order, for all of them come from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.domain.drift import Headline, Level
from runner.report import charts, health, sections, tables
from runner.report.health import State
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST, SETTINGS, VIOLATIONS

Document = Mapping[str, Any]

STATES = {
    Headline.NO_DRIFT: State.GOOD,
    Headline.TOO_FEW_RECORDS: State.WARNING,
    Headline.NO_MATERIAL_DRIFT: State.GOOD,
    Headline.DRIFT: State.BAD,
    Headline.SEVERE_DRIFT: State.BAD,
    Headline.NO_VERDICT: State.WARNING,
    Headline.FAILED: State.BAD,
    Headline.REFERENCE: State.GOOD,
}
ADVICE = {
    Headline.FAILED: (
        "Nothing was judged; the reference and all earlier executions are as they were.",
        "Correct what the sentence above names, then run the same window again: this report is replaced.",
    ),
    Headline.TOO_FEW_RECORDS: (
        "Only the ranking was judged. Watch longer windows, or lower drift.min_rows and accept that less can be seen.",
        "If there should have been more traffic, look at what was captured and rejected below.",
    ),
    Headline.NO_VERDICT: (
        "Nothing could be compared. Make a new reference with stage=baseline, from data that the model uses.",
    ),
    Headline.DRIFT: (
        "Look at the first of the movers where its values come from, and at its likely cause.",
        "If the change is meant to stay, make a new reference with stage=baseline.",
    ),
}
ADVICE[Headline.SEVERE_DRIFT] = ADVICE[Headline.DRIFT]
DOUBT = "Settle first what is in doubt: until then neither drift nor its absence is sure."

FORMULAS = (
    (
        "nDCG",
        "compares two rankings of the features: gains are the reference attributions, the live ones supply only the "
        "order, each place i counts 1 / log2(i + 1), and the sum is divided by that of the reference's own order.",
    ),
    (
        "Share moved",
        "½ Σ |q − p| over the features, with their shares of all attribution, p in the reference and q live.",
    ),
    ("Growth", "log2 of all live attribution together, divided by all of the reference."),
    ("φ distance", "the largest difference of the two distribution functions of a feature's local attributions."),
    ("p (Holm)", "how often chance alone brings such a distance, corrected for the number of features and labels."),
    ("By chance", "what 99 of 100 divisions stay within, of reference and live records pooled and divided anew."),
)
"""What the figures are."""


def page(manifest: Document, analysis: Document | None, drift: Document | None, most: int) -> dict[str, Any]:
    """Return the templates' context; a failed execution has no attributions, a baselining only live ones.

    Args:
        manifest: the manifest.json.
        analysis: the analysis.json, None where there is none.
        drift: the drift.json, None where nothing was compared.
        most: features in a chart.
    """
    finding = (drift or {}).get("finding") or {}
    labels = [] if analysis is None else sections.label_sections(manifest, analysis, drift or {})
    checks, headline, sentence = health.strip(manifest, finding), manifest["headline"], manifest["sentence"]
    doubt = health.doubt(checks) if manifest.get("verdict") else ""
    return {
        "headline": headline,
        "state": state(headline),
        "sentence": sentence[:1].upper() + sentence[1:],
        "doubt": doubt,
        "advice": advice(headline, doubtful=bool(doubt)),
        "facts": _facts(manifest, finding),
        "health": checks,
        "notes": manifest["notes"],
        "top_changes": _top_changes(manifest, labels),
        "figures": _figures(manifest, labels, drift or {}, most),
        "heading": "All labels" if len(labels) > 1 else "All features",
        "labels": labels,
        "segments": sections.segment_table(finding.get("segments", [])),
        "columns": _columns(manifest["estimator"]["agg_method"]) if labels else {},
        "effects": sections.EFFECTS,
        "levels": list(map(str, Level)),
        "appendix": _appendix(manifest, analysis is not None, drift is not None),
    }


def _columns(method: str) -> dict[str, Any]:
    """Return the columns of all tables, as plain lists."""
    columns = {
        "top_changes": tables.top_changes_columns(method),
        "windows": tables.WINDOW_COLUMNS,
        "medians": tables.MEDIANS,
        "effects": tables.EFFECT_COLUMNS,
        "compared": tables.compared_columns(method),
        "alone": tables.alone_columns(method),
        "segments": tables.SEGMENT_COLUMNS,
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
        facts.append(("Scheduled", f"{charts.format_time(manifest['scheduled'])} UTC"))
        facts.append(("Endpoint", manifest["endpoint"]))
    return [*facts, ("Monitor", manifest["monitor"])]


def _level(finding: Document) -> str:
    level, alone = (finding.get(key, finding["level"]).replace("_", " ") for key in ("level", "alone"))
    return level if level == alone else f"{level}; this window alone: {alone}"


def _sight(smallest: float) -> str:
    return f"a change in {smallest:.0%} of a feature's records" if smallest < 1 else "nothing, in so few records"


def _top_changes(manifest: Document, labels: Sequence[Document]) -> dict[str, Any] | None:
    """Return the table of the top changes of the first label, or None if nothing was compared."""
    if not labels or not labels[0]["compared"]:
        return None
    table = sections.top_changes_table(labels[0]["rows"], manifest["estimator"]["agg_method"])
    return {**table, "label": labels[0]["label"] if len(labels) > 1 else ""}


def _figures(manifest: Document, labels: Sequence[Document], drift: Document, most: int) -> list[dict[str, Any]]:
    """Return the charts, in their order."""
    if not labels:
        return []
    if not labels[0]["compared"]:
        return charts.reference_figures(labels, most)
    figures = charts.compared_figures(labels[0], drift.get("finding") or {}, manifest.get("material"), most)
    timeline = charts.timeline_figures(charts.timeline_points(manifest, drift))
    first = [figure for figure in figures if figure["chart"] == "quadrant"]
    return [*first, *timeline, *(figure for figure in figures if figure not in first)]


def state(headline: str) -> State:
    """Return the state of a headline; one of another version is a warning."""
    return STATES[Headline(headline)] if headline in set(Headline) else State.WARNING


def advice(headline: str, doubtful: bool) -> tuple[str, ...]:
    """Return recommended actions; none if there is no problem."""
    actions = ADVICE.get(Headline(headline), ()) if headline in set(Headline) else ()
    return (DOUBT, *actions) if doubtful else actions


def _appendix(manifest: Document, explained: bool, compared: bool) -> dict[str, Any]:
    """Return the appendix.

    Args:
        manifest: the manifest.json.
        explained: whether there is an analysis.json.
        compared: whether there is a drift.json.
    """
    violated = manifest["status"] == "CompletedWithViolations"
    there = {ANALYSIS: explained, DRIFT: compared, VIOLATIONS: violated}
    return {
        "formulas": FORMULAS if compared else (),
        "settings": _settings(manifest),
        "command": manifest.get("command") or "",
        "documents": [name for name in (ANALYSIS, DRIFT, VIOLATIONS, MANIFEST, SETTINGS) if there.get(name, True)],
    }


def _settings(manifest: Document) -> list[tuple[str, str]]:
    shown = [(f"shap.{key}", str(value)) for key, value in manifest.get("estimator", {}).items()]
    shown += [(f"sha256 of {name}", digest or "not known") for name, digest in manifest.get("hashes", {}).items()]
    return shown + [(name, version) for name, version in manifest["versions"].items()]
