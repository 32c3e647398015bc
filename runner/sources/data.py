"""Settings of the section `data`: files of records, the format of files and payloads, and limits."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, FiniteFloat, field_validator
from pydantic.dataclasses import dataclass

from runner.domain.numbers import Count
from runner.records.fields import Fields, PayloadFormat
from runner.records.payloads import Format
from runner.types import Column, FeatureName, JmesPath, Location, Score

FileFormat = Literal[Format, "application/x-parquet"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Data(PayloadFormat):
    """Files of records, and the format of files and payloads.

    Attributes:
        dataset_type: media type of `dataset` and `traffic`.
        dataset, traffic: files of records, None if the stage needs none.
        features: JMESPath to the feature values of one record (JSON Lines) or of all records (JSON); None for CSV.
        columnar: whether `features` returns one list per feature instead of one per record (JSON).
        label: column that is not a feature (CSV, Parquet): its name, or its number from 0.
        header: whether the first row of a CSV file contains column names.
        ground_truth: JMESPath to the labels in ground truth, or their column number.
        probability_threshold: lowest score of the positive class.
        max_rejected_share: largest accepted share of rejected records in a window.
        max_records: number of records in a sample of a window or dataset, None for all records.
    """

    headers: tuple[FeatureName, ...] | None
    score: Score | None
    dataset_type: FileFormat
    dataset: Location | None
    traffic: Location | None
    features: JmesPath | None
    columnar: bool
    label: Column | None
    header: bool
    ground_truth: Score | None
    probability_threshold: FiniteFloat
    max_rejected_share: Annotated[FiniteFloat, Field(ge=0, le=1)]
    max_records: Count | None

    @field_validator("headers")
    @classmethod
    def _unique(cls, headers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if headers is not None and not headers:
            raise ValueError("expected one name per feature, or null")
        if duplicates := sorted({name for name in headers or () if (headers or ()).count(name) > 1}):
            raise ValueError(f"expected unique names; {duplicates} occur more than once")
        return headers

    def __post_init__(self) -> None:
        if self.features is None and "json" in f"{self.dataset_type} {self.content_type}":
            raise ValueError(
                "features: JSON needs a JMESPath to the feature values, such as features or instances[*].features"
            )
        is_name = self.label is not None and not self.label.isdecimal()
        if self.dataset_type == "text/csv" and is_name and not self.header:
            raise ValueError(
                f"label: expected a column number from 0, because a CSV without header has no column {self.label!r}"
            )
        super().__post_init__()

    @cached_property
    def fields(self) -> Fields:
        """The locations of features and scores."""
        return Fields(
            self.features, self.score, self.headers, self.content_type, self.accept_type, columnar=self.columnar
        )
