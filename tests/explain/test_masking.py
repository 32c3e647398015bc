"""Tables: what goes in comes out again, part by part, in its own type."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from runner.explain.background import align
from runner.explain.masking import tables

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


@given(ROWS, st.lists(st.sampled_from(list(SCHEMA)), min_size=1, unique=True), st.randoms())
def test_values_are_swapped_whole(rows: list[tuple[Any, ...]], names: list[str], random: Any) -> None:
    """Every value of every row is the record's own where kept and the background's elsewhere, in the same type."""
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").select(names)
    records, background = frame[1:], frame[:1]
    table, row = tables(records, background)
    rng = np.random.default_rng(random.randint(0, 9))
    kept_Sk, seat_DN = rng.random((4, 3)) < 0.5, rng.integers(4, size=(len(names), len(table)))
    swapped, own_DNk = table.mask(row, kept_Sk, seat_DN), kept_Sk[seat_DN]
    assert swapped.schema == frame.schema
    expected = [
        tuple((records if own_DNk[d, n, k] else background)[n if own_DNk[d, n, k] else 0, d] for d in range(len(names)))
        for n in range(len(table))
        for k in range(3)
    ]
    assert swapped.rows() == expected


@given(ROWS, st.randoms())
def test_records_are_what_they_were(rows: list[tuple[Any, ...]], random: Any) -> None:
    """Taken, in part or in another order, records and their types are the frame's."""
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    table, _ = tables(frame, frame[:1])
    places = np.array(random.choices(range(len(rows)), k=4))
    assert len(table) == frame.height
    assert table.frame().equals(frame)
    assert table.take(places).frame().equals(frame[places])
    assert table.part(slice(1, 3)).frame().equals(frame[1:3])
    assert len(table.take(places)) == 4


def test_what_differs_from_a_row() -> None:
    """A value that equals the row's stands still, a null equals a null, whatever the types."""
    records = pl.DataFrame({"x": [1, 2], "y": ["a", None], "z": [5.0, 5.5], "n": [None, 3]})
    background = pl.DataFrame({"x": [1], "y": [None], "z": [5], "n": [None]})
    table, row = tables(*reversed(align(background, records)))
    assert table.differs(row).tolist() == [[False, True, False, False], [True, False, True, True]]


def test_zero_has_no_sign() -> None:
    """A −0 is no other value than a 0, as for the hashes of records: it does not matter which one came first."""
    table, row = tables(pl.DataFrame({"x": [-0.0, 0.0]}), pl.DataFrame({"x": [0.0]}))
    assert table.differs(row).tolist() == [[False], [False]]
