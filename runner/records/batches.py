"""A table of records as mini-batches, over and over if need be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl


class Batch(NamedTuple):
    """Some rows of a table, and the place of the first of them."""

    first: int
    rows: pl.DataFrame


def batches(features: pl.DataFrame, size: int, count: int | None, skip: int = 0) -> Iterator[Batch]:
    """Yield mini-batches; after its last row the table starts anew.

    Args:
        features: N records.
        size: the most rows of a batch.
        count: rows in all, None for no end.
        skip: the row to start from.

    >>> [batch.rows["x"].to_list() for batch in batches(pl.DataFrame({"x": [1, 2, 3]}), size=2, count=5)]
    [[1, 2], [3, 1], [2]]
    """
    starts = itertools.count(0, size) if count is None else range(0, count, size)
    for start in starts:
        end = start + size if count is None else min(start + size, count)
        places = (skip + np.arange(start, end)) % features.height
        yield Batch(int(places[0]), features[places])
