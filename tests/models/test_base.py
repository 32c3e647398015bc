"""What models of libraries share: a matrix of values of every kind, scores of every shape, columns and names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError
from runner.models.base import MOST_BYTES, Columns, Headers, at_least_one, file_bytes, matrix, scores
from tests.golden import Golden

MIXED = pl.DataFrame(
    {"whole": [1, None], "fraction": [0.5, -2.0], "flag": [True, None], "nothing": [None, None]},
    schema_overrides={"nothing": pl.Null},
)


def _huge(path: Path) -> None:
    """Write a file that is a byte too large; it takes no space."""
    path.touch()
    os.truncate(path, MOST_BYTES + 1)


def test_matrix_holds_every_number() -> None:
    """Numbers and booleans become floats, nulls NaN, rows stay rows."""
    x_ND = matrix("xgboost", MIXED)
    np.testing.assert_array_equal(x_ND, [[1, 0.5, 1, np.nan], [np.nan, -2, np.nan, np.nan]])
    assert x_ND.dtype == np.float64
    assert x_ND.flags.c_contiguous
    assert matrix("xgboost", MIXED.clear()).shape == (0, 4)


@pytest.mark.parametrize(("strings", "first"), [(["x", "y"], "x"), ([None, "y"], "y")])
def test_matrix_holds_no_string(strings: list[str | None], first: str, golden: Golden) -> None:
    """The error names the first string and its feature."""
    with golden.raises(ModelInputError) as caught:
        matrix("xgboost", MIXED.with_columns(plan=pl.Series(strings)))
    assert (caught.value.model, caught.value.feature, caught.value.value) == ("xgboost", "plan", first)


def test_empty_input_becomes_one_row() -> None:
    """Empty input becomes one row of zeros and empty strings; other input is unchanged."""
    features = MIXED.with_columns(plan=pl.lit("x"))
    assert at_least_one(features.clear()).rows() == [(0, 0, 0, 0, "")]
    assert at_least_one(features) is features


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([0.5, 1], [[0.5], [1.0]]),
        (np.array([[True], [False]]), [[1.0], [0.0]]),
        (np.array([[1, 2], [3, 4]], dtype=np.float32), [[1.0, 2.0], [3.0, 4.0]]),
        (pl.DataFrame({"a": [1, 2], "b": [3, 4]}), [[1.0, 3.0], [2.0, 4.0]]),
    ],
)
def test_scores_are_a_table(answer: Any, expected: list[list[float]]) -> None:
    """A number, or several, for each row become a table of doubles."""
    scores_NL = scores("it", answer, 2, None)
    assert scores_NL.tolist() == expected
    assert scores_NL.dtype == np.float64


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(0.5, id="a number"),
        pytest.param([0.5], id="too few"),
        pytest.param([1, 2, 3], id="too many"),
        pytest.param([[0.1, 0.2]], id="a row"),
        pytest.param(np.zeros((2, 1, 1)), id="three axes"),
        pytest.param([[1], [1, 2]], id="ragged"),
        pytest.param([1j, 2], id="complex"),
        pytest.param([None, 1.0], id="null"),
    ],
)
def test_answers_without_scores_per_row_are_refused(answer: Any, golden: Golden) -> None:
    """An answer without numbers per row is an error that names the model."""
    with golden.raises(ModelAnswerError) as caught:
        scores("it", answer, 2, None)
    assert caught.value.problem.startswith("it ")


@pytest.mark.parametrize(
    ("columns", "allowed"), [([1], True), ([2, 0], True), ([], False), ([-1], False), ([1, 1], False)]
)
def test_columns(columns: list[int], allowed: bool) -> None:
    """Columns are counted from 0 and asked for once; to ask for none is to leave them out."""
    adapter: TypeAdapter[tuple[int, ...]] = TypeAdapter(Columns)
    if allowed:
        assert adapter.validate_python(columns) == tuple(columns)
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(columns)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, _huge], ids=["pipe", "folder", "huge"])
def test_only_files_are_read(tmp_path: Path, make: Callable[[Path], None], golden: Golden) -> None:
    """Pipes, devices, directories and files that are too large are not read."""
    make(tmp_path / "model")
    with golden.raises(ArtifactError) as caught:
        file_bytes(tmp_path / "model", "save_model")
    assert caught.value.path == tmp_path / "model"


def test_headers_are_unique(golden: Golden) -> None:
    """Two outputs have two names."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Headers).validate_python(["a", "a"])
    (problem,) = caught.value.errors()
    assert problem["type"] == "value_error"
    golden(problem["msg"])
