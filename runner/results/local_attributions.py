"""Local attributions as CSV files in SageMaker Clarify's format.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

import polars as pl

from runner.domain.attributions import Attributions
from runner.domain.records import Captured
from runner.results.directory import BASELINE_ROWS, EXPLAINED, LOCAL_ATTRIBUTIONS

VALUES = 2**18
"""Values that are formatted as CSV at a time."""
ORIGIN = ("file", "line", "row", "event_id", "inference_id", "at")
"""Columns that identify the origin of a record: its event, and its row in the payload, counted from 0."""


@contextmanager
def saved(
    attributions: Attributions, background: pl.DataFrame, captured: Captured | None = None
) -> Iterator[dict[str, IO[bytes]]]:
    """Yield open temporary files by their names in an execution's directory; they are removed after the block.

    Args:
        attributions: one row per record, columns `{feature}_{label}`, all features of the first label first.
        background: the rows that replaced masked features.
        captured: the records, in the same order; None if they come from a dataset.
    """
    same_names = set(attributions.names) == set(background.columns)
    rows = background.select(attributions.names) if same_names else background
    tables = {LOCAL_ATTRIBUTIONS: _local(attributions), BASELINE_ROWS: _lines(rows.columns, [rows])}
    if captured:
        origin = captured.table.select(ORIGIN).collect()
        tables[EXPLAINED] = _lines(ORIGIN, origin.iter_slices(VALUES // len(ORIGIN)))
    with ExitStack() as stack:
        yield {name: stack.enter_context(_stored(lines)) for name, lines in tables.items()}


def _local(attributions: Attributions) -> Iterator[bytes]:
    N, D, L = attributions.phi_NDL.shape
    names = [f"{name}_{label}" for label in attributions.labels for name in attributions.names]
    step = max(1, VALUES // (D * L))
    parts = (
        attributions.phi_NDL[start : start + step].swapaxes(1, 2).reshape(-1, L * D) for start in range(0, N, step)
    )
    return _lines(names, map(pl.DataFrame, parts))


def _lines(header: Iterable[str], parts: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    """Yield the lines of a CSV file; duplicate names are allowed, and floats read back to the same bits."""
    first = io.StringIO()
    csv.writer(first, lineterminator="\n").writerow(header)
    yield first.getvalue().encode()
    for part in parts:
        text = part.write_csv(include_header=False, quote_style="non_numeric", datetime_format="%Y-%m-%dT%H:%M:%S%.fZ")
        yield text.encode()


@contextmanager
def _stored(lines: Iterable[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(prefix="shapwatch-") as file:
        file.writelines(lines)
        file.seek(0)
        yield file
