"""Tables of records: masked values, and hashes of records."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.explain.background import align
from runner.explain.masking import hash_rows, tables

ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.none() | st.integers(-3, 3),
        st.floats(allow_nan=False),
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
        st.integers(2**63, 2**64 - 1),
        st.none(),
        st.integers(-100, 100),
    ),
    min_size=2,
    max_size=6,
)
SCHEMA = {
    "i": pl.Int64,
    "gaps": pl.Int64,
    "f": pl.Float64,
    "text": pl.String,
    "b": pl.Boolean,
    "u": pl.UInt64,
    "nothing": pl.Null,
    "small": pl.Int8,
}
HASHED_ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.none() | st.text(),
        st.none() | st.booleans(),
        st.none() | st.floats(allow_nan=False),
    ),
    min_size=1,
)
HASHED_SCHEMA = {"i": pl.Int64, "t": pl.String, "b": pl.Boolean, "f": pl.Float64}


@given(ROWS, st.lists(st.sampled_from(list(SCHEMA)), min_size=1, unique=True), st.randoms())
def test_masked_values_are_those_of_the_background(rows: list[tuple[Any, ...]], names: list[str], random: Any) -> None:
    """All other values are the record's own; types stay the same."""
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").select(names)
    records, background = frame[1:], frame[:1]
    table, row = tables(records, background)
    rng = np.random.default_rng(random.randint(0, 9))
    is_own_Sk, position_DN = rng.random((4, 3)) < 0.5, rng.integers(4, size=(len(names), len(table)))
    masked, own_DNk = table.mask(row, is_own_Sk, position_DN), is_own_Sk[position_DN]
    assert masked.schema == frame.schema
    expected = [
        tuple((records if own_DNk[d, n, k] else background)[n if own_DNk[d, n, k] else 0, d] for d in range(len(names)))
        for n in range(len(table))
        for k in range(3)
    ]
    assert masked.rows() == expected


@given(ROWS, st.randoms())
def test_tables_return_the_original_records(rows: list[tuple[Any, ...]], random: Any) -> None:
    """Selected by index, as a slice, or all."""
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    table, _ = tables(frame, frame[:1])
    indices = np.array(random.choices(range(len(rows)), k=4))
    assert len(table) == frame.height
    assert table.frame().equals(frame)
    assert table.take(indices).frame().equals(frame[indices])
    assert table.part(slice(1, 3)).frame().equals(frame[1:3])
    assert len(table.take(indices)) == 4


def test_values_are_compared_with_a_row() -> None:
    """Nulls equal nulls, in columns of all types."""
    records = pl.DataFrame({"x": [1, 2], "y": ["a", None], "z": [5.0, 5.5], "n": [None, 3]})
    background = pl.DataFrame({"x": [1], "y": [None], "z": [5], "n": [None]})
    table, row = tables(*reversed(align(background, records)))
    assert table.differs(row).tolist() == [[False, True, False, False], [True, False, True, True]]


def test_negative_zero_equals_zero() -> None:
    """As in hashes."""
    table, row = tables(pl.DataFrame({"x": [-0.0, 0.0]}), pl.DataFrame({"x": [0.0]}))
    assert table.differs(row).tolist() == [[False], [False]]


@given(HASHED_ROWS)
def test_equal_records_have_equal_hashes(rows: list[tuple[Any, ...]]) -> None:
    """Different records have different hashes."""
    table = pl.DataFrame(rows, schema=HASHED_SCHEMA, orient="row")
    keys, checks = hash_rows(table)
    for i, record in enumerate(table.rows()):
        for j, other in enumerate(table.rows()):
            assert (keys[i] == keys[j]) == (record == other)
            assert record != other or checks[i] == checks[j]


@given(HASHED_ROWS, st.randoms())
def test_hashes_do_not_depend_on_other_records(rows: list[tuple[Any, ...]], random: Any) -> None:
    """A subset in another order has the same hashes."""
    table = pl.DataFrame(rows, schema=HASHED_SCHEMA, orient="row")
    order = random.sample(range(len(rows)), random.randint(1, len(rows)))
    assert hash_rows(table[order])[0].tolist() == hash_rows(table)[0][order].tolist()


@pytest.mark.parametrize("values", [[1.0, 0.0, None], [True, False, None]])
def test_equal_values_of_other_types_have_equal_hashes(values: list[Any]) -> None:
    """1 equals 1.0 and true; 0 equals −0."""
    integers = hash_rows(pl.DataFrame({"x": [1, 0, None]}))
    for found, expected in zip(hash_rows(pl.DataFrame({"x": values})), integers, strict=True):
        assert found.tolist() == expected.tolist()
    assert hash_rows(pl.DataFrame({"x": [-0.0]}))[0].tolist() == hash_rows(pl.DataFrame({"x": [0.0]}))[0].tolist()


def test_hashes_depend_on_columns() -> None:
    """Exchanged values have another hash, and the second hash differs from the first."""
    table = pl.DataFrame({"a": [1], "b": [2]})
    keys, checks = hash_rows(table)
    exchanged_keys, exchanged_checks = hash_rows(table.select("b", "a"))
    assert keys[0] != exchanged_keys[0]
    assert checks[0] not in {keys[0], exchanged_checks[0]}
