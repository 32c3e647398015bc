"""The earlier executions of a monitor, which alerts and the timeline of a report use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from runner.domain.executions import ExecutionState, HistoryPoint
from runner.domain.publication import AlertHistory
from runner.results.directory import MANIFEST, is_unpublished
from runner.results.manifest import Manifest
from runner.results.manifest_file import read_manifest

DATE = re.compile(r"\d{2,4}")
TIME = re.compile(r"\d\d(-\d\d(-\d\d)?)?")
AFTER_ALL = "~"
"""Sorts after every date or time folder name."""

MAX_HISTORY = 1_000
"""Earlier executions that are searched for the last verdict, so that no execution reads the whole history."""


def earlier_executions(target: Path) -> Iterator[Path]:
    """Yield the directories of a monitor's executions scheduled before the given one, newest first."""
    root = target.parents[3]
    yield from _before(root, target.relative_to(root).parts)


def _before(folder: Path, bound: tuple[str, ...]) -> Iterator[Path]:
    """Yield the directories whose path parts sort before those of a bound; names sort by time."""
    head, *rest = bound
    pattern = TIME if not rest else DATE
    with suppress(OSError):
        for name in sorted((each.name for each in folder.iterdir() if pattern.fullmatch(each.name)), reverse=True):
            if rest and name <= head:
                yield from _before(folder / name, tuple(rest) if name == head else (AFTER_ALL,) * len(rest))
            elif name < head:
                yield folder / name


def newest_executions(folder: Path, most: int) -> list[Path]:
    """Return up to `most` directories of a monitor's executions, the latest scheduled first."""
    return list(islice((each for each in _before(folder, (AFTER_ALL,) * 4) if (each / MANIFEST).exists()), most))


def alert_history(target: Path) -> AlertHistory:
    """Summarise the states of up to `MAX_HISTORY` executions scheduled before the given one."""
    return AlertHistory.from_states(islice(_states(target), MAX_HISTORY))


def _states(target: Path) -> Iterator[ExecutionState]:
    """Yield the states of the executions scheduled before the given one, newest first.

    Executions with a damaged manifest, or with an unpublished notification, are skipped.
    """
    for directory in earlier_executions(target):
        if not is_unpublished(directory) and (manifest := _readable(directory)):
            yield manifest.state


def earlier_points(target: Path, most: int) -> tuple[HistoryPoint, ...]:
    """Return the results of up to `most` executions scheduled before the given one, oldest first.

    Executions with a damaged manifest count towards `most` but yield no point.
    """
    manifests = [_readable(directory) for directory in islice(earlier_executions(target), most)]
    points = [manifest.history_point for manifest in manifests if manifest]
    return tuple(point for point in points[::-1] if point)


def _readable(directory: Path) -> Manifest | None:
    """Return the manifest of an execution, or None if it is missing or damaged."""
    try:
        return read_manifest(directory)
    except ValueError:
        return None
