"""What records agree on."""

from __future__ import annotations

import pytest

from runner.errors import RecordError
from runner.records.fields import Fields
from runner.records.schema import Schema

FIELDS = Fields("features", "score")
RECORDS: list[tuple[list[object], list[float] | None]] = [
    ([1, "a", None], [0.5]),
    ([2.5, "b", None], None),
    (["x", "c", None], [0.5, 0.5]),
    ([True], [0.5]),
]


def agreed(records: list[tuple[list[object], list[float] | None]]) -> Schema:
    """Return what these records agree on."""
    return Schema.agreed(records, FIELDS)  # type: ignore[arg-type]


def test_the_majority_decides() -> None:
    """Most records have three features, a number first, nothing but nulls last, and one score."""
    schema = agreed(RECORDS)
    assert schema.kinds == ("number", "text", None)
    assert schema.scores == 1
    assert schema.names == ("column_0", "column_1", "column_2")
    assert agreed(RECORDS[::-1]) == schema


@pytest.mark.parametrize(
    ("values", "scores", "kind"),
    [
        ([1, "a"], None, "feature_count"),
        (["x", "a", None], None, "feature_type"),
        ([True, "a", None], None, "feature_type"),
        ([1, "a", 0], None, "feature_type"),
        ([1, "a", None], [0.5, 0.5], "score_count"),
    ],
)
def test_what_differs_is_told(values: list[object], scores: list[float] | None, kind: str) -> None:
    """Each difference has its reason."""
    with pytest.raises(RecordError) as caught:
        agreed(RECORDS).check(values, scores)  # type: ignore[arg-type]
    assert caught.value.kind == kind


@pytest.mark.parametrize("values", [[1, "a", None], [None, None, None], [2.5, "", None]])
def test_nulls_fit_everywhere(values: list[object]) -> None:
    """A null has no kind of its own, and integers and floats are one kind."""
    agreed(RECORDS).check(values, None)  # type: ignore[arg-type]


def test_ties_go_to_the_smaller() -> None:
    """Of equally frequent numbers of features the smaller one wins, as a number, not as a text."""
    assert len(agreed([([0] * 10, None), ([0] * 9, None)]).kinds) == 9
