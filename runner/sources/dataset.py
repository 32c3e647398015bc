"""A dataset: a file of records in which every record must be valid."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from runner import storage
from runner.errors import BackgroundError, DatasetError, RecordError
from runner.records.payloads import Body, Format
from runner.sources.data import Data
from runner.sources.data_file import DataFile
from runner.sources.record_collector import RecordCollector
from runner.sources.sample import sampled


@dataclass(frozen=True)
class Dataset:
    """A file of valid records, local or in an object store.

    Attributes:
        location: the file.
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
    """Return the rows of `shap.baseline`, or None for its value `mean`.

    Args:
        baseline: `mean`, the location of a file, or rows; rows may have the format of the dataset's records.
        data: format of the dataset.

    Raises:
        BackgroundError: if a row is not valid.
        DatasetError, MissingInput: if the file cannot be read.
    """
    if baseline == "mean":
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
