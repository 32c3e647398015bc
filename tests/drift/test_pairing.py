"""Segments: records divided by a feature or an expression, and samples of one record per event."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.drift.pairing import MAX_SEGMENTS, segments
from runner.errors import SegmentError
from tests.golden import Golden


def table(**columns: list[Any]) -> pl.DataFrame:
    """Return feature values; underscores in the names become spaces."""
    return pl.DataFrame({name.replace("_", " "): values for name, values in columns.items()})


def sizes(by: str, before: pl.DataFrame, now: pl.DataFrame, least: int = 2) -> dict[str, tuple[int, int]]:
    """Return the number of reference and live records of each segment."""
    found = segments(by, before, now, least)
    return {segment.name: (len(segment.reference_N), len(segment.live_M)) for segment in found}


def test_each_value_of_a_feature_is_a_segment() -> None:
    """Integers and whole floating-point numbers are equal; missing values are a segment."""
    before, now = table(sex=[0, 1, 1, 0, None, None]), table(sex=[1.0, 1.0, 0.0, 0.0, None, None])
    assert sizes("sex", before, now) == {"sex: 0": (2, 2), "sex: 1": (2, 2), "sex: missing": (2, 2)}


def test_rare_and_new_values_are_one_segment() -> None:
    """It is the last segment."""
    before, now = table(land=["DE"] * 5 + ["FR"] * 5 + ["IT"]), table(land=["DE"] * 5 + ["FR"] + ["ES"] * 4)
    assert sizes("land", before, now) == {"land: DE": (5, 5), "land: all others": (6, 5)}


def test_large_numbers_are_not_rounded() -> None:
    """Two postal codes are two segments."""
    codes = table(code=[1234567, 1234568] * 2)
    assert sizes("code", codes, codes) == {"code: 1234567": (2, 2), "code: 1234568": (2, 2)}


def test_many_numbers_are_divided_at_quartiles() -> None:
    """The quartiles are those of the reference."""
    before, now = table(age=list(range(100))), table(age=[0.5] * 4 + [99] * 4 + [1000] * 4)
    assert sizes("age", before, now) == {"age: up to 24": (25, 4), "age: above 74": (25, 8), "age: all others": (50, 0)}


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ('"Hours per week" > 40', {"false", "true"}),
        ("CASE WHEN age < 30 THEN 'young' ELSE 'old' END", {"old", "young"}),
        ("age % 2", {"0", "1"}),
    ],
)
def test_expressions_are_sql(by: str, names: set[str]) -> None:
    """Expressions refer to features by name."""
    records = pl.DataFrame({"Hours per week": [20, 60] * 10, "age": [*range(20, 40)]})
    assert {name.removeprefix(f"{by}: ").lower() for name in sizes(by, records, records)} == names


@pytest.mark.parametrize(
    "by",
    ["Salary", "age >", "sum(age)", "(SELECT * FROM read_csv('/etc/passwd'))"],
    ids=["unknown column", "syntax", "aggregate", "subquery"],
)
def test_invalid_expression_is_refused(by: str, golden: Golden) -> None:
    """The error quotes the expression and states the reason."""
    records = table(age=list(range(20)))
    with golden.raises(SegmentError) as error:
        segments(by, records, records, 2)
    assert error.value.by == by


@given(
    before=st.lists(st.sampled_from([*"abcdefghijklmnop", None])),
    now=st.lists(st.sampled_from([*"cdefgxyz", None])),
    least=st.integers(1, 4),
)
def test_every_record_is_in_one_segment(before: list[str | None], now: list[str | None], least: int) -> None:
    """All segments except the last have enough records on both sides; there may be no segment."""
    reference, live = (pl.DataFrame({"x": pl.Series(side, dtype=pl.String)}) for side in (before, now))
    found = segments("x", reference, live, least)
    for side, indices in ((before, "reference_N"), (now, "live_M")):
        joined = np.concatenate([getattr(segment, indices) for segment in found]) if found else np.array([])
        assert sorted(joined.tolist()) == (list(range(len(side))) if found else [])
    assert len(found) <= MAX_SEGMENTS + 1
    assert all(segment.smaller >= least for segment in found if not segment.name.endswith("all others"))


def test_long_expression_is_refused(golden: Golden) -> None:
    """The parser would take minutes, or crash the process."""
    features = table(x=[1.0, 2.0])
    with golden.raises(SegmentError):
        segments(" + ".join(["x"] * 3_000), features, features, 1)


@pytest.mark.parametrize(
    "values",
    [
        ["missing", None, "all others", "'missing'"],
        ["a", "a\0", "a ", ""],
        ["1", "1.0", "01", "1e0", "nan", "NaN"],
        [12345678901234567, 12345678901234568],
        [0.3, 0.1 + 0.2],
    ],
    ids=["reserved", "characters", "numbers", "integers", "floats"],
)
def test_distinct_values_are_distinct_segments(values: list[Any]) -> None:
    """Also if they would have the same name; the names differ, and are in the same order for any order of records."""
    before, now = table(x=[each for each in values for _ in range(3)]), table(x=values[::-1] * 2)
    parts = segments("x", before, now, 2)
    assert len({part.name for part in parts}) == len(parts) == len(values)
    assert {(len(part.reference_N), len(part.live_M)) for part in parts} == {(3, 2)}
    assert [part.name for part in segments("x", now, before, 2)] == [part.name for part in parts]


def test_close_quartiles_are_distinct_segments() -> None:
    """Their names have as many digits as needed."""
    numbers = [1_000_000 + i / 100 for i in range(40)]
    parts = segments("x", table(x=numbers), table(x=numbers), 2)
    assert len({part.name for part in parts}) == len(parts) == 4
    assert {part.smaller for part in parts} == {10}
