"""The index page of a monitor: its latest verdict, its episodes and its windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from runner.domain.drift import Change, ChangeKind, Headline
from runner.domain.executions import HistoryPoint, Window, day_and_time, utc
from runner.report import context
from runner.report.health import Mark
from runner.results.directory import MANIFEST, REPORT
from runner.results.manifest import Manifest
from runner.results.manifest_file import read_manifest

MOST_EXECUTIONS = 1_000
"""Maximum number of executions on the index page, newest first."""
NO_VERDICT = {Mark.FAILED, Mark.FEW}
"""Marks of executions that neither continue nor interrupt a change."""


@dataclass(frozen=True)
class ExecutionRow:
    """Execution on the index page, formatted.

    Attributes:
        directory: path relative to the folder of the monitor.
        report: path of the report relative to the folder; empty if there is none.
        level_words: level in words, or the headline if it says more.
        title, action: title of the verdict, and what to do.
        since: start of the change that the title names; empty without a change.
        changes: significant changes, the one that the title names first.
        time: window; None if the manifest is damaged.
        point: point in the timeline; None if the manifest is damaged.
    """

    directory: str
    report: str
    headline: str
    mark: Mark
    level_words: str
    title: str
    status: str
    action: str = ""
    window: str = ""
    ndcg: str = ""
    attribution_shift: str = ""
    since: str = ""
    changes: tuple[Change, ...] = ()
    time: Window | None = None
    point: HistoryPoint | None = None

    @property
    def story(self) -> tuple[str, str, str]:
        """Level and change; consecutive executions with the same ones are an episode."""
        if self.changes and self.mark is not Mark.NONE:
            return self.level_words, self.changes[0].kind, self.changes[0].name
        return self.level_words, "", self.title if self.mark is Mark.FAILED else ""


@dataclass(frozen=True)
class Episode:
    """Consecutive windows with the same level and change.

    Attributes:
        title, report: title and report of the newest window; its attribution shift as title if there is no drift.
        period: since when, or from when to when.
        windows: number of windows.
    """

    mark: Mark
    level_words: str
    title: str
    report: str
    period: str
    windows: int


@dataclass(frozen=True)
class Index:
    """Content of the index page of a monitor."""

    title: str
    monitor: str
    endpoint: str
    rows: tuple[ExecutionRow, ...]
    most: int = MOST_EXECUTIONS

    @property
    def latest(self) -> ExecutionRow | None:
        """The newest execution that had data, or else the newest one; None without executions."""
        with_data = (row for row in self.rows if row.headline != Headline.NO_DATA)
        return next(with_data, self.rows[0] if self.rows else None)

    @property
    def episodes(self) -> list[Episode]:
        """The episodes, newest first; executions without a verdict do not interrupt an episode."""
        verdicts = [row for row in self.rows if row.mark not in NO_VERDICT]
        groups = [list(group) for _, group in groupby(verdicts, key=lambda row: row.story)]
        consecutive = [list(group) for _, group in groupby(self.rows, key=lambda row: row.story)]
        groups += [group for group in consecutive if group[0].mark in NO_VERDICT]
        position = {row.directory: i for i, row in enumerate(self.rows)}
        groups.sort(key=lambda group: position[group[0].directory])
        return [_episode(group, is_last=i == 0) for i, group in enumerate(groups)]

    @property
    def points(self) -> list[HistoryPoint]:
        """The points of the timeline, oldest first."""
        return [row.point for row in self.rows[::-1] if row.point]


def _episode(rows: Sequence[ExecutionRow], is_last: bool) -> Episode:
    """Return the episode of consecutive rows, newest first; the last one is not over."""
    newest, oldest = rows[0], rows[-1]
    period = ""
    if newest.time and oldest.time:
        end = newest.time.end
        start = newest.since or day_and_time(oldest.time.start, end.year)
        same_day = start.startswith(day_and_time(end, end.year).partition(",")[0])
        until = f"–{end:%H:%M} UTC" if same_day else f" – {day_and_time(end, end.year)}"
        period = f"since {start}" if is_last else f"{start.removesuffix(' UTC')}{until}"
    figures = f"Shift {newest.attribution_shift}" if newest.mark is Mark.NONE and newest.attribution_shift else ""
    return Episode(newest.mark, newest.level_words, figures or newest.title, newest.report, period, len(rows))


def index_page(title: str, folder: Path, directories: Sequence[Path]) -> Index:
    """Return the content of the index page of a monitor.

    Args:
        title: the title of the reports.
        folder: the folder of the monitor.
        directories: the directories of its executions, newest first.
    """
    rows = [_row(folder, directory) for directory in directories]
    return Index(title, folder.name, folder.parent.name, tuple(_with_since(rows)))


def _with_since(rows: Sequence[ExecutionRow]) -> Iterator[ExecutionRow]:
    """Yield the rows, newest first, with the start of the change that each title names.

    The starts come from the changes of the listed windows, in whatever order the windows were executed. The oldest row
    states when its changes began.
    """
    started = dict[str | None, dict[tuple[ChangeKind, str], str]]()
    dated = list[ExecutionRow]()
    for row in rows[::-1]:
        since = ""
        if row.time and row.point and row.mark not in NO_VERDICT:
            before = started.get(row.point.reference, {} if dated else {(c.kind, c.name): c.since for c in row.changes})
            now = {(each.kind, each.name): before.get((each.kind, each.name), each.onset) for each in row.changes}
            started[row.point.reference] = now
            since = day_and_time(utc(next(iter(now.values()))), row.time.end.year) if now else ""
        dated.append(replace(row, since=since))
    yield from dated[::-1]


def _row(folder: Path, directory: Path) -> ExecutionRow:
    """Return the row of an execution; for a damaged manifest, the row describes the problem."""
    path = directory.relative_to(folder).as_posix()
    report = f"{path}/{REPORT}" if (directory / REPORT).is_file() else ""
    try:
        manifest = read_manifest(directory)
        if manifest is None or manifest.time is None or manifest.history_point is None:
            raise ValueError(f"{MANIFEST} does not describe an execution")
    except ValueError as error:
        return ExecutionRow(path, report, "Not readable", Mark.FAILED, "Not readable", f"{error}.", "unknown")
    return _readable_row(path, report, manifest, manifest.time.window, manifest.history_point)


def _readable_row(path: str, report: str, manifest: Manifest, window: Window, point: HistoryPoint) -> ExecutionRow:
    mark, words, _ = context.summary(manifest)
    return ExecutionRow(
        directory=path,
        report=report,
        headline=manifest.headline,
        mark=mark,
        level_words=context.level_words(manifest, mark),
        title=words.title,
        status=manifest.status,
        action=words.action,
        window=str(window),
        ndcg="" if point.ndcg is None else f"{point.ndcg:.4f}",
        attribution_shift="" if point.attribution_shift is None else f"{point.attribution_shift:.1%}",
        changes=manifest.comparison.changes if manifest.comparison else (),
        time=window,
        point=point,
    )
