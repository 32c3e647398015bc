"""Captured events, their records, and rejections.

Array letters: N records, L labels (outputs).
"""

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
"""Prefix of the inference ids of shapwatch's own calls; their captures are not traffic."""


@dataclass(frozen=True)
class Line:
    """A line of a file: name of the file relative to the listed folder, number from 1, and bytes."""

    file: str
    number: int
    data: bytes


@dataclass(frozen=True)
class Payload:
    """The request or the response of a captured invocation; `encoding` decides how to decode `data`."""

    content_type: str
    data: str
    encoding: str


@dataclass(frozen=True)
class Event:
    """A captured invocation: one line of a capture file, with one or more records.

    The response was not `delivered` if the client had disconnected before it was sent.
    """

    event_id: str
    at: datetime
    input: Payload | None
    output: Payload | None
    inference_id: str | None = None
    version: str = "0"
    custom_attributes: tuple[str, ...] = ()
    delivered: bool = True


@dataclass(frozen=True)
class Rejection:
    """A rejected line or record: its file and line, the reason, a message, and the beginning of its content."""

    file: str
    line: int
    kind: str
    problem: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


@dataclass(frozen=True)
class Captured:
    """Records and rejections of a window or dataset.

    Attributes:
        files: names of the files that were read, relative to the listed folder.
        events: number of lines in the window, or of records in the dataset, including rejected ones.
        outside: number of lines outside the window.
        probes: number of shapwatch's own calls, which are not traffic.
        records: number of valid records.
        names: names of the features.
        table: valid records as a lazy frame. Columns: `file`, `line`, `row` (in the payload), `event_id`,
            `inference_id`, `at`; `feature0`, `feature1`, … in their own types; `score0`, … with the captured scores,
            null for a record without scores.
        rejected: number of rejections by reason, most frequent first.
        examples: first rejection of each reason.
        rejections: all rejections as JSON Lines.
        sample: number of records in the table if it is a sample, else None.
        random: number of these that are a random sample, else None; the others have values far outside the reference's
            range.
        rejected_events: number of events with rejections, None if the records belong to no event.
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
    random: int | None = None
    rejected_events: int | None = None

    def features(self) -> pl.DataFrame:
        """Return the features, one column each with its own name."""
        return self._columns("feature").rename({f"feature{d}": name for d, name in enumerate(self.names)})

    def scores(self) -> NDArray[np.float64] | None:
        """Return the captured scores_NL, NaN for a record without scores; None if no record has scores."""
        scores = self._columns("score")
        return scores.fill_null(float("nan")).to_numpy() if scores.width else None

    def event_table(self) -> pl.DataFrame:
        """Return the time `at` of each valid record, and the number `event` that the records of an event share."""
        origin = self.table.select("file", "line", "at").collect()
        number = origin.select("file", "line").to_struct("event").rank("dense")
        return origin.select("at").with_columns(number)

    def times(self) -> NDArray[np.int64] | None:
        """Return the event time of each valid record in microseconds since 1970; None if one is unknown."""
        at = self.table.select("at").collect().to_series()
        return None if at.null_count() else at.dt.epoch("us").to_numpy()

    @property
    def rejected_share(self) -> float:
        """The share of rejected records, where an unreadable line counts as one record; at most that of their events.

        One request with many invalid records thus is no large share of an hour.
        """
        rejected = sum(self.rejected.values())
        share = rejected / (self.records + rejected) if rejected else 0.0
        return share if self.rejected_events is None else min(share, self.rejected_events / max(1, self.events))

    def _columns(self, prefix: str) -> pl.DataFrame:
        names = self.table.collect_schema().names()
        return self.table.select([name for name in names if name.startswith(prefix)]).collect()
