"""Units of observation: equal records of one side that are repetitions count once.

A client may send the same records again and again. Tests that count each repetition as a new observation raise false
alarms. Records with few and coarse features, however, are often equal by chance, and such records are observations of
their own. Equal records are repetitions if chance does not explain them: if their features have enough combinations.

Array letters: U different records, D features, E features that were considered before.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

MOST_BY_CHANCE = 0.1
"""Maximum expected number of records that equal a record by chance, if equal records are repetitions."""
MIN_PAIRS = 10
"""Minimum number of pairs with equal values of a feature from which its dependence on another one is estimated."""
MOST_ROWS = 2_000
"""Maximum number of different records from which the probability of equal records is estimated."""
MOST_COLUMNS = 20
"""Maximum number of features from which it is estimated, those with the most values."""


def without_repetitions(features: pl.DataFrame) -> NDArray[np.intp]:
    """Return the indices of the records without repetitions, ascending: the first one of equal records.

    All indices are returned if equal records are frequent by chance.

    >>> without_repetitions(pl.DataFrame({"a": [i / 7 for i in range(100)] * 2, "b": [*range(100)] * 2})).shape
    (100,)
    >>> without_repetitions(pl.DataFrame({"a": [True, False] * 20})).shape
    (40,)
    """
    first: NDArray[np.intp] = np.arange(features.height)
    if features.width:
        first = np.flatnonzero(features.hash_rows().is_first_distinct().to_numpy())
    if len(first) < features.height and equal_by_chance(features[first]) * features.height > MOST_BY_CHANCE:
        return np.arange(features.height)
    return first


def equal_by_chance(different: pl.DataFrame) -> float:
    """Return an upper estimate of the probability that two records of the population are equal.

    It is the probability of equal values in the feature with the most values, times the probability of equal values in
    each further feature, given equal values in the feature that predicts it best. A feature that is a function of
    another one thus leaves the estimate unchanged.

    Args:
        different: records of the population, without repetitions.
    """
    sample = different[:MOST_ROWS]
    codes_DU = [sample[name].rank("dense").fill_null(0).to_numpy() for name in sample.columns]
    equal_D = [_equal_pairs(codes_U) for codes_U in codes_DU]
    known = MIN_PAIRS / max(1.0, len(sample) * (len(sample) - 1) / 2)
    probability, predictors = 1.0, list[int]()
    for d in sorted(range(len(codes_DU)), key=equal_D.__getitem__)[:MOST_COLUMNS]:
        joint_E = [_equal_pairs(codes_DU[d] * len(sample) + codes_DU[e]) for e in predictors]
        given = [joint / equal_D[e] for joint, e in zip(joint_E, predictors, strict=True)]
        probability *= max([equal_D[d], *given])
        predictors += [d] if equal_D[d] >= known else []
    return probability


def _equal_pairs(codes_U: NDArray[np.uint32]) -> float:
    """Return the share of pairs of records with equal codes, at least one pair."""
    counts = np.unique(codes_U, return_counts=True)[1].astype(np.float64)
    pairs = len(codes_U) * (len(codes_U) - 1) / 2
    return max(1.0, float((counts * (counts - 1) / 2).sum())) / max(1.0, pairs)
