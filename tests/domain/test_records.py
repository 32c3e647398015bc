"""Captured records of a window."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pytest

from runner.domain.records import Captured, Rejection
from tests.golden import Golden


def captured(
    columns: Mapping[str, Sequence[object]], names: Sequence[str] = (), rejected: Mapping[str, int] | None = None
) -> Captured:
    """Return the captured records of a window with these columns."""
    table = pl.LazyFrame(dict(columns), strict=False)
    records = table.collect().height
    return Captured(("a",), records, 0, 0, records, tuple(names), table, rejected or {}, (), io.BytesIO())


def test_rejection_names_file_and_line(golden: Golden) -> None:
    """The rejected text is optional."""
    golden(str(Rejection("a.jsonl", 7, "not_json", "not JSON", "{")))
    assert Rejection("a.jsonl", 7, "not_json", "not JSON").text == ""


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("Age", "Sex"), {"feature0": [1, 2], "feature1": ["a", None]}),
        (("feature1", "feature0"), {"feature0": [1, 2], "feature1": ["a", None]}),
        (("score0", "file"), {"feature0": [True, None], "feature1": [0.5, 1.0]}),
        ([f"f{d}" for d in range(12)], {f"feature{d}": [d, None] for d in range(12)}),
        ((), {}),
    ],
)
def test_features_have_their_names(names: Sequence[str], columns: Mapping[str, Sequence[object]]) -> None:
    """Order and types are unchanged; a feature may have the name of a column of the table."""
    origin: dict[str, Sequence[object]] = {"file": ["a", "a"], "line": [1, 2]}
    features = captured({**origin, **columns, "score0": [0.25, 0.5]}, names).features()
    assert features.columns == list(names)
    assert [features[name].to_list() for name in names] == list(columns.values())


@pytest.mark.parametrize(
    ("scores", "scores_NL"),
    [
        ([[0.25, 0.5]], [[0.25], [0.5]]),
        ([[0.25, None]], [[0.25], [np.nan]]),
        ([[0.25, None], [0.75, None]], [[0.25, 0.75], [np.nan, np.nan]]),
    ],
)
def test_scores_are_an_array(scores: list[list[float | None]], scores_NL: list[list[float]]) -> None:
    """The array has the shape records x outputs, with NaN for missing scores."""
    columns: dict[str, Sequence[object]] = {
        "feature0": [1, 2],
        **{f"score{i}": values for i, values in enumerate(scores)},
    }
    found = captured(columns, ["A"]).scores()
    assert found is not None
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.array(scores_NL))


def test_without_scores_there_is_no_array() -> None:
    """The result is None if no record has a score."""
    assert captured({"file": ["a"], "feature0": [1]}, ["A"]).scores() is None


@pytest.mark.parametrize(
    ("records", "rejected", "share"),
    [(0, {}, 0.0), (4, {}, 0.0), (3, {"x": 1}, 0.25), (0, {"x": 2}, 1.0), (2, {"x": 1, "y": 1}, 0.5)],
)
def test_rejected_share(records: int, rejected: Mapping[str, int], share: float) -> None:
    """The share is relative to valid and rejected records, and 0 without records."""
    assert captured({"feature0": [1] * records}, ["A"], rejected).rejected_share == share
