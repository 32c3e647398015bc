"""Captures of an endpoint: the source, the reader of one file, and captures merged with ground truth."""

from __future__ import annotations

import itertools
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from annotated_types import Ge, Le
from numpy.typing import NDArray

from runner import storage
from runner.domain.executions import HOUR, Window
from runner.domain.numbers import Integer, plural
from runner.domain.records import PROBE, Line
from runner.drift import performance
from runner.drift.performance import Quality
from runner.errors import RecordError, snippet
from runner.probes import is_probe
from runner.records import capture, fast_reader, ground_truth
from runner.records.fast_reader import MAX_PATTERN_BYTES, LinePattern
from runner.records.fields import Fields
from runner.records.payloads import Scalar
from runner.records.tables import Record, event_records
from runner.sources.data import Data
from runner.sources.source import RecordCollector
from runner.storage import File
from runner.types import NO_OTHER_KEYS, Location

MAX_PATTERNS = 8
"""Maximum number of patterns per file."""
SAMPLE_LINES = 64
"""Number of lines from which a pattern is inferred."""
MIN_LINES = 2_000
"""Minimum number of lines for which the fast reader saves time."""
BLOCK_ROWS = 2**16
"""Number of lines per table."""


@dataclass(frozen=True)
class CaptureFile:
    """A file of captured events.

    Attributes:
        path: local path of the content.
        name: name of the file in rejections.
        fields: locations of features and scores.
        window: period of the events that are read.
        own: whether the folder of the file is an hour of the window; lines without a valid time then count as events.
    """

    path: Path
    name: str
    fields: Fields
    window: Window
    own: bool = True

    def read(self, collector: RecordCollector, min_lines: int = MIN_LINES) -> None:
        """Collect all events of the window; files with fewer than `min_lines` lines are read line by line."""
        pending: NDArray[np.uint32] | None = None
        for _ in range(MAX_PATTERNS):
            pattern = self._infer_pattern(pending, min_lines)
            if pattern is None:
                break
            pending = self._read_pattern(pattern, pending, collector)
        collector.add_records(self.name, self._rows(self._lines(pending), collector))

    def _infer_pattern(self, pending: NDArray[np.uint32] | None, min_lines: int) -> LinePattern | None:
        """Return a pattern of the pending lines, None if there is none or there are fewer than `min_lines` lines.

        polars would decompress a file whose first bytes are those of a compression format, so it reads only files that
        begin with JSON.
        """
        if (pending is not None and len(pending) < min_lines) or not self._begins_with_json():
            return None
        sample = [line.data[: MAX_PATTERN_BYTES + 1] for line in itertools.islice(self._lines(pending), SAMPLE_LINES)]
        if pending is None and self._estimated_lines(sample) < min_lines:
            return None
        return fast_reader.infer_pattern(sample, self.fields, self.window)

    def _begins_with_json(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(1024).removeprefix(BOM_UTF8).lstrip(b" \t\r\n")[:1] in {b"{", b"[", b""}

    def _estimated_lines(self, sample: list[bytes]) -> float:
        """Return the approximate number of lines in the file; too many if the sample contains truncated lines."""
        return self.path.stat().st_size * len(sample) / max(1, sum(map(len, sample)))

    def _lines(self, pending: NDArray[np.uint32] | None) -> Iterator[Line]:
        """Yield the lines whose numbers are pending; None means that all lines are pending."""
        lines = storage.read_lines(self.path, self.name)
        if pending is None:
            yield from lines
        elif len(pending):
            numbers = iter(pending.tolist())
            number = next(numbers)
            for line in lines:
                if line.number == number:
                    yield line
                    if (number := next(numbers, 0)) == 0:
                        return

    def _read_pattern(
        self, pattern: LinePattern, pending: NDArray[np.uint32] | None, collector: RecordCollector
    ) -> NDArray[np.uint32]:
        """Collect the pending lines that fit a pattern; return the numbers of the other pending lines."""
        lines_to_skip = self._leading_long_lines()
        skipped = np.arange(1, lines_to_skip + 1, dtype=np.uint32)
        remaining = [skipped if pending is None else skipped[np.isin(skipped, pending)]]
        for lines in _blocks(self.path, pattern, lines_to_skip):
            block = lines if pending is None else lines.filter(np.isin(lines["line"].to_numpy(), pending))
            remaining.append(block["line"].filter(~block["fits"]).to_numpy())
            fitting = _where(block, block["fits"])
            inside = _where(fitting, fitting["at"].is_between(self.window.start, self.window.end, closed="left"))
            collector.outside += fitting.height - inside.height
            traffic = _without_probes(inside)
            collector.probes += inside.height - traffic.height
            collector.events += traffic.height
            for r in range(pattern.records if traffic.height else 0):
                collector.add(self.name, pattern.part(traffic, r))
        return np.concatenate(remaining)

    def _leading_long_lines(self) -> int:
        """Return the number of long lines before the first short one: polars allocates columns for all their commas."""
        lines = storage.read_lines(self.path, self.name)
        return sum(1 for _ in itertools.takewhile(lambda line: len(line.data) > MAX_PATTERN_BYTES, lines))

    def _rows(self, lines: Iterable[Line], collector: RecordCollector) -> Iterator[Record]:
        for line in lines:
            if not line.data.strip():
                continue
            at = None
            try:
                if len(line.data) > storage.MAX_LINE_BYTES:
                    raise RecordError("too_long", f"longer than {storage.MAX_LINE_BYTES} bytes: {snippet(line.data)}")
                event = capture.decode(line.data)
                at = event.at
                if at not in self.window:
                    collector.outside += 1
                    continue
                if is_probe(event.inference_id):
                    collector.probes += 1
                    continue
                yield from event_records(line.number, event, self.fields)
            except RecordError as error:
                if at is None and not self.own:
                    collector.outside += 1
                    continue
                collector.reject_line(line, error)
            collector.events += 1


def _blocks(path: Path, pattern: LinePattern, skip: int) -> Iterator[pl.DataFrame]:
    """Yield tables of the lines of a file: their numbers, their values, and whether they fit the pattern.

    The first `skip` lines are not read.
    """
    lines = pl.scan_csv(
        path,
        has_header=False,
        separator=",",
        quote_char=None,
        schema=pattern.schema,
        ignore_errors=True,
        truncate_ragged_lines=True,
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
        encoding="utf8-lossy",
        row_index_name="line",
        row_index_offset=skip + 1,
        skip_lines=skip,
    ).select("line", *pattern.columns())
    batches: list[pl.DataFrame] = []
    for batch in lines.collect_batches(engine="streaming", maintain_order=True):
        batches.append(batch)
        if sum(map(len, batches)) >= BLOCK_ROWS:
            yield pattern.with_legal_ids(pl.concat(batches))
            batches.clear()
    if batches:
        yield pattern.with_legal_ids(pl.concat(batches))


def _without_probes(lines: pl.DataFrame) -> pl.DataFrame:
    if "inference_id" not in lines.columns:
        return lines
    suspects = lines.filter(lines["inference_id"].str.starts_with(PROBE))["inference_id"]
    probes = list(filter(is_probe, suspects))
    return _where(lines, ~lines["inference_id"].is_in(probes)) if probes else lines


def _where(frame: pl.DataFrame, mask: pl.Series) -> pl.DataFrame:
    return frame if mask.all() else frame.filter(mask)


@dataclass(frozen=True)
class EndpointSource:
    """Captures of an endpoint's variant, `{root}/yyyy/mm/dd/hh/*.jsonl`.

    Attributes:
        kind: `endpoint`.
        root: folder with the folders of hours.
        neighbours: number of hours before and after the window; events of the window are also read from their folders.
    """

    kind: Literal["endpoint"]
    root: Location
    neighbours: Annotated[Integer, Ge(0), Le(24)]

    __pydantic_config__ = NO_OTHER_KEYS

    def folders(self, window: Window) -> list[str]:
        """Return the folders of the window's own hours."""
        return [storage.join(self.root, folder) for folder in storage.hour_folders(window)]

    def files(self, window: Window) -> list[File]:
        """Return the capture files of the window's hours and of the neighbouring hours."""
        around = Window(window.start - self.neighbours * HOUR, window.end + self.neighbours * HOUR)
        return storage.list_hours(self.root, around, (".jsonl", ".jsonl.gz"))

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:
        """Collect the events of the window."""
        hours = tuple(storage.hour_folders(window))
        for file in files:
            with storage.local_copy(file.location, file.size) as path:
                CaptureFile(path, file.name, data.fields, window, file.name.startswith(hours)).read(collector)


@dataclass(frozen=True)
class MergedReader:
    """Reader of the files of `stage=merge`, `{root}/yyyy/mm/dd/hh/*.jsonl`.

    Attributes:
        root: folder with the folders of hours.
        data: format of responses and ground truth.
    """

    root: str
    data: Data

    def quality(self, window: Window, names: tuple[str, ...]) -> Quality | str | None:
        """Return the model's performance in a window, a message if it is unknown, or None without merged events.

        Args:
            window: period of the events.
            names: names of the model's outputs.
        """
        labels: list[Scalar] = []
        scores: list[list[float]] = []
        problems: list[str] = []
        for file in storage.list_hours(self.root, window, (".jsonl",)):
            with storage.local_copy(file.location, file.size) as path:
                for line in storage.read_lines(path, file.name):
                    if not line.data.strip():
                        continue
                    try:
                        pairs = self._labelled_scores(line.data, window)
                    except RecordError as error:
                        problems.append(f"{file.name}:{line.number}: {error}")
                        continue
                    labels += [label for label, _ in pairs]
                    scores += [score for _, score in pairs]
        if not labels:
            return problems[0] if problems else None
        if any(len(score) != len(names) for score in scores):
            return f"the model has {plural(len(names), 'output')}, but some captured responses do not"
        try:
            quality = performance.assess(labels, np.array(scores), names, self.data.probability_threshold)
        except ValueError as error:
            return str(error)
        if problems:
            note = f"{plural(len(problems), 'merged event')} could not be read, the first: {problems[0]}"
            quality = replace(quality, notes=(*quality.notes, note))
        return quality

    def _labelled_scores(self, line: bytes, window: Window) -> list[tuple[Scalar, list[float]]]:
        """Return the labels and scores of an event's records, matched by position."""
        event, truth = ground_truth.decode_merged(line)
        if event.at not in window:
            return []
        if event.output is None:
            raise RecordError("no_output", "the response was not captured, so there is no score to compare")
        labels = ground_truth.label_values(truth, self.data.ground_truth)
        return list(zip(labels, self.data.fields.response_scores(event.output, len(labels)), strict=True))
