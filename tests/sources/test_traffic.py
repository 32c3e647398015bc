"""Mini-batches of a dataset, and rescaled features."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SettingsError
from runner.sources.traffic import mini_batches, rescaled
from tests.golden import Golden

FEATURES = pl.DataFrame({"Age": [1, None, -3], "Gain": [0.5, 2.5, None], "Sex": ["a", "1", None], "*": [1, 2, 3]})


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 30), st.integers(0, 20))
def test_mini_batches_are_the_rows_in_order(height: int, size: int, count: int, skip: int) -> None:
    """Concatenated mini-batches are the repeated table; all but the last have the full size."""
    table = pl.DataFrame({"x": range(height)})
    batches = list(mini_batches(table, size, count, skip))
    values = [value for batch in batches for value in batch.rows["x"]]
    assert values == list(itertools.islice(itertools.cycle(range(height)), skip % height, skip % height + count))
    assert all(batch.rows.height == size for batch in batches[:-1])
    assert all(batch.start == batch.rows["x"][0] for batch in batches)


def test_mini_batches_without_count_never_end() -> None:
    """Without a count the table is repeated without end."""
    endless = mini_batches(pl.DataFrame({"x": [1, 2, 3]}), 2, None)
    assert [batch.rows["x"].to_list() for batch in itertools.islice(endless, 4)] == [[1, 2], [3, 1], [2, 3], [1, 2]]


@pytest.mark.parametrize(
    ("factors", "changed"),
    [
        ({}, {}),
        ({"Age": 10}, {"Age": [10, None, -30]}),
        ({"Age": 0.5}, {"Age": [0.5, None, -1.5]}),
        ({"Age": 2, "Gain": 4.0}, {"Age": [2, None, -6], "Gain": [2.0, 10.0, None]}),
        ({"Gain": 0}, {"Gain": [0.0, 0.0, None]}),
        ({"*": 10}, {"*": [10, 20, 30]}),
    ],
)
def test_only_rescaled_features_change(factors: Mapping[str, float], changed: Mapping[str, list[float | None]]) -> None:
    """The numbers of the features are multiplied; nulls and other features, such as numeric strings, are unchanged."""
    assert rescaled(FEATURES, factors).to_dict(as_series=False) == {**FEATURES.to_dict(as_series=False), **changed}


def test_feature_names_are_not_patterns() -> None:
    """A feature whose name looks like a pattern selects itself only."""
    features = pl.DataFrame({"^A.*$": [1], "Age": [1]})
    assert rescaled(features, {"^A.*$": 10}).rows() == [(10, 1)]


@pytest.mark.parametrize(
    ("column", "name"),
    [([1], "nope"), (["a"], "column_0"), ([True], "column_0"), ([None], "column_0")],
    ids=["unknown", "strings", "booleans", "nulls"],
)
def test_unknown_and_non_numeric_features_are_refused(column: list[object], name: str, golden: Golden) -> None:
    """An unknown or non-numeric feature is an error of the setting."""
    with golden.raises(SettingsError) as caught:
        rescaled(pl.DataFrame({"column_0": column}), {name: 2})
    (problem,) = caught.value.problems
    assert problem.startswith("stage.rescale: ")
    assert repr(name) in problem
