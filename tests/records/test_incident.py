"""Rehearsed incidents: a factor on a feature, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest

from runner.errors import SettingsError
from runner.records.incident import rescale
from tests.golden import Golden

FEATURES = pl.DataFrame({"Age": [1, None, -3], "Gain": [0.5, 2.5, None], "Sex": ["a", "1", None], "*": [1, 2, 3]})


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
def test_only_the_feature_changes(factors: Mapping[str, float], changed: Mapping[str, list[float | None]]) -> None:
    """The numbers of a feature are multiplied, nulls and the other features, texts that look like numbers too, stay."""
    assert rescale(FEATURES, factors).to_dict(as_series=False) == {**FEATURES.to_dict(as_series=False), **changed}


def test_names_are_no_patterns() -> None:
    """A feature whose name looks like a pattern is that feature alone."""
    features = pl.DataFrame({"^A.*$": [1], "Age": [1]})
    assert rescale(features, {"^A.*$": 10}).rows() == [(10, 1)]


@pytest.mark.parametrize(
    ("column", "name"),
    [([1], "nope"), (["a"], "column_0"), ([True], "column_0"), ([None], "column_0")],
    ids=["unknown", "strings", "booleans", "nulls"],
)
def test_unknown_and_non_numeric_features_are_refused(column: list[object], name: str, golden: Golden) -> None:
    """An unknown feature, and one that holds no numbers, are errors of the setting."""
    with golden.raises(SettingsError) as caught:
        rescale(pl.DataFrame({"column_0": column}), {name: 2})
    (problem,) = caught.value.problems
    assert problem.startswith("stage.rescale: ")
    assert repr(name) in problem
