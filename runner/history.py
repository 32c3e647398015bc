"""What the executions before one said: the alarm's memory, and the line that a report draws over time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from runner import executions
from runner.domain import Status
from runner.finding import Level, Point


def before(target: Path, most: int) -> tuple[Point, ...]:
    """Return what the executions scheduled before that of a directory said, oldest first, no more than `most`.

    One whose manifest cannot be read counts, and says nothing.
    """
    points = []
    for directory in islice(executions.earlier(target), most):
        with suppress(ValueError, LookupError, TypeError, AttributeError):
            if manifest := executions.read_manifest(directory):
                points.append(point(manifest))
    return tuple(points[::-1])


def point(manifest: Mapping[str, Any]) -> Point:
    """Return what the manifest of an execution says.

    Raises:
        ValueError: or `LookupError`, `TypeError`, `AttributeError`, when it is damaged.
    """
    window, verdict = manifest["window"], manifest.get("verdict") or {}
    ndcg = [label["ndcg"] for label in verdict.get("labels", []) if label["ndcg"] is not None]
    effects = manifest.get("effects") or {}
    share_moved, mass = (effects.get(name) or {} for name in ("share_moved", "mass"))
    level = Level(manifest.get("level") or Level.NONE)
    return Point(
        start=str(window["start"]),
        end=str(window["end"]),
        status=Status(manifest["status"]),
        level=level,
        alone=Level(manifest.get("level_alone") or level),
        ndcg=min(ndcg, default=None),
        threshold=verdict.get("threshold"),
        share_moved=share_moved.get("value"),
        share_moved_noise=share_moved.get("noise"),
        mass=mass.get("value"),
        mass_noise=mass.get("noise"),
        reference=(manifest.get("hashes") or {}).get("reference"),
    )
