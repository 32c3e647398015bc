"""Samples of records, selected by a hash of content: independent of the division into files and lines.

Array letters: N records.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.records import Captured
from runner.explain.masking import GOLDEN_RATIO, hash_rows, mix_bits


def sampled(captured: Captured, size: int | None) -> Captured:
    """Return a sample of at most `size` records in their order, None for all records.

    The sample consists of the records with the smallest hashes.
    """
    if size is None or captured.records <= size:
        return captured
    return selected(captured, np.sort(hash_order(captured.features())[:size]))


def selected(captured: Captured, rows: NDArray[np.intp]) -> Captured:
    """Return the records in these rows of the table, as a sample."""
    return replace(captured, table=captured.table.collect()[rows].lazy(), sample=len(rows))


def hash_order(features: pl.DataFrame) -> NDArray[np.intp]:
    """Return the indices of records in the order of their hashes, which is the same for the same records.

    The hash of a duplicate depends on the number of its predecessors, so that each content has the probability of its
    share.
    """
    keys_N = hash_rows(features)[0]
    return mix_bits(keys_N + GOLDEN_RATIO * _occurrences(keys_N)).argsort()


def _occurrences(keys_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return for each key the number of equal keys before it."""
    sorted_N = keys_N.argsort(kind="stable")
    index_N = np.arange(len(keys_N), dtype=np.uint64)
    differs_N = np.diff(keys_N[sorted_N], prepend=0) != 0
    occurrences_N = np.empty_like(index_N)
    occurrences_N[sorted_N] = index_N - np.maximum.accumulate(np.where(differs_N, index_N, 0))
    return occurrences_N
