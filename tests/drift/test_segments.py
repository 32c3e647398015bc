"""Records divided by a feature or an expression: every record is in one part, and no part is too small for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.drift.segments import MOST, segments
from runner.errors import SegmentError
from tests.golden import Golden


def table(**columns: list[Any]) -> pl.DataFrame:
    """Return inputs."""
    return pl.DataFrame({name.replace("_", " "): values for name, values in columns.items()})


def sizes(by: str, before: pl.DataFrame, now: pl.DataFrame, least: int = 2) -> dict[str, tuple[int, int]]:
    """Return the records of each part on both sides."""
    return {part.name: (len(part.reference_N), len(part.live_M)) for part in segments(by, before, now, least)}


def test_each_value_of_a_feature_is_a_part() -> None:
    """Whole numbers are the same whether they come as integers or not; what is missing is a part, too."""
    before, now = table(sex=[0, 1, 1, 0, None, None]), table(sex=[1.0, 1.0, 0.0, 0.0, None, None])
    assert sizes("sex", before, now) == {"sex: 0": (2, 2), "sex: 1": (2, 2), "sex: missing": (2, 2)}


def test_rare_and_unseen_values_come_together() -> None:
    """Last, and only where there are any."""
    before, now = table(land=["DE"] * 5 + ["FR"] * 5 + ["IT"]), table(land=["DE"] * 5 + ["FR"] + ["ES"] * 4)
    assert sizes("land", before, now) == {"land: DE": (5, 5), "land: all others": (6, 5)}


def test_large_numbers_keep_their_names() -> None:
    """All their digits: two postal codes are two parts."""
    codes = table(code=[1234567, 1234568] * 2)
    assert sizes("code", codes, codes) == {"code: 1234567": (2, 2), "code: 1234568": (2, 2)}


def test_numbers_with_many_values_are_cut_in_quarters() -> None:
    """Where the reference has them, whatever the live ones are."""
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
    """Over features by their names."""
    records = pl.DataFrame({"Hours per week": [20, 60] * 10, "age": [*range(20, 40)]})
    assert {name.removeprefix(f"{by}: ").lower() for name in sizes(by, records, records)} == names


@pytest.mark.parametrize(
    "by",
    ["Salary", "age >", "sum(age)", "(SELECT * FROM read_csv('/etc/passwd'))"],
    ids=["unknown column", "syntax", "aggregate", "subquery"],
)
def test_what_cannot_divide_is_refused(by: str, golden: Golden) -> None:
    """With what was asked for, why not, and what was expected."""
    records = table(age=list(range(20)))
    with golden.raises(SegmentError) as error:
        segments(by, records, records, 2)
    assert error.value.by == by


@given(
    before=st.lists(st.sampled_from([*"abcdefghijklmnop", None])),
    now=st.lists(st.sampled_from([*"cdefgxyz", None])),
    least=st.integers(1, 4),
)
def test_every_record_is_in_one_part(before: list[str | None], now: list[str | None], least: int) -> None:
    """And all parts but the last have enough on both sides; where none has, there are no parts."""
    was, has = (pl.DataFrame({"x": pl.Series(side, dtype=pl.String)}) for side in (before, now))
    parts = segments("x", was, has, least)
    for side, places in ((before, "reference_N"), (now, "live_M")):
        joined = np.concatenate([getattr(part, places) for part in parts]) if parts else np.array([])
        assert sorted(joined.tolist()) == (list(range(len(side))) if parts else [])
    assert len(parts) <= MOST + 1
    assert all(part.smaller >= least for part in parts if not part.name.endswith("all others"))
