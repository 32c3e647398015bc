"""The background: means, given rows, common types, and representatives of clusters compared with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given as given_data
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.errors import BackgroundError
from runner.explain.background import (
    MAX_CLUSTERS,
    _cluster,
    _points,
    align,
    given,
    identity,
    mean,
    representatives,
    summarize,
)
from tests.golden import Golden

MIXED_ROWS = st.lists(
    st.tuples(st.integers(-5, 5), st.floats(-1, 1), st.sampled_from(["a", "b", None]), st.none() | st.booleans()),
    min_size=1,
    max_size=25,
)
MIXED_SCHEMA = {"i": pl.Int64, "f": pl.Float64, "t": pl.String, "b": pl.Boolean}


def clustered_records(clusters: int, records: int) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Return a number of records around each of some distant centres, and the centres."""
    centres_KD = np.arange(clusters)[:, None] * [20.0, -20.0, 20.0]
    noise_ND = np.random.default_rng(0).normal(size=(clusters * records, 3))
    return pl.DataFrame(np.repeat(centres_KD, records, axis=0) + noise_ND, schema=list("abc")), centres_KD


def test_mean_rounds_integers_half_to_even() -> None:
    """An integer column has an integer mean, rounded like pandas does; a float column has a float mean."""
    background = mean(pl.DataFrame({"count": [1, 2], "other": [2, 3], "rate": [0.1, 0.2], "gaps": [1, None]}))
    assert background.rows() == [(2, 2, pytest.approx(0.15), 1)]
    assert [str(dtype) for dtype in background.dtypes] == ["Int64", "Int64", "Float64", "Int64"]


@pytest.mark.parametrize("column", [["a", "b"], [True, False], [None, None]])
def test_mean_needs_numbers(column: list[Any], golden: Golden) -> None:
    """A string, boolean or empty column has no mean; the error contains its name."""
    with golden.raises(BackgroundError):
        mean(pl.DataFrame({"x": column}))


def test_given_rows_keep_their_types() -> None:
    """Rows become a table with a column per feature."""
    background = given([[1, 2.5, "a", None], [2, 3, "b", None]], ["i", "f", "t", "n"])
    assert background.rows() == [(1, 2.5, "a", None), (2, 3.0, "b", None)]
    assert str(background.schema["i"]) == "Int64"


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no row"),
        pytest.param([[1, 2, 3]], id="other width"),
        pytest.param([[1, "a"], [1, 2]], id="mixed types"),
    ],
)
def test_given_rows_that_do_not_fit_are_rejected(rows: list[list[Any]], golden: Golden) -> None:
    """No row, rows of another width, and values of mixed types."""
    with golden.raises(BackgroundError):
        given(rows, ["x", "y"])


@pytest.mark.parametrize(
    ("background", "records", "dtype"),
    [
        ([39], [1, 2], "Int64"),
        ([39.0], [1, 2], "Int64"),
        ([39.5], [1, 2], "Float64"),
        ([39], [1.5, 2.0], "Float64"),
        (["a"], ["b", "c"], "String"),
        ([None], [1, 2], "Int64"),
        ([1], [None, None], "Int64"),
        ([True], [False, True], "Boolean"),
    ],
)
def test_both_tables_get_the_same_type(background: list[Any], records: list[Any], dtype: str) -> None:
    """Integers stay integers if both tables allow it."""
    replacement, features = align(pl.DataFrame({"x": background}), pl.DataFrame({"x": records}))
    assert str(replacement.schema["x"]) == str(features.schema["x"]) == dtype


def test_a_string_cannot_replace_a_number(golden: Golden) -> None:
    """The error contains the feature and both values."""
    with golden.raises(BackgroundError):
        align(pl.DataFrame({"x": ["a"]}), pl.DataFrame({"x": [1]}))


def test_identity_depends_on_values_names_and_types() -> None:
    """Four different tables have four identities; an equal table has the same."""
    tables = [pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [2]}), pl.DataFrame({"y": [1]}), pl.DataFrame({"x": ["1"]})]
    assert len({identity(table) for table in tables}) == 4
    assert identity(pl.DataFrame({"x": [1]})) == identity(tables[0])


@given_data(MIXED_ROWS, st.integers(1, 6), st.randoms(use_true_random=False))
def test_representatives_are_distinct_records(records: list[tuple[Any, ...]], clusters: int, random: Any) -> None:
    """They have the types of the dataset, and do not depend on its order."""
    table = pl.DataFrame(records, schema=MIXED_SCHEMA, orient="row")
    found = representatives(table, clusters, 0)
    assert found.schema == table.schema
    assert set(found.rows()) <= set(table.rows())
    assert 1 <= found.height == len(set(found.rows())) <= clusters
    shuffled = table[random.sample(range(len(records)), len(records))]
    assert representatives(shuffled, clusters, 0).rows() == found.rows()


@pytest.mark.parametrize("clusters", [1, 3, 6])
def test_inertia_is_like_that_of_scikit_learn(clusters: int) -> None:
    """The sum of squared distances is at most 2 % larger."""
    from sklearn.cluster import KMeans

    points = _points(pl.DataFrame(np.random.default_rng(1).normal(size=(600, 4)), schema=list("abcd")))
    expected = KMeans(clusters, n_init=10, random_state=0).fit(points.numbers_ND).inertia_
    assert _cluster(points, clusters, 0).inertia <= 1.02 * expected


@pytest.mark.parametrize("clusters", [1, 2, 5, 9])
def test_the_number_of_clusters_is_found(clusters: int) -> None:
    """Separated clusters have one representative each."""
    table, centres_KD = clustered_records(clusters, 60)
    found = summarize(table, "auto", 0).to_numpy()
    nearest = ((found[:, None] - centres_KD) ** 2).sum(axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(clusters))


def test_strings_form_clusters() -> None:
    """Records that differ only in strings are in different clusters, the largest first."""
    table = pl.DataFrame({"t": ["x"] * 30 + ["y"] * 20 + ["z"] * 10, "i": [1] * 60})
    assert representatives(table, 3, 0)["t"].to_list() == ["x", "y", "z"]


def test_there_are_at_most_as_many_representatives_as_distinct_records() -> None:
    """Three distinct records have at most three representatives."""
    table = pl.DataFrame({"i": [1, 2, 3] * 20})
    assert sorted(representatives(table, 10, 0)["i"]) == [1, 2, 3]
    assert representatives(table, None, 0).height <= MAX_CLUSTERS


def test_a_dataset_is_summarized_by_its_mean_or_by_representatives() -> None:
    """Without a number of clusters, the mean is used."""
    table = pl.DataFrame({"i": [1, 2, 3]})
    assert summarize(table, None, 0).rows() == [(2,)]
    assert sorted(summarize(table, 3, 0)["i"]) == [1, 2, 3]
