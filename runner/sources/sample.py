"""A sample of the records of a window or dataset: the same ones, however they are divided into files and lines.

Array letters: N records.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.records import Captured
from runner.explain.masking import GOLDEN_RATIO, hash_rows, mix_bits


def sampled(captured: Captured, most: int | None) -> Captured:
    """Return what was captured with no more than so many records, in the order they had; all with None.

    Drawn are those with the smallest hashes of what they hold.
    """
    if most is None or captured.records <= most:
        return captured
    return only(captured, np.sort(order(captured.features())[:most]))


def only(captured: Captured, places: NDArray[np.intp]) -> Captured:
    """Return what was captured with the records at some places, as a sample."""
    return replace(captured, table=captured.table.collect()[places].lazy(), sample=len(places))


def order(features: pl.DataFrame) -> NDArray[np.intp]:
    """Return the places of records in an order that looks drawn, and is the same for the same records.

    What occurs again is drawn anew each time, so that no content is more or less likely than its share.
    """
    keys_N = hash_rows(features)[0]
    return mix_bits(keys_N + GOLDEN_RATIO * _occurrences(keys_N)).argsort()


def _occurrences(keys_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return for each key how many of the same stand before it."""
    sorted_N = keys_N.argsort(kind="stable")
    place_N = np.arange(len(keys_N), dtype=np.uint64)
    differs_N = np.diff(keys_N[sorted_N], prepend=0) != 0
    occurrences_N = np.empty_like(place_N)
    occurrences_N[sorted_N] = place_N - np.maximum.accumulate(np.where(differs_N, place_N, 0))
    return occurrences_N
