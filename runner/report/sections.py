"""What is to be said of features, labels and parts of the records, the one with most to say first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from runner.domain.drift import Level
from runner.report.tables import (
    EFFECT_COLUMNS,
    SEGMENT_COLUMNS,
    Row,
    alone_columns,
    compared_columns,
    table,
    top_changes_columns,
)

Document = Mapping[str, Any]

EFFECTS = (
    ("Share of the attention that moved", "attribution_shift", "{:.1%}", "up to {}"),
    ("All attribution together, log2 of its growth", "total_log2_change", "{:+.2f}", "up to ±{}"),
    ("nDCG of the kept records", "ndcg", "{:.4f}", "down to {}"),
    ("AUC of a classifier that tells live from reference, all labels together", "separability", "{:.3f}", "up to {}"),
)
"""Name, key, form, and the form of what chance does."""
DIVIDED = (
    "What moved, beside what chance alone does: the kept reference records and the live ones pooled and divided anew, "
    "99 of 100 times within it"
)
FEWEST_ROWS = 10
"""Of each label, where rows are bounded."""


def label_sections(manifest: Document, analysis: Document, drift: Document) -> list[dict[str, Any]]:
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
        rows = feature_rows(live["global_shap_values"], before, found.get(label))
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
    columns = compared_columns(method) if compared else alone_columns(method)
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
        "effects": table(DIVIDED, EFFECT_COLUMNS, effects(found)),
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
        "violated": rule["violated"],
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


SHORTEST = 0.10
"""Bars are drawn beside the longest, and beside this share at least, so that what is small looks small."""
MOST_MOVERS = 10


def feature_rows(
    now: Mapping[str, float], before: Mapping[str, float] | None, found: Row | None
) -> list[dict[str, Any]]:
    """Return a row per feature, in the order of the reference ranking (of the live one where there is none).

    Args:
        now: live global attributions.
        before: those of the reference, None where there is none.
        found: what the calibrated comparison found for this label, None where it did not take place.
    """
    if found is not None:
        features = [dict(feature) for feature in found["features"]]
    else:
        features = [{"name": name, **figures} for name, figures in _side("now", now).items()]
        sides = {} if before is None else _side("before", before)
        features = [{**feature, **sides.get(feature["name"], {})} for feature in features]
    for feature in features:
        if "before" in feature:
            feature["moved"] = feature["share_now"] - feature["share_before"]
    return sorted(features, key=lambda feature: feature.get("rank_before", feature["rank_now"]))


def _side(side: str, values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return value, share of all attribution and place of each feature, under the names of this side."""
    total, ascending = sum(map(abs, values.values())), sorted(-abs(value) for value in values.values())
    return {
        name: {
            side: value,
            f"share_{side}": abs(value) / total if total else 0.0,
            f"rank_{side}": 1 + bisect_left(ascending, -abs(value)),
        }
        for name, value in values.items()
    }


def top_changes(features: Sequence[Row]) -> list[Row]:
    """Return the features that moved most, the farthest first."""
    return sorted(features, key=lambda feature: (-abs(feature["moved"]), -feature.get("distance", 0)))[:MOST_MOVERS]


def largest(features: Sequence[Row], most: int) -> list[Row]:
    """Return the features with the largest share of all attribution on either side, in their order."""
    if len(features) <= most:
        return list(features)
    shares = sorted((-max(each["share_now"], each.get("share_before", 0)), i) for i, each in enumerate(features))
    return [features[i] for i in sorted(i for _, i in shares[:most])]


def top_changes_table(features: Sequence[Row], method: str) -> dict[str, Any]:
    """Return the table of those that moved most, each with a bar: where it begins and how long it is, in percent."""
    told = top_changes(features)
    longest = max(SHORTEST, *(abs(feature["moved"]) for feature in told))
    caption = "Those that moved most; the bar goes right for what was gained, left for what was lost"
    return {
        **table(caption, top_changes_columns(method), told),
        "bars": [_bar(feature["moved"] / longest) for feature in told],
    }


def _bar(length: float) -> dict[str, Any]:
    """Return the bar of a length between -1 and 1, from the middle."""
    return {"from": round(50 + 50 * min(0.0, length), 2), "length": round(50 * abs(length), 2), "gain": length > 0}


def segment_table(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the table of the parts of the records, None where there are none; of several labels the worst counts."""
    rows = [_segment_row(segment) for segment in sorted(found, key=_segment_urgency)]
    return table("Parts of the records, each judged alone", SEGMENT_COLUMNS, rows) if rows else None


def _segment_row(segment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a segment."""
    told = {key: segment[key] for key in ("name", "rows_reference", "rows_live")}
    told["level"] = segment["level"].replace("_", " ")
    if not segment["labels"]:
        return told
    worst = max(segment["labels"], key=lambda label: (_order(label), label["attribution_shift"]["value"] or 0))
    moved = max(worst["features"], key=lambda feature: abs(feature["share_now"] - feature["share_before"]))
    effect = worst["attribution_shift"]
    return {**told, "moved": effect["value"], "noise": effect["noise"], "p": worst["p"], "mover": moved["name"]}


def _segment_urgency(segment: Mapping[str, Any]) -> tuple[int, float]:
    return -_order(segment), -max(
        (label["attribution_shift"]["value"] or 0 for label in segment["labels"]), default=0.0
    )


def _order(judged: Mapping[str, Any]) -> int:
    return Level(judged["level"]).order
