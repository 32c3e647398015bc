"""Coalitions, pairs of them, and budgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ExplainerError
from runner.explain.coalitions import (
    all_coalitions,
    coalition_budget,
    differences,
    draw_pairs,
    evaluate,
    evaluate_differences,
    number_of_pairs,
    pairs_of_size,
    unique_coalitions,
)
from tests.explain.games import tree_games
from tests.golden import Golden


def test_all_coalitions_are_distinct() -> None:
    """The first one is empty."""
    masks = all_coalitions(4)
    assert len({mask.tobytes() for mask in masks}) == 16
    assert not masks[0].any()


@given(st.integers(2, 9), st.data())
def test_pairs_of_a_size_are_complete(players: int, data: st.DataObject) -> None:
    """With their complements, they are all coalitions of both sizes, without duplicates."""
    size = data.draw(st.integers(1, players // 2))
    half = pairs_of_size(players, size)
    found = {mask.tobytes() for mask in [*half, *~half]}
    expected = {mask.tobytes() for mask in all_coalitions(players) if mask.sum() in {size, players - size}}
    assert found == expected
    assert len(half) == number_of_pairs(players, size) == len(found) / 2


@given(st.integers(3, 12), st.integers(0, 300), st.integers(0, 5))
def test_drawn_pairs_are_distinct(players: int, extra: int, seed: int) -> None:
    """They include all singletons, first, and no coalition is the complement of another."""
    count = min(players + extra, 2 ** (players - 1) - 1)
    half = draw_pairs(players, count, np.random.default_rng(seed))
    known = {mask.tobytes() for mask in [*half, *~half]}
    assert len(half) == count
    assert len(known) == 2 * count
    assert half[:players].tolist() == np.eye(players, dtype=bool).tolist()
    assert (half.sum(axis=1) == 1).sum() == players
    assert half.sum(axis=1).max() <= players / 2


def test_sizes_have_equal_quotas() -> None:
    """A size with fewer pairs leaves the rest of its quota to the others."""
    sizes = draw_pairs(14, 700, np.random.default_rng(0)).sum(axis=1)
    assert np.bincount(sizes)[1:].tolist() == [14, 91, 119, 119, 119, 119, 119]


def test_pairs_of_large_sizes_are_drawn_without_enumeration() -> None:
    """Of 60 players, there are 10^17 coalitions of size 30."""
    half = draw_pairs(60, 400, np.random.default_rng(0))
    assert len({mask.tobytes() for mask in [*half, *~half]}) == 800


@given(st.integers(1, 9), st.integers(0, 60), st.integers(0, 5), st.data())
def test_unique_coalitions_differ_in_varying_players(players: int, count: int, seed: int, data: st.DataObject) -> None:
    """Each original coalition has the same varying members as the unique one that it refers to."""
    varying = data.draw(st.integers(1, players))
    masks = np.random.default_rng(seed).random((count, players)) < 0.5
    unique, index = unique_coalitions(masks, varying)
    known = np.concatenate([unique, np.ones((1, players), dtype=np.bool_), np.zeros((1, players), dtype=np.bool_)])
    assert (known[index][:, :varying] == masks[:, :varying]).all()
    assert len({mask[:varying].tobytes() for mask in known}) == len(known)
    assert len(unique) == len({*index} - {-2, -1})


def test_differences_are_evaluated_with_or_without_all_values() -> None:
    """Both ways return the same bits."""
    game, half_JP = tree_games(4, 6, np.random.default_rng(0)), draw_pairs(6, 12, np.random.default_rng(1))
    assert evaluate_differences(game, half_JP).tobytes() == differences(evaluate(game, half_JP)).tobytes()


@pytest.mark.parametrize(
    ("num_samples", "players", "expected"),
    [(None, 10, 1022), (None, 20, 2088), (100, 14, 100), (101, 14, 100), (100, 5, 30), (100, 2, 2), (28, 14, 28)],
)
def test_the_default_budget_is_that_of_clarify(num_samples: int | None, players: int, expected: int) -> None:
    """It is min(2·P + 2^11, 2^P − 2), and never larger than the number of existing coalitions."""
    assert coalition_budget(num_samples, players, 8192) == expected


def test_a_budget_that_is_too_small_is_rejected(golden: Golden) -> None:
    """The error contains the smallest budget: 2 per player."""
    assert coalition_budget(28, 14, 8192) == 28
    with golden.raises(ExplainerError) as caught:
        coalition_budget(27, 14, 8192)
    assert "shap.num_samples=27" in str(caught.value)
    assert "28" in str(caught.value)


def test_too_many_features_are_rejected(golden: Golden) -> None:
    """The default budget is reduced to the limit; features that need a larger one are an error."""
    assert coalition_budget(None, 4000, 8192) == 8192
    with golden.raises(ExplainerError) as caught:
        coalition_budget(None, 5000, 8192)
    assert "4,096" in str(caught.value)


def test_a_budget_that_exceeds_memory_is_rejected(golden: Golden) -> None:
    """The error contains the largest budget."""
    with golden.raises(ExplainerError) as caught:
        coalition_budget(3_000_000, 25, 8192)
    assert "8192" in str(caught.value)
