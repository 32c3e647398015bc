"""The background: means that stay legal, rows that fit, types that survive."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from runner.errors import BackgroundError
from runner.explain.background import align, given, identity, mean
from tests.golden import Golden


def test_mean_rounds_integers_half_to_even() -> None:
    """An integer column gets an integer, as the notebook's pandas rounds, a float column its mean."""
    background = mean(pl.DataFrame({"count": [1, 2], "other": [2, 3], "rate": [0.1, 0.2], "gaps": [1, None]}))
    assert background.rows() == [(2, 2, pytest.approx(0.15), 1)]
    assert [str(dtype) for dtype in background.dtypes] == ["Int64", "Int64", "Float64", "Int64"]


@pytest.mark.parametrize("column", [["a", "b"], [True, False], [None, None]])
def test_mean_needs_numbers(column: list[Any], golden: Golden) -> None:
    """A string, boolean or empty column has no mean, and the error names it."""
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
        pytest.param([[1, 2, 3]], id="another width"),
        pytest.param([[1, "a"], [1, 2]], id="mixed types"),
    ],
)
def test_given_rows_must_fit(rows: list[list[Any]], golden: Golden) -> None:
    """Rows of another width, or with values of mixed types, are refused."""
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
def test_both_sides_get_one_type(background: list[Any], records: list[Any], dtype: str) -> None:
    """Integers stay integers where both sides allow it."""
    replacement, features = align(pl.DataFrame({"x": background}), pl.DataFrame({"x": records}))
    assert str(replacement.schema["x"]) == str(features.schema["x"]) == dtype


def test_a_string_cannot_replace_a_number(golden: Golden) -> None:
    """A background of another kind is an error that names the feature and both values."""
    with golden.raises(BackgroundError):
        align(pl.DataFrame({"x": ["a"]}), pl.DataFrame({"x": [1]}))


def test_identity_tells_backgrounds_apart() -> None:
    """Values, names and types of numbers make the identity."""
    tables = [pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [2]}), pl.DataFrame({"y": [1]}), pl.DataFrame({"x": ["1"]})]
    assert len({identity(table) for table in tables}) == 4
    assert identity(pl.DataFrame({"x": [1]})) == identity(tables[0])
