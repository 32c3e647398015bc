"""Captured events, the records in them, and the ones that were rejected. N: records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

PROBE = "shapwatch-probe"
"""What the inference ids of our own calls start with, so that captures of them are not taken for traffic."""


@dataclass(frozen=True)
class Line:
    """One line of a file: the file's name relative to what was listed, the line's number from 1, its bytes."""

    file: str
    number: int
    data: bytes


@dataclass(frozen=True)
class Payload:
    """One side of a captured invocation: the body as a string, decoded according to `encoding`."""

    content_type: str
    data: str
    encoding: str


@dataclass(frozen=True)
class Event:
    """One captured invocation: one line of a capture file, whatever the number of records in it."""

    event_id: str
    at: datetime
    input: Payload | None
    output: Payload | None
    inference_id: str | None = None
    version: str = "0"
    custom_attributes: tuple[str, ...] = ()

    @property
    def is_probe(self) -> bool:
        """Whether it is a call of our own, made to explain the endpoint."""
        return self.inference_id is not None and self.inference_id.startswith(PROBE)


@dataclass(frozen=True)
class Rejection:
    """A line or record that was not used: where it stands, the reason it is counted under, the sentence, the text."""

    file: str
    line: int
    kind: str
    problem: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


@dataclass(frozen=True)
class Captured:
    """What a window or a dataset holds: counts of everything seen, the usable records, what was rejected and why.

    Attributes:
        files: the files that were read, named below what was listed.
        events: the lines (of a dataset: records) that belong to the window, used or rejected.
        outside: the lines that belong to other windows.
        probes: the calls that explaining the endpoint made, by their inference ids; they are no traffic.
        records: how many records are usable.
        sample: how many of them are in the table; None for all.
        names: of the features.
        table: the usable records, not read before they are asked for. Its columns are `file`, `line`, `row` (in the
            payload), `event_id`, `inference_id`, `at`; `feature0`, `feature1`, … in their own types; `score0`, … with
            the captured model outputs, null where a record has none.
        rejected: how many were rejected for which reason, most frequent first.
        examples: the first rejection of each reason.
        rejections: all of them as JSON Lines, read from its start.
    """

    files: tuple[str, ...]
    events: int
    outside: int
    probes: int
    records: int
    names: tuple[str, ...]
    table: pl.LazyFrame
    rejected: Mapping[str, int]
    examples: tuple[Rejection, ...]
    rejections: IO[bytes]
    sample: int | None = None

    def features(self) -> pl.DataFrame:
        """Return the features, one column each under its own name."""
        return self._columns("feature").rename({f"feature{d}": name for d, name in enumerate(self.names)})

    def scores(self) -> NDArray[np.float64] | None:
        """Return the captured scores_NL, NaN where a record has none; None where no record has any."""
        scores = self._columns("score")
        return scores.fill_null(float("nan")).to_numpy() if scores.width else None

    def events_of(self) -> pl.DataFrame:
        """Return for each usable record the line that it comes from: those of one event have the same."""
        return self.table.select("file", "line").collect()

    def _columns(self, what: str) -> pl.DataFrame:
        names = self.table.collect_schema().names()
        return self.table.select([name for name in names if name.startswith(what)]).collect()

    @property
    def share(self) -> float:
        """The share of the records that were rejected; a line that could not be opened counts as one."""
        rejected = sum(self.rejected.values())
        return rejected / (self.records + rejected) if rejected else 0.0
