"""A dataset: a file of records that is meant to be right, so that one that cannot be used stops everything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import polars as pl

from runner import storage
from runner.errors import DatasetError
from runner.sources.data_file import DataFile
from runner.sources.intake import RecordCollector
from runner.sources.sample import sampled


@dataclass(frozen=True)
class Dataset:
    """Records in a file, local or in an object store.

    Attributes:
        location: the file.
        data: how it is read; its path and name are replaced.
        key: the setting that names it; `what`: what it is to a reader of that setting's errors.
        max_records: of more records a sample is taken, None for all.
    """

    location: str
    data: DataFile
    key: str
    what: str = "the dataset"
    max_records: int | None = None

    def read(self) -> tuple[pl.DataFrame, str]:
        """Return the features, and the SHA-256 of the file's content.

        Raises:
            MissingInput: when there is no such file.
            DatasetError: when a record cannot be used, or there is none.
        """
        storage.existing(self.location, self.what, self.key, "give the path of a dataset, local or in an object store")
        with storage.fetched(self.location) as path, RecordCollector(self.data.fields) as intake:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            replace(self.data, path=path, name=self.location).read(intake)
            captured = intake.captured([self.location])
            if captured.examples:
                first = min(captured.examples, key=lambda rejection: rejection.line)
                raise DatasetError(first, sum(captured.rejected.values()) - 1)
            if not captured.records:
                raise DatasetError(f"{self.location}: holds no record; expected {self.data.layout}")
            return sampled(captured, self.max_records).features(), digest
