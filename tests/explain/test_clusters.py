"""Representative records: against scikit-learn's clusters, and what they have to be whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.explain.background import MAX_CLUSTERS, _cluster, _points, representatives

rows = st.lists(
    st.tuples(st.integers(-5, 5), st.floats(-1, 1), st.sampled_from(["a", "b", None]), st.none() | st.booleans()),
    min_size=1,
    max_size=25,
)
SCHEMA = {"i": pl.Int64, "f": pl.Float64, "t": pl.String, "b": pl.Boolean}


def blobs(clusters: int, each: int) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Return records around so many centres, far apart, and the centres."""
    centres_KD = np.arange(clusters)[:, None] * [20.0, -20.0, 20.0]
    points_ND = np.repeat(centres_KD, each, axis=0) + np.random.default_rng(0).normal(size=(clusters * each, 3))
    return pl.DataFrame(points_ND, schema=list("abc")), centres_KD


@given(rows, st.integers(1, 6), st.randoms(use_true_random=False))
def test_they_are_records_of_the_dataset(records: list[tuple[Any, ...]], clusters: int, random: Any) -> None:
    """Each with its own types, none twice, no more than asked for; in whatever order the dataset is."""
    table = pl.DataFrame(records, schema=SCHEMA, orient="row")
    found = representatives(table, clusters, 0)
    assert found.schema == table.schema
    assert set(found.rows()) <= set(table.rows())
    assert 1 <= found.height == len(set(found.rows())) <= clusters
    shuffled = table[random.sample(range(len(records)), len(records))]
    assert representatives(shuffled, clusters, 0).rows() == found.rows()


@pytest.mark.parametrize("clusters", [1, 3, 6])
def test_clusters_are_as_tight_as_those_of_scikit_learn(clusters: int) -> None:
    """Their sum of squared distances is within two hundredths of its."""
    from sklearn.cluster import KMeans

    points = _points(pl.DataFrame(np.random.default_rng(1).normal(size=(600, 4)), schema=list("abcd")))
    theirs = KMeans(clusters, n_init=10, random_state=0).fit(points.numbers_ND).inertia_
    assert _cluster(points, clusters, 0).inertia <= 1.02 * theirs


@pytest.mark.parametrize("clusters", [1, 2, 5, 9])
def test_the_number_of_clusters_is_found(clusters: int) -> None:
    """One of each is taken, where there are clusters to be seen."""
    table, centres_KD = blobs(clusters, 60)
    found = representatives(table, None, 0).to_numpy()
    nearest = ((found[:, None] - centres_KD) ** 2).sum(axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(clusters))


def test_categories_count() -> None:
    """Records that differ in texts alone are told apart by them."""
    table = pl.DataFrame({"t": ["x"] * 30 + ["y"] * 20 + ["z"] * 10, "i": [1] * 60})
    assert representatives(table, 3, 0)["t"].to_list() == ["x", "y", "z"]


def test_no_more_than_there_are() -> None:
    """Three different records are at most three representatives."""
    table = pl.DataFrame({"i": [1, 2, 3] * 20})
    assert sorted(representatives(table, 10, 0)["i"]) == [1, 2, 3]
    assert representatives(table, None, 0).height <= MAX_CLUSTERS
