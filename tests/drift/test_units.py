"""Repetitions of records, and records that are equal by chance."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.drift.units import equal_by_chance, without_repetitions

RNG = np.random.default_rng(0)


def frame(values_KD: np.ndarray) -> pl.DataFrame:
    """Return a table with a column for each feature."""
    return pl.DataFrame({f"x{d}": column for d, column in enumerate(values_KD.T)})


@pytest.mark.parametrize("times", [1, 2, 11])
def test_records_sent_again_count_once(times: int) -> None:
    """The first one of equal records counts."""
    rows_KD = RNG.normal(size=(334, 14)).round(1)
    assert without_repetitions(frame(np.tile(rows_KD, (times, 1)))).tolist() == list(range(334))


@pytest.mark.parametrize(
    "values_KD",
    [
        RNG.integers(0, 4, (1000, 3)),
        np.hstack([RNG.integers(0, 4, (1000, 3))] * 5),
        np.eye(20)[RNG.integers(0, 20, 1000)],
        RNG.integers(0, 2, (1000, 10)),
        ((RNG.normal(size=(1000, 1)) + RNG.normal(size=(1000, 40)) * 0.1) > 0).astype(int),
    ],
    ids=["three features", "copies of features", "one of 20", "ten booleans", "dependent booleans"],
)
def test_records_of_coarse_features_are_equal_by_chance(values_KD: np.ndarray) -> None:
    """Each record counts."""
    assert len(without_repetitions(frame(values_KD))) == 1000


def test_skewed_repetitions_count_once() -> None:
    """One client sends half of the records."""
    rows_KD = RNG.normal(size=(100, 6))
    again = np.vstack([rows_KD, np.tile(rows_KD[:1], (100, 1))])
    assert len(without_repetitions(frame(again))) == 100


def test_few_different_records_of_many_features_are_repetitions() -> None:
    """Also if most values of each feature occur once among the different records."""
    rows_KD = np.round(RNG.normal(size=(90, 8)), 1)
    places = np.minimum(RNG.zipf(1.6, 1000), 90) - 1
    assert len(without_repetitions(frame(rows_KD[places]))) == len(np.unique(places))


def test_probability_of_equal_records_is_estimated() -> None:
    """Independent uniform codes are equal with the product of the probabilities."""
    codes_KD = RNG.integers(0, 10, (2000, 2))
    assert 0.0098 <= equal_by_chance(frame(codes_KD)) <= 0.012


def test_missing_values_are_equal_to_each_other() -> None:
    """Records with equal values and the same missing values are repetitions."""
    values = [None, *RNG.normal(size=99).tolist()]
    table = pl.DataFrame({"a": values * 2, "b": [*RNG.normal(size=100).tolist()] * 2})
    assert len(without_repetitions(table)) == 100
