"""Coalitions, and pairs of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ExplainerError
from runner.explain.coalitions import (
    all_coalitions,
    coalition_budget,
    draw_pairs,
    number_of_pairs,
    pairs_of_size,
    unique_coalitions,
)
from tests.golden import Golden


def test_every_coalition_once() -> None:
    """All subsets appear once, the empty one first."""
    masks = all_coalitions(4)
    assert len({mask.tobytes() for mask in masks}) == 16
    assert not masks[0].any()


@given(st.integers(2, 9), st.data())
def test_pairs_of_a_size_are_all_of_them(players: int, data: st.DataObject) -> None:
    """Those of a size and their complements are all coalitions of the two sizes, each once."""
    size = data.draw(st.integers(1, players // 2))
    half = pairs_of_size(players, size)
    both = {mask.tobytes() for mask in [*half, *~half]}
    expected = {mask.tobytes() for mask in all_coalitions(players) if mask.sum() in {size, players - size}}
    assert both == expected
    assert len(half) == number_of_pairs(players, size) == len(both) / 2


@given(st.integers(3, 12), st.integers(0, 300), st.integers(0, 5))
def test_drawn_pairs_are_distinct(players: int, extra: int, seed: int) -> None:
    """There are as many as were asked for, all of size 1 among them, none a coalition of another or its complement."""
    count = min(players + extra, 2 ** (players - 1) - 1)
    half = draw_pairs(players, count, np.random.default_rng(seed))
    known = {mask.tobytes() for mask in [*half, *~half]}
    assert len(half) == count
    assert len(known) == 2 * count
    assert (half.sum(axis=1) == 1).sum() == players
    assert half.sum(axis=1).max() <= players / 2


def test_sizes_share_the_budget() -> None:
    """Each size gets the same number of pairs, but for those that have not as many."""
    sizes = draw_pairs(14, 700, np.random.default_rng(0)).sum(axis=1)
    assert np.bincount(sizes)[1:].tolist() == [14, 91, 119, 119, 119, 119, 119]


def test_large_classes_are_drawn_without_listing_them() -> None:
    """Of 60 players there are 10^17 coalitions of size 30."""
    half = draw_pairs(60, 400, np.random.default_rng(0))
    assert len({mask.tobytes() for mask in [*half, *~half]}) == 800


@given(st.integers(1, 9), st.integers(0, 60), st.integers(0, 5), st.data())
def test_coalitions_differ_by_those_who_vary(players: int, count: int, seed: int, data: st.DataObject) -> None:
    """Each of them is found again as one with the same members among the first ones; no two of those have the same."""
    varying = data.draw(st.integers(1, players))
    masks = np.random.default_rng(seed).random((count, players)) < 0.5
    different, places = unique_coalitions(masks, varying)
    known = np.concatenate([different, np.ones((1, players), dtype=np.bool_), np.zeros((1, players), dtype=np.bool_)])
    assert (known[places][:, :varying] == masks[:, :varying]).all()
    assert len({mask[:varying].tobytes() for mask in known}) == len(known)
    assert len(different) == len({*places} - {-2, -1})


@pytest.mark.parametrize(
    ("num_samples", "players", "expected"),
    [(None, 10, 1022), (None, 20, 2088), (100, 14, 100), (101, 14, 100), (100, 5, 30), (100, 2, 2), (28, 14, 28)],
)
def test_the_budget_is_that_of_clarify(num_samples: int | None, players: int, expected: int) -> None:
    """The default is min(2·P + 2^11, 2^P − 2), and there are never more coalitions than exist."""
    assert coalition_budget(num_samples, players, 8192) == expected


def test_too_small_a_budget_is_refused(golden: Golden) -> None:
    """A budget that cannot determine the attributions is an error that says how many would do: 2 for each."""
    assert coalition_budget(28, 14, 8192) == 28
    with golden.raises(ExplainerError) as caught:
        coalition_budget(27, 14, 8192)
    assert "shap.num_samples=27" in str(caught.value)
    assert "28" in str(caught.value)


def test_very_many_features_get_what_there_is(golden: Golden) -> None:
    """The default budget is cut to what can be worked with; features beyond that are an error."""
    assert coalition_budget(None, 4000, 8192) == 8192
    with golden.raises(ExplainerError) as caught:
        coalition_budget(None, 5000, 8192)
    assert "4,096" in str(caught.value)


def test_a_budget_beyond_memory_is_refused(golden: Golden) -> None:
    """A budget that cannot be worked with is an error that says how many can."""
    with golden.raises(ExplainerError) as caught:
        coalition_budget(3_000_000, 25, 8192)
    assert "8192" in str(caught.value)
