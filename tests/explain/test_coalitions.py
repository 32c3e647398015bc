"""The designs of kernel SHAP."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.explain.coalitions import every, kernel_designs, size_weights


def test_every_coalition_once() -> None:
    """All subsets appear once, the empty one first."""
    masks = every(4)
    assert len({mask.tobytes() for mask in masks}) == 16
    assert not masks[0].any()


@pytest.mark.parametrize("players", [2, 3, 7, 14])
def test_weights_are_the_shapley_kernel(players: int) -> None:
    """A size class weighs its number of coalitions times Lundberg and Lee's kernel, up to a factor."""
    sizes = np.arange(1, players)
    kernel = [(players - 1) / (comb(players, s) * s * (players - s)) * comb(players, s) for s in sizes]
    np.testing.assert_allclose(size_weights(players)[1:players], np.array(kernel) / sum(kernel))


@given(st.integers(3, 9), st.integers(0, 200), st.integers(0, 5))
def test_designs_hold_distinct_complementary_pairs(players: int, extra: int, seed: int) -> None:
    """Each design has distinct proper coalitions, as many as fit the budget, and with each one its complement."""
    budget = min(2 * players + extra, 2**players - 2)
    designs = kernel_designs(players, budget, 4, seed)
    for masks_KP in designs.masks_GKP:
        known = {mask.tobytes() for mask in masks_KP}
        assert len(known) == len(masks_KP)
        assert budget - 1 <= len(masks_KP) <= budget
        assert known == {(~mask).tobytes() for mask in masks_KP}
        assert masks_KP.sum(axis=1).min() > 0
        assert masks_KP.sum(axis=1).max() < players


@given(st.integers(2, 9), st.integers(0, 60))
def test_solvers_impose_efficiency(players: int, extra: int) -> None:
    """Whatever the values, a solver moves attribution around but adds none, and the slack distributes all of it."""
    designs = kernel_designs(players, min(2 * players + extra, 2**players - 2), 3, 0)
    np.testing.assert_allclose(designs.solver_GPJ.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(designs.slack_GP.sum(axis=1), 1)


def test_whole_size_classes_come_first() -> None:
    """At 100 coalitions of 14 players the 28 single ones and their complements are all there."""
    for masks_KP in kernel_designs(14, 100, 8, 0).masks_GKP:
        sizes = masks_KP.sum(axis=1)
        assert len(masks_KP) == 100
        assert (sizes == 1).sum() == (sizes == 13).sum() == 14


def test_designs_differ_from_each_other() -> None:
    """The sampled part of each design is its own."""
    designs = kernel_designs(14, 100, 64, 0)
    assert len({masks.tobytes() for masks in designs.masks_GKP}) == 64
