"""Helpers of model files: input matrices, scores, columns, names of outputs."""

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
from runner.models.base import MAX_FILE_BYTES, Columns, Headers, file_bytes, matrix, non_empty, scores
from tests.golden import Golden

MIXED = pl.DataFrame(
    {"integer": [1, None], "float": [0.5, -2.0], "boolean": [True, None], "null": [None, None]},
    schema_overrides={"null": pl.Null},
)


def _too_large_file(path: Path) -> None:
    """Create a sparse file that is one byte too large."""
    path.touch()
    os.truncate(path, MAX_FILE_BYTES + 1)


def test_matrix_contains_floats() -> None:
    """Numbers and booleans become floats, and nulls become NaN."""
    x_ND = matrix("xgboost", MIXED)
    np.testing.assert_array_equal(x_ND, [[1, 0.5, 1, np.nan], [np.nan, -2, np.nan, np.nan]])
    assert x_ND.dtype == np.float64
    assert x_ND.flags.c_contiguous
    assert matrix("xgboost", MIXED.clear()).shape == (0, 4)


@pytest.mark.parametrize(("strings", "first"), [(["x", "y"], "x"), ([None, "y"], "y")])
def test_matrix_rejects_strings(strings: list[str | None], first: str, golden: Golden) -> None:
    """The error contains the first string and its feature."""
    with golden.raises(ModelInputError) as caught:
        matrix("xgboost", MIXED.with_columns(plan=pl.Series(strings)))
    assert (caught.value.model, caught.value.feature, caught.value.value) == ("xgboost", "plan", first)


def test_empty_input_becomes_one_row() -> None:
    """Empty input becomes one row of zeros and empty strings; other input is unchanged."""
    features = MIXED.with_columns(plan=pl.lit("x"))
    assert non_empty(features.clear()).rows() == [(0, 0, 0, 0, "")]
    assert non_empty(features) is features


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([0.5, 1], [[0.5], [1.0]]),
        (np.array([[True], [False]]), [[1.0], [0.0]]),
        (np.array([[1, 2], [3, 4]], dtype=np.float32), [[1.0, 2.0], [3.0, 4.0]]),
        (pl.DataFrame({"a": [1, 2], "b": [3, 4]}), [[1.0, 3.0], [2.0, 4.0]]),
    ],
)
def test_scores_are_float64_with_a_row_per_record(output: Any, expected: list[list[float]]) -> None:
    """One or more numbers per row become a float64 array with two dimensions."""
    scores_NL = scores("model", output, 2, None)
    assert scores_NL.tolist() == expected
    assert scores_NL.dtype == np.float64


@pytest.mark.parametrize(
    "output",
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
def test_output_without_scores_per_row_is_rejected(output: Any, golden: Golden) -> None:
    """The error for an output without numbers per row names the model."""
    with golden.raises(ModelAnswerError) as caught:
        scores("model", output, 2, None)
    assert caught.value.problem.startswith("model ")


@pytest.mark.parametrize(
    ("columns", "allowed"), [([1], True), ([2, 0], True), ([], False), ([-1], False), ([1, 1], False)]
)
def test_columns(columns: list[int], allowed: bool) -> None:
    """Columns are unique and counted from 0; an empty list is an error."""
    adapter: TypeAdapter[tuple[int, ...]] = TypeAdapter(Columns)
    if allowed:
        assert adapter.validate_python(columns) == tuple(columns)
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(columns)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, _too_large_file], ids=["pipe", "folder", "huge"])
def test_special_and_too_large_files_are_rejected(tmp_path: Path, make: Callable[[Path], None], golden: Golden) -> None:
    """Pipes, directories and files that are too large are not read."""
    make(tmp_path / "model")
    with golden.raises(ArtifactError) as caught:
        file_bytes(tmp_path / "model", "save_model")
    assert caught.value.path == tmp_path / "model"


def test_duplicate_headers_are_rejected(golden: Golden) -> None:
    """Names of outputs must be unique."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Headers).validate_python(["a", "a"])
    (problem,) = caught.value.errors()
    assert problem["type"] == "value_error"
    golden(problem["msg"])
