"""What a monitor's windows said, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from runner.report.tables import TEXT, Column, table
from runner.results import history

COLUMNS = [
    Column("End of the window, UTC", "end", TEXT),
    Column("Status", "status", "{:>}"),
    Column("Level", "level", "{:>}"),
    Column("nDCG", "ndcg", "{:.4f}"),
    Column("Share moved", "attribution_shift", "{:.1%}"),
    Column("By chance", "attribution_shift_noise", "{:.1%}"),
    Column("Growth, log2", "total_log2_change", "{:+.2f}"),
    Column("By chance, ±", "total_log2_change_noise", "{:.2f}"),
]
MOST_ROWS = 12


def points(manifest: Mapping[str, Any], drift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the windows before an execution and its own, oldest first; none of a baselining."""
    if manifest["stage"] != "monitor":
        return []
    return [*drift.get("history", []), asdict(history.history_point(manifest))]


def windows(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of the last windows, the newest first."""
    rows = [{**point, "end": when(point["end"]), "level": point["level"].replace("_", " ")} for point in points[::-1]]
    return table("The last windows, the newest first", COLUMNS, rows[:MOST_ROWS])


def when(at: str) -> str:
    """Return a time as it is read.

    >>> when("2026-01-05T10:00:00Z")
    '2026-01-05 10:00'
    """
    return at[:16].replace("T", " ")
