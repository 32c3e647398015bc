"""What is to be said of parts of the records: a row for each, the one with most to say first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.domain.drift import Level
from runner.report.tables import TEXT, Column, table

COLUMNS = [
    Column("Part", "name", TEXT),
    Column("Level", "level", "{:>}"),
    Column("Records before", "rows_reference", "{:,}"),
    Column("Records now", "rows_live", "{:,}"),
    Column("Share moved", "moved", "{:.1%}"),
    Column("By chance", "noise", "{:.1%}"),
    Column("p", "p", "{:.2g}"),
    Column("Moved most", "mover", TEXT),
]


def parts(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the table of the parts of the records, None where there are none; of several labels the worst counts."""
    rows = [row(segment) for segment in sorted(found, key=_urgency)]
    return table("Parts of the records, each judged alone", COLUMNS, rows) if rows else None


def row(segment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a segment."""
    told = {key: segment[key] for key in ("name", "rows_reference", "rows_live")}
    told["level"] = segment["level"].replace("_", " ")
    if not segment["labels"]:
        return told
    worst = max(segment["labels"], key=lambda label: (_order(label), label["attribution_shift"]["value"] or 0))
    moved = max(worst["features"], key=lambda feature: abs(feature["share_now"] - feature["share_before"]))
    effect = worst["attribution_shift"]
    return {**told, "moved": effect["value"], "noise": effect["noise"], "p": worst["p"], "mover": moved["name"]}


def _urgency(segment: Mapping[str, Any]) -> tuple[int, float]:
    return -_order(segment), -max(
        (label["attribution_shift"]["value"] or 0 for label in segment["labels"]), default=0.0
    )


def _order(judged: Mapping[str, Any]) -> int:
    return Level(judged["level"]).order
