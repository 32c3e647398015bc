"""The results of earlier executions, which alerts and the timeline of a report use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from runner.domain.drift import HistoryPoint, Level
from runner.domain.executions import Status
from runner.results import directories


def earlier_points(target: Path, most: int) -> tuple[HistoryPoint, ...]:
    """Return the results of up to `most` executions scheduled before the given one, oldest first.

    Executions with a damaged manifest count towards `most` but yield no point.
    """
    points = []
    for directory in islice(directories.earlier_executions(target), most):
        with suppress(ValueError, LookupError, TypeError, AttributeError):
            if manifest := directories.read_manifest(directory):
                points.append(history_point(manifest))
    return tuple(points[::-1])


def history_point(manifest: Mapping[str, Any]) -> HistoryPoint:
    """Return the point in history that the manifest of an execution describes.

    Raises:
        ValueError: if the manifest is damaged; also `LookupError`, `TypeError` or `AttributeError`.
    """
    window, verdict = manifest["window"], manifest.get("verdict") or {}
    ndcg = [label["ndcg"] for label in verdict.get("labels", []) if label["ndcg"] is not None]
    effects = manifest.get("effects") or {}
    attribution_shift, total_log2_change = (
        effects.get(name) or {} for name in ("attribution_shift", "total_log2_change")
    )
    level = Level(manifest.get("level") or Level.NONE)
    return HistoryPoint(
        start=str(window["start"]),
        end=str(window["end"]),
        status=Status(manifest["status"]),
        level=level,
        alone=Level(manifest.get("level_alone") or level),
        ndcg=min(ndcg, default=None),
        threshold=verdict.get("threshold"),
        attribution_shift=attribution_shift.get("value"),
        attribution_shift_noise=attribution_shift.get("noise"),
        total_log2_change=total_log2_change.get("value"),
        total_log2_change_noise=total_log2_change.get("noise"),
        reference=(manifest.get("hashes") or {}).get("reference"),
    )
