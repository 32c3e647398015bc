"""Hashes of what records hold."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.explain.masking import hash_rows

values = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
rows = st.lists(
    st.tuples(values, st.none() | st.text(), st.none() | st.booleans(), st.none() | st.floats(allow_nan=False)),
    min_size=1,
)
SCHEMA = {"i": pl.Int64, "t": pl.String, "b": pl.Boolean, "f": pl.Float64}


@given(rows)
def test_records_are_told_apart_by_their_keys(rows: list[tuple[Any, ...]]) -> None:
    """Equal records have equal keys, others do not."""
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    found, second = hash_rows(table)
    for i, one in enumerate(table.rows()):
        for j, other in enumerate(table.rows()):
            assert (found[i] == found[j]) == (one == other)
            assert one != other or second[i] == second[j]


@given(rows, st.randoms())
def test_company_changes_nothing(rows: list[tuple[Any, ...]], random: Any) -> None:
    """A record has the same key in another order and among others."""
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    order = random.sample(range(len(rows)), random.randint(1, len(rows)))
    assert hash_rows(table[order])[0].tolist() == hash_rows(table)[0][order].tolist()


@pytest.mark.parametrize("other", [[1.0, 0.0, None], [True, False, None]])
def test_types_do_not_matter_where_values_are_the_same(other: list[Any]) -> None:
    """1 is 1.0 is true, and 0 is −0."""
    for found, same in zip(
        hash_rows(pl.DataFrame({"x": other})), hash_rows(pl.DataFrame({"x": [1, 0, None]})), strict=True
    ):
        assert found.tolist() == same.tolist()
    assert hash_rows(pl.DataFrame({"x": [-0.0]}))[0].tolist() == hash_rows(pl.DataFrame({"x": [0.0]}))[0].tolist()


def test_features_matter() -> None:
    """The same values in other columns have another key, and the second hash is not the first."""
    table = pl.DataFrame({"a": [1], "b": [2]})
    first, second = hash_rows(table)
    assert first[0] != hash_rows(table.select("b", "a"))[0][0]
    assert second[0] not in {first[0], hash_rows(table.select("b", "a"))[1][0]}
