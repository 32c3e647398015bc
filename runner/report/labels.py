"""What is to be said of each label, the one with most to say first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.domain.drift import Level
from runner.report import features
from runner.report.states import BAD, GOOD
from runner.report.tables import TEXT, Column, table

Document = Mapping[str, Any]

EFFECTS = (
    ("Share of the attention that moved", "attribution_shift", "{:.1%}", "up to {}"),
    ("All attribution together, log2 of its growth", "total_log2_change", "{:+.2f}", "up to ±{}"),
    ("nDCG of the kept records", "ndcg", "{:.4f}", "down to {}"),
    ("AUC of a classifier that tells live from reference, all labels together", "separability", "{:.3f}", "up to {}"),
)
"""Name, key, form, and the form of what chance does."""
COLUMNS = [
    Column("Effect", "name", TEXT),
    Column("Found", "value", "{:>}"),
    Column("By chance", "noise", "{:>}"),
    Column("p", "p", "{:.3g}"),
]
DIVIDED = (
    "What moved, beside what chance alone does: the kept reference records and the live ones pooled and divided anew, "
    "99 of 100 times within it"
)
FEWEST_ROWS = 10
"""Of each label, where rows are bounded."""


def sections(manifest: Document, analysis: Document, drift: Document) -> list[dict[str, Any]]:
    """Return for each label its verdict, effects, causes and features."""
    verdict, references = manifest.get("verdict") or {}, drift.get("reference") or {}
    verdicts = {rule["label"]: rule for rule in verdict.get("labels", [])}
    finding = drift.get("finding") or {}
    joint = {"separability": finding.get("separability")}
    found = {each["label"]: {**each, **joint} for each in finding.get("labels", [])}
    told = []
    for label, live in analysis["explanations"]["kernel_shap"].items():
        rule = verdicts.get(label)
        reference = references.get(rule["reference_label"]) if rule else None
        before = reference and reference["global_shap_values"]
        rows = features.rows(live["global_shap_values"], before, found.get(label))
        section = {
            "label": label,
            "verdict": _verdict(rule, verdict["threshold"]) if rule else None,
            **_features(rows, live["expected_value"], manifest["estimator"]["agg_method"]),
            **_finding(found.get(label)),
        }
        told.append((_urgency(found.get(label), rule), section))
    return [section for _, section in sorted(told, key=lambda pair: pair[0])]


def _features(rows: list[dict[str, Any]], expected: float, method: str) -> dict[str, Any]:
    compared, shown = "before" in rows[0], f"{expected:.5g}"
    caption = (
        "Global attributions; share is a feature's part of their sum. Expected value (model output on the SHAP "
        f"baseline): {shown}"
    )
    columns = features.compared(method) if compared else features.alone(method)
    return {
        "rows": rows,
        "compared": compared,
        "expected_value": shown,
        "features": table(caption, columns, rows),
    }


def _finding(found: Document | None) -> dict[str, Any]:
    if found is None:
        return {"tested": False, "level": "", "effects": None, "causes": []}
    return {
        "tested": True,
        "level": found["level"].replace("_", " "),
        "effects": table(DIVIDED, COLUMNS, effects(found)),
        "causes": _causes(found),
    }


def _urgency(found: Document | None, rule: Document | None) -> tuple[int, float, float]:
    """Return what labels are sorted by: the level, then the share that moved, then nDCG."""
    level = Level(found["level"]).order if found else 0
    moved = found["attribution_shift"]["value"] if found else None
    ndcg = rule["ndcg"] if rule else None
    return -level, -(moved or 0), 2 if ndcg is None else ndcg


def effects(found: Document) -> list[dict[str, Any]]:
    """Return the effects, each beside what chance does to it."""
    return [
        {
            "name": name,
            "value": "undefined" if found[key]["value"] is None else form.format(found[key]["value"]),
            "noise": None
            if found[key]["noise"] is None
            else within.format(form.format(found[key]["noise"]).lstrip("+")),
            "p": found[key]["p"],
        }
        for name, key, form, within in EFFECTS
        if found.get(key)
    ]


def _verdict(rule: Document, threshold: float) -> dict[str, Any]:
    keys = ("ndcg", "floor", "chance")
    return {
        **{key: "undefined" if rule[key] is None else f"{rule[key]:.4f}" for key in keys},
        "threshold": f"{threshold:g}",
        "state": BAD if rule["violated"] else GOOD,
        "notes": rule["notes"],
    }


def _causes(found: Document) -> list[tuple[str, str]]:
    """Return what has probably happened to which features, those that have changed most surely first."""
    names: dict[str, list[str]] = {}
    for feature in sorted(found["features"], key=lambda feature: (feature["p"], -feature["distance"])):
        if feature["cause"]:
            names.setdefault(feature["cause"], []).append(feature["name"])
    return [(", ".join(those), cause) for cause, those in names.items()]


def room(labels: int, rows: int) -> int:
    """Return how many rows of features each label may have, where all together may have so many."""
    return max(FEWEST_ROWS, rows // max(1, labels))
