"""What became of each feature of a label: rows and columns, those that moved most, and how far."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from runner.report.tables import TEXT, Column, Row, table

SHORTEST = 0.10
"""Bars are drawn beside the longest, and beside this share at least, so that what is small looks small."""
MOST_MOVERS = 10
VALUES = {"mean_abs": "Mean |φ|", "median": "Median φ", "mean_sq": "Mean φ²"}
MEDIANS = [
    Column("Feature", "name", TEXT),
    Column("Median φ before", "median_before", "{:.4g}"),
    Column("Median φ now", "median_now", "{:.4g}"),
    Column("φ distance", "distance", "{:.2f}"),
]
"""Of how local attributions are distributed."""


def rows(now: Mapping[str, float], before: Mapping[str, float] | None, found: Row | None) -> list[dict[str, Any]]:
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


def alone(method: str) -> list[Column]:
    """Return the columns of features that are compared with nothing; `method` is the name of the aggregation."""
    return [
        Column("Feature", "name", TEXT),
        Column("Rank", "rank_now", "{:d}"),
        Column(VALUES[method], "now", "{:.4g}"),
        Column("Share", "share_now", "{:.1%}"),
    ]


def compared(method: str) -> list[Column]:
    """Return the columns of features that are compared; those of tests are for rows that have them."""
    return [
        Column("Feature", "name", TEXT),
        Column("Rank before", "rank_before", "{:d}"),
        Column("Rank now", "rank_now", "{:d}"),
        Column(f"{VALUES[method]} before", "before", "{:.4g}"),
        Column(f"{VALUES[method]} now", "now", "{:.4g}"),
        Column("Share before", "share_before", "{:.1%}"),
        Column("Share now", "share_now", "{:.1%}"),
        Column("Share moved", "moved", "{:+.1%}"),
        Column("φ distance", "distance", "{:.2f}"),
        Column("p (Holm)", "p", "{:.2g}"),
    ]


def moving(method: str) -> list[Column]:
    """Return the columns of those that moved most."""
    left_out = {"share_before", "share_now", "distance"}
    return [
        *(column for column in compared(method) if column.key not in left_out),
        Column("Likely cause", "cause", TEXT),
    ]


def moved(features: Sequence[Row], method: str) -> dict[str, Any]:
    """Return the table of those that moved most, each with a bar: where it begins and how long it is, in percent."""
    told = top_changes(features)
    longest = max(SHORTEST, *(abs(feature["moved"]) for feature in told))
    caption = "Those that moved most; the bar goes right for what was gained, left for what was lost"
    return {**table(caption, moving(method), told), "bars": [_bar(feature["moved"] / longest) for feature in told]}


def _bar(length: float) -> dict[str, Any]:
    """Return the bar of a length between -1 and 1, from the middle."""
    return {"from": round(50 + 50 * min(0.0, length), 2), "length": round(50 * abs(length), 2), "gain": length > 0}
