"""Traffic made of a dataset: mini-batches of its records, with injected faults."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from runner.errors import SettingsError


class MiniBatch(NamedTuple):
    """Rows of a table, and the index of the first row."""

    start: int
    rows: pl.DataFrame


def mini_batches(features: pl.DataFrame, size: int, count: int | None, skip: int = 0) -> Iterator[MiniBatch]:
    """Yield mini-batches of a table, which is repeated as often as necessary.

    Args:
        features: N records.
        size: maximum number of rows per mini-batch.
        count: total number of rows, None for no end.
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
    """Return features with the numbers of some features multiplied, as after a change of unit.

    Raises:
        SettingsError: if a feature is unknown or not numeric.
    """
    for name in factors:
        if name not in features.columns:
            problem = f"no feature {name!r}; the features are {', '.join(features.columns)}"
            raise SettingsError([f"stage.rescale: {problem}"])
        if not features.schema[name].is_numeric():
            raise SettingsError([f"stage.rescale: feature {name!r} is not numeric"])
    return features.with_columns(features[name] * factor for name, factor in factors.items())
