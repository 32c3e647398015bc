"""Datasets, which are files of valid records, and mini-batches of their records as traffic."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from runner import storage
from runner.errors import BackgroundError, DatasetError, RecordError, SettingsError, listed
from runner.explain.background import Summary
from runner.records.payloads import Body, Format
from runner.sources.data import Data
from runner.sources.file import DataFile
from runner.sources.source import RecordCollector, sampled


@dataclass(frozen=True)
class Dataset:
    """A file of valid records, local or in an object store.

    Attributes:
        location: path or URL of the file.
        data: format of the file.
        key: setting with the location, for messages.
        name: name of the dataset in messages.
        labelled: whether the records have labels.
        max_records: number of records in a sample, None for all records.
    """

    location: str
    data: Data
    key: str
    name: str = "the dataset"
    labelled: bool = False
    max_records: int | None = None

    def read(self) -> tuple[pl.DataFrame, str]:
        """Return the features, and the SHA-256 of the file's content.

        Raises:
            MissingInput: if the file does not exist.
            DatasetError: if a record is not valid, or there is no record.
        """
        storage.require(self.location, self.name, self.key, "give the path of a dataset, local or in an object store")
        with storage.local_copy(self.location) as path, RecordCollector(self.data.fields) as collector:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            DataFile(path, self.location, self.data, self.labelled).read(collector)
            captured = collector.captured([self.location])
            if captured.examples:
                earliest = min(captured.examples, key=lambda rejection: rejection.line)
                raise DatasetError(earliest, sum(captured.rejected.values()) - 1)
            if not captured.records:
                raise DatasetError(f"{self.location}: contains no record; expected {self.data.dataset_type}")
            return sampled(captured, self.max_records).features(), digest


def baseline_rows(baseline: str | Sequence[Any], data: Data) -> Sequence[Sequence[Any]] | None:
    """Return the rows of `shap.baseline`, or None for a summary of the dataset.

    Args:
        baseline: `mean`, `median_mode`, the location of a file, or rows: lists of values, or records as in the dataset.
        data: format of the dataset.

    Raises:
        BackgroundError: if a row is not valid.
        DatasetError, MissingInput: if the file cannot be read.
    """
    if baseline in list(Summary):
        return None
    if isinstance(baseline, str):
        return Dataset(baseline, data, "shap.baseline", "the SHAP baseline").read()[0].rows()
    layout: Format = "application/json" if data.dataset_type == "application/json" else "application/jsonlines"
    try:
        return [
            values
            for row in baseline
            for values in ([row] if isinstance(row, list) else data.fields.rows(Body([row], layout)))
        ]
    except RecordError as error:
        raise BackgroundError(str(error)) from error


class MiniBatch(NamedTuple):
    """Rows of a table, and the index of the first row."""

    start: int
    rows: pl.DataFrame


def mini_batches(features: pl.DataFrame, size: int, count: int | None, skip: int = 0) -> Iterator[MiniBatch]:
    """Yield mini-batches of a table, which is repeated as often as necessary.

    Args:
        features: N records.
        size: maximum number of rows per mini-batch.
        count: total number of rows, None for mini-batches without end.
        skip: index of the first row.

    >>> [batch.rows["x"].to_list() for batch in mini_batches(pl.DataFrame({"x": [1, 2, 3]}), size=2, count=5)]
    [[1, 2], [3, 1], [2]]
    """
    starts = itertools.count(0, size) if count is None else range(0, count, size)
    for start in starts:
        end = start + size if count is None else min(start + size, count)
        rows = (skip + np.arange(start, end)) % features.height
        yield MiniBatch(int(rows[0]), features[rows])


def rescaled(features: pl.DataFrame, factors: Mapping[str, float]) -> pl.DataFrame:
    """Return features, some of them multiplied by a factor, as after a change of unit.

    Raises:
        SettingsError: if a feature is unknown or not numeric.
    """
    for name in factors:
        if name not in features.columns:
            problem = f"no feature {name!r}; the features are {listed(features.columns)}"
            raise SettingsError([f"stage.rescale: {problem}"])
        if not features.schema[name].is_numeric():
            raise SettingsError([f"stage.rescale: feature {name!r} is not numeric"])
    return features.with_columns(features[name] * factor for name, factor in factors.items())
