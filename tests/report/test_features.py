"""What became of features: shares, places, those that moved most."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.drift.shares import rank, share
from runner.report import features
from tests.golden import Golden

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_shares_and_places_are_those_of_the_verdict(pairs: list[tuple[float, float]]) -> None:
    """Of any figures, ties and zeros among them, in the order of the reference."""
    before, now = ({str(i): pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    rows = features.rows(now, before, None)
    assert [row["rank_before"] for row in rows] == sorted(row["rank_before"] for row in rows)
    for side, values in (("before", before), ("now", now)):
        values_D = np.array(list(values.values()))
        told = {row["name"]: (row[f"share_{side}"], row[f"rank_{side}"]) for row in rows}
        np.testing.assert_allclose([told[name][0] for name in values], share(values_D), rtol=1e-12)
        assert [told[name][1] for name in values] == rank(abs(values_D)).tolist()


def test_what_moved_most_comes_first_with_a_bar_to_its_side(golden: Golden) -> None:
    """The longest bar reaches the edge; what moved next to nothing has next to no bar, whatever else there is."""
    rows = features.rows({"a": 4.0, "b": 1.0, "c": 5.0}, {"a": 5.0, "b": 4.0, "c": 1.0}, None)
    table = features.moved(rows, "median")
    assert [row[0] for row in table["rows"]] == ["c", "b", "a"]
    golden("\n".join(table["heads"]))
    assert [row[5] for row in table["rows"]] == ["+40.0%", "-30.0%", "-10.0%"]
    assert table["bars"] == [
        {"from": 50.0, "length": 50.0, "gain": True},
        {"from": 12.5, "length": 37.5, "gain": False},
        {"from": 37.5, "length": 12.5, "gain": False},
    ]
    calm = features.moved(features.rows({"a": 0.51, "b": 0.49}, {"a": 0.5, "b": 0.5}, None), "mean_abs")
    assert [bar["length"] for bar in calm["bars"]] == [5.0, 5.0]


def test_charts_show_the_largest_of_either_side() -> None:
    """In the order of the table."""
    rows = features.rows({"a": 0.0, "b": 1.0, "c": 2.0, "d": 9.0}, {"a": 9.0, "b": 2.0, "c": 1.0, "d": 0.0}, None)
    assert [row["name"] for row in features.largest(rows, 2)] == ["a", "d"]
    assert features.largest(rows, 4) == rows
