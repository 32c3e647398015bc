"""The page of a monitor: its executions, newest first, with links to their reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.domain.executions import HistoryPoint
from runner.report.context import capitalize, state
from runner.report.health import State
from runner.results.directory import MANIFEST, REPORT
from runner.results.manifest_file import read_manifest

MOST = 1_000
"""Executions that the page lists, newest first."""


@dataclass(frozen=True)
class ExecutionRow:
    """Execution in the list, formatted.

    Attributes:
        directory: path relative to the folder of the monitor.
        report: path of the report relative to the folder; empty if there is none.
        point: point in the timeline; None if the manifest is damaged.
    """

    directory: str
    report: str
    headline: str
    state: State
    status: str
    sentence: str
    window: str = ""
    level: str = ""
    ndcg: str = ""
    attribution_shift: str = ""
    point: HistoryPoint | None = None


@dataclass(frozen=True)
class Index:
    """Content of the page of a monitor."""

    title: str
    monitor: str
    endpoint: str
    rows: tuple[ExecutionRow, ...]
    most: int = MOST

    @property
    def points(self) -> list[HistoryPoint]:
        """The timeline, oldest first."""
        return [row.point for row in self.rows[::-1] if row.point]


def index(title: str, folder: Path, directories: Sequence[Path]) -> Index:
    """Return the content of the page of a monitor.

    Args:
        title: the title of the reports.
        folder: the folder of the monitor.
        directories: the directories of its executions, newest first.
    """
    rows = tuple(_row(folder, directory) for directory in directories)
    return Index(title, folder.name, folder.parent.name, rows)


def _row(folder: Path, directory: Path) -> ExecutionRow:
    """Return the row of an execution; for a damaged manifest, the row describes the problem."""
    path = directory.relative_to(folder).as_posix()
    report = f"{path}/{REPORT}" if (directory / REPORT).is_file() else ""
    try:
        manifest = read_manifest(directory)
        if manifest is None or manifest.time is None or manifest.history_point is None:
            raise ValueError(f"{MANIFEST} does not describe an execution")
    except ValueError as error:
        return ExecutionRow(path, report, "Not readable", State.WARNING, "unknown", f"{error}.")
    point, level = manifest.history_point, manifest.comparison and manifest.comparison.level
    return ExecutionRow(
        directory=path,
        report=report,
        headline=manifest.headline,
        state=state(manifest.headline),
        status=manifest.status,
        sentence=capitalize(manifest.sentence),
        window=str(manifest.time.window),
        level=level.words if level else "",
        ndcg="" if point.ndcg is None else f"{point.ndcg:.4f}",
        attribution_shift="" if point.attribution_shift is None else f"{point.attribution_shift:.1%}",
        point=point,
    )
