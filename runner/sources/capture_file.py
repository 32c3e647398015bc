"""A file of captured events, read fast where its lines are alike and patiently where they are not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner import storage
from runner.domain.executions import Window
from runner.domain.records import PROBE, Line
from runner.errors import RecordError, snippet
from runner.records import capture, fast_reader
from runner.records.fast_reader import Shape
from runner.records.fields import Fields
from runner.records.tables import Row, event_rows
from runner.sources.record_collector import RecordCollector

SHAPES = 8
"""How many shapes of lines are learned from a file before the rest is read line by line."""
SAMPLE_LINES = 64
"""Lines from which a shape is learned."""
WORTHWHILE_LINES = 2_000
"""Fewer lines are read one by one sooner than a shape is learned."""
BLOCK_ROWS = 2**16
"""Lines that become one table."""


@dataclass(frozen=True)
class CaptureFile:
    """A file of captured events, of which those in a window count.

    Attributes:
        path: where its content is.
        name: what it is called in rejections.
        window: the window, judged by the event's own time.
        own: whether lines that do not tell their time belong to the window, as they do in its own hours' folders.
    """

    path: Path
    name: str
    fields: Fields
    window: Window
    own: bool = True

    def read(self, collector: RecordCollector, worthwhile: int = WORTHWHILE_LINES) -> None:
        """Read the file: lines of a few learned shapes fast, the others patiently."""
        pending: NDArray[np.uint32] | None = None
        for _ in range(SHAPES):
            shape = self._learn(pending, worthwhile)
            if shape is None:
                break
            pending = self._read_shape(shape, pending, collector)
        self._read_lines(self._lines(pending), collector)

    def _learn(self, pending: NDArray[np.uint32] | None, worthwhile: int) -> Shape | None:
        """Return the shape of the first of the pending lines that has one, where there are many to read by it."""
        if pending is not None and len(pending) < worthwhile:
            return None
        sample = [line.data for line in itertools.islice(self._lines(pending), SAMPLE_LINES)]
        if pending is None and self._about(sample) < worthwhile:
            return None
        return fast_reader.learned(sample, self.fields, self.window)

    def _about(self, sample: list[bytes]) -> float:
        """Return about how many lines the file has, of which the first are given."""
        return self.path.stat().st_size * len(sample) / max(1, sum(map(len, sample)))

    def _lines(self, pending: NDArray[np.uint32] | None) -> Iterator[Line]:
        """Yield the lines that have not been read yet; None stands for all."""
        lines = storage.read_lines(self.path, self.name)
        if pending is None:
            yield from lines
        elif len(pending):
            wanted = iter(pending.tolist())
            number = next(wanted)
            for line in lines:
                if line.number == number:
                    yield line
                    if (number := next(wanted, 0)) == 0:
                        return

    def _read_shape(
        self, shape: Shape, pending: NDArray[np.uint32] | None, collector: RecordCollector
    ) -> NDArray[np.uint32]:
        """Take the pending lines of a shape; return the numbers of those that are of none read so far."""
        left = []
        for lines in _blocks(self.path, shape):
            block = lines if pending is None else lines.filter(np.isin(lines["line"].to_numpy(), pending))
            left.append(block["line"].filter(~block["fits"]).to_numpy())
            fitting = _where(block, block["fits"])
            inside = _where(fitting, fitting["at"].is_between(self.window.start, self.window.end, closed="left"))
            collector.outside += fitting.height - inside.height
            traffic = _without_probes(inside)
            collector.probes += inside.height - traffic.height
            collector.events += traffic.height
            for r in range(shape.records if traffic.height else 0):
                collector.add(self.name, shape.part(traffic, r))
        return np.concatenate(left)

    def _read_lines(self, lines: Iterable[Line], collector: RecordCollector) -> None:
        source = iter(lines)
        while block := list(itertools.islice(source, BLOCK_ROWS)):
            collector.add_rows(self.name, self._rows(block, collector))

    def _rows(self, lines: Iterable[Line], collector: RecordCollector) -> Iterator[Row]:
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
                if event.is_probe:
                    collector.probes += 1
                    continue
                yield from event_rows(line.number, event, self.fields)
            except RecordError as error:
                if at is None and not self.own:
                    collector.outside += 1
                    continue
                collector.reject_line(line, error)
            collector.events += 1


def _blocks(path: Path, shape: Shape) -> Iterator[pl.DataFrame]:
    """Yield the lines of a file as tables of their values and whether they fit a shape."""
    lines = pl.scan_csv(
        path,
        has_header=False,
        separator=",",
        quote_char=None,
        schema=shape.schema,
        ignore_errors=True,
        truncate_ragged_lines=True,
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
        encoding="utf8-lossy",
        row_index_name="line",
        row_index_offset=1,
    ).select("line", *shape.columns())
    held: list[pl.DataFrame] = []
    for batch in lines.collect_batches(engine="streaming", maintain_order=True):
        held.append(batch)
        if sum(map(len, held)) >= BLOCK_ROWS:
            yield shape.legal(pl.concat(held))
            held.clear()
    if held:
        yield shape.legal(pl.concat(held))


def _without_probes(lines: pl.DataFrame) -> pl.DataFrame:
    if "inference_id" not in lines.columns:
        return lines
    return _where(lines, ~lines["inference_id"].str.starts_with(PROBE))


def _where(frame: pl.DataFrame, mask: pl.Series) -> pl.DataFrame:
    return frame if mask.all() else frame.filter(mask)
