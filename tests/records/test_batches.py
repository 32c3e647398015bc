"""Mini-batches of a table that starts anew at its end."""

from __future__ import annotations

import itertools

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from runner.records.batches import batches


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 30), st.integers(0, 20))
def test_batches_are_the_rows_in_order(height: int, size: int, count: int, skip: int) -> None:
    """Joined again they are the table repeated, each batch full but the last, its first place told."""
    table = pl.DataFrame({"x": range(height)})
    found = list(batches(table, size, count, skip))
    joined = [value for batch in found for value in batch.rows["x"]]
    assert joined == list(itertools.islice(itertools.cycle(range(height)), skip % height, skip % height + count))
    assert all(batch.rows.height == size for batch in found[:-1])
    assert all(batch.first == batch.rows["x"][0] for batch in found)


def test_without_a_count_there_is_no_end() -> None:
    """Rows come around and around."""
    endless = batches(pl.DataFrame({"x": [1, 2, 3]}), 2, None)
    assert [batch.rows["x"].to_list() for batch in itertools.islice(endless, 4)] == [[1, 2], [3, 1], [2, 3], [1, 2]]
