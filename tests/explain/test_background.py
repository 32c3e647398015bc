"""The background: means, given rows, common types, and representatives of clusters compared with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given as given_data
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import percentileofscore

from runner.domain.attributions import Attributions
from runner.errors import BackgroundError
from runner.explain.background import (
    MAX_CLUSTERS,
    BaselineScore,
    Summary,
    _cluster,
    _points,
    align,
    baseline_scores,
    given,
    identity,
    mean,
    median_mode,
    most_unusual,
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
    found = summarize(table, Summary.MEAN, "auto", 0).to_numpy()
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


def test_a_dataset_is_summarized_in_three_ways() -> None:
    """A number of clusters takes precedence."""
    table = pl.DataFrame({"i": [1, 2, 6]})
    assert summarize(table, Summary.MEAN, None, 0).rows() == [(3,)]
    assert summarize(table, Summary.MEDIAN_MODE, None, 0).rows() == [(2,)]
    assert sorted(summarize(table, Summary.MEAN, 3, 0)["i"]) == [1, 2, 6]


@given_data(MIXED_ROWS)
def test_medians_and_modes_are_those_of_scikit_learn(records: list[tuple[Any, ...]]) -> None:
    """An integer column has an integer median, rounded half to even; ties between values take the smallest."""
    from sklearn.impute import SimpleImputer

    table = pl.DataFrame(records, schema=MIXED_SCHEMA, orient="row")
    found = median_mode(table)
    assert (found.schema, found.height) == (table.schema, 1)
    medians = SimpleImputer(strategy="median").fit(table.select("i", "f").to_numpy()).statistics_
    assert found.row(0)[:2] == (round(medians[0]), medians[1])
    for name in "tb":
        known = table[name].drop_nulls().to_list()
        frequency = {value: known.count(value) for value in known}
        mode = min(frequency, key=lambda value: (-frequency[value], value), default=None)
        assert found[name][0] == (mode if frequency.get(mode, 0) >= table[name].null_count() else None)


@given_data(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(-1e3, 1e3))
def test_quantile_is_the_share_of_lower_scores(scores: list[float], expected: float) -> None:
    """Equal scores count half, as in scipy."""
    scores_N1, expected_1 = np.round(scores)[:, None], np.round([expected])
    attributions = Attributions(("a",), ("yes",), np.zeros((len(scores), 1, 1)), expected_1, scores_N1, 0)
    (found,) = baseline_scores(attributions)
    assert found.score == expected_1[0]
    assert 100 * found.quantile == pytest.approx(percentileofscore(scores_N1[:, 0], expected_1[0], "mean"))


@pytest.mark.parametrize(
    ("quantiles", "worst", "is_unusual"),
    [
        ([0.05], 0, False),
        ([0.04], 0, True),
        ([0.96], 0, True),
        ([0.5, 0.03, 0.9], 1, False),
        ([0.5, 0.01, 0.9], 1, True),
    ],
)
def test_baseline_is_unusual_outside_the_central_scores(quantiles: list[float], worst: int, is_unusual: bool) -> None:
    """The central 90 %; with several labels more, since each may be outside by chance."""
    scores = [BaselineScore(str(i), 0, quantile) for i, quantile in enumerate(quantiles)]
    assert most_unusual(scores) == (scores[worst], is_unusual)


@pytest.mark.parametrize(
    ("column", "typical"),
    [
        ([1.0, 2.0, 9.0, None], 2.0),
        ([1, None], 1),
        ([1, None, None], None),
        ([None, None], None),
        (["a", "b", None, None], None),
        (["b", "a", None], "a"),
        ([True, False, True], True),
    ],
)
def test_null_is_typical_if_it_prevails(column: list[Any], typical: Any) -> None:
    """A median is that of the numbers, unless most are null; elsewhere null is one of the values."""
    assert median_mode(pl.DataFrame({"x": column}))["x"].to_list() == [typical]


@pytest.mark.parametrize("clusters", [1, 3, 5])
def test_records_with_nulls_do_not_represent_the_others(clusters: int) -> None:
    """With 12 % nulls in each column, the representatives have numbers, and are near the centres."""
    random = np.random.default_rng(0)
    numbers_ND = random.normal(size=(1_000, 6))
    table = pl.DataFrame(np.where(random.random(numbers_ND.shape) < 0.12, np.nan, numbers_ND), schema=list("abcdef"))
    found = representatives(table.fill_nan(None), clusters, 0)
    assert found.null_count().sum_horizontal().item() == 0
    if clusters == 1:
        distances_N = (numbers_ND**2).sum(axis=1)
        assert (distances_N < (found.to_numpy() ** 2).sum()).mean() < 0.01


def test_a_cluster_of_records_without_a_value_has_null() -> None:
    """Records that lack the same two values form a cluster of their own."""
    random = np.random.default_rng(0)
    full = [(float(value), 5.0 + float(value)) for value in random.normal(size=80)]
    table = pl.DataFrame([*full, *[(None, None)] * 40], schema=["a", "b"], orient="row")
    found = representatives(table, 2, 0)
    assert [row == (None, None) for row in found.rows()] == [False, True]


def test_identifiers_do_not_choose_the_representative() -> None:
    """A string that differs in each record does not change which record is the most central one."""
    random = np.random.default_rng(0)
    numbers = pl.DataFrame(random.normal(size=(200, 3)), schema=list("abc"))
    table = numbers.with_columns(id=pl.Series([f"customer {i:03}" for i in random.permutation(200)]))
    (central,) = representatives(numbers, 1, 0).rows()
    assert representatives(table, 1, 0).drop("id").rows() == [central]


def test_the_representative_is_the_medoid_of_numbers_and_strings() -> None:
    """Its sum of squared distances to all records is the smallest."""
    random = np.random.default_rng(0)
    values_N, texts = random.integers(0, 9, 60), random.choice(["a", "b", "c"], 60, p=[0.5, 0.3, 0.2])
    found = representatives(pl.DataFrame({"x": values_N, "t": texts}), 1, 0)
    scaled_N = values_N / values_N.std()
    sums_N = ((scaled_N[:, None] - scaled_N) ** 2 + (texts[:, None] != texts)).sum(axis=1)
    best = int(sums_N.argmin())
    assert found.rows() == [(values_N[best], texts[best])]
