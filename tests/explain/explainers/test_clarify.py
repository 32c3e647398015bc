"""Kernel SHAP as the published analyses have it: its weights, its designs, and its standard errors."""

from __future__ import annotations

from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.explain.coalitions import differences, evaluate
from runner.explain.explainers.clarify import Clarify, _draw, regression, size_weights
from runner.explain.explainers.exact import Exact
from tests.builders import BACKGROUND, FEATURES, explain
from tests.explain.games import Table, smooth
from tests.formula_models import AdditiveFormula, Formula, interacting

PLAYERS, RECORDS, SEEDS = 9, 64, 25
WITHIN = 1.96
"""Standard errors to either side that hold 95 %."""


@pytest.mark.parametrize("players", [2, 3, 7, 14])
def test_weights_are_the_shapley_kernel(players: int) -> None:
    """A size class weighs its number of coalitions times Lundberg and Lee's kernel, up to a factor."""
    sizes = np.arange(1, players)
    kernel = [(players - 1) / (comb(players, s) * s * (players - s)) * comb(players, s) for s in sizes]
    np.testing.assert_allclose(size_weights(players)[1:players], np.array(kernel) / sum(kernel))


@given(st.integers(3, 9), st.integers(0, 200), st.integers(0, 5))
def test_designs_hold_distinct_pairs(players: int, extra: int, seed: int) -> None:
    """Each design has distinct proper coalitions, as many as fit the budget."""
    budget = min(2 * players + extra, 2**players - 2)
    half = regression(players, budget, seed).half_JP
    known = {mask.tobytes() for mask in [*half, *~half]}
    assert len(known) == 2 * len(half)
    assert budget - 1 <= 2 * len(half) <= budget
    assert half.sum(axis=1).min() > 0
    assert (~half).sum(axis=1).min() > 0


@given(st.integers(2, 9), st.integers(0, 60))
def test_solvers_impose_efficiency(players: int, extra: int) -> None:
    """Whatever the values, a solver moves attribution around but adds none to the total, which it distributes."""
    solver = regression(players, min(2 * players + extra, 2**players - 2), 0).solver_MP
    np.testing.assert_allclose(solver[:-1].sum(axis=1), 0, atol=1e-9)
    assert solver[-1].sum() == pytest.approx(1)


def test_whole_size_classes_come_first() -> None:
    """At 100 coalitions of 14 players the 28 single ones and their complements are all there."""
    sizes = regression(14, 100, 0).half_JP.sum(axis=1)
    assert len(sizes) == 50
    assert (sizes == 1).sum() == 14


@pytest.mark.parametrize(("num_samples", "whole"), [(220, False), (1000, True)])
def test_a_size_class_is_whole_only_where_it_is_due(num_samples: int, whole: bool) -> None:
    """The 91 pairs of two of 14 players are not all there where larger sizes would be left with hardly any."""
    sizes = regression(14, num_samples, 0).half_JP.sum(axis=1)
    assert bool((sizes == 2).sum() == 91) == whole
    assert (sizes > 2).sum() > num_samples / 4


@pytest.mark.parametrize("num_samples", [240, 400])
def test_the_truth_lies_within_the_errors(num_samples: int) -> None:
    """In 95 % of the cases the exact value is no further away than 1.96 standard errors, within binomial error."""
    game, hits_P = smooth(RECORDS, PLAYERS, np.random.default_rng(11)), np.zeros(PLAYERS)
    truth_NP = Exact().estimate(game).phi_NPL[:, :, 0]
    for seed in range(SEEDS):
        estimate = Clarify(num_samples, seed).estimate(game)
        assert estimate.variance_NPL is not None
        error_NP = np.sqrt(estimate.variance_NPL[:, :, 0])
        hits_P += (abs(estimate.phi_NPL[:, :, 0] - truth_NP) <= WITHIN * error_NP).sum(axis=0)
    assert abs(hits_P.mean() / (RECORDS * SEEDS) - 0.95) < 0.03


def least_squares(
    half_JP: NDArray[np.bool_], weights_J: NDArray[np.float64], difference_J: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """Return the weighted least squares φ_P that adds up to a total, by its Lagrange equations."""
    Z, ones = half_JP - 0.5, np.ones((PLAYERS, 1))
    left = np.block([[Z.T * weights_J @ Z, ones], [ones.T, np.zeros((1, 1))]])
    right = np.append(Z.T * weights_J @ difference_J / 2, total)
    return np.linalg.solve(left, right)[:PLAYERS]


def test_an_error_is_what_leaving_draws_out_does() -> None:
    """Each draw's share is by how much the weighted regression moves without it, found by solving that anew."""
    J, budget, game = 35, 2 * (PLAYERS + 35), smooth(1, PLAYERS, np.random.default_rng(2))
    half_JP = regression(PLAYERS, budget, 5).half_JP
    difference_J = differences(evaluate(game, half_JP))[0, :-1]
    counts_J = _draw(size_weights(PLAYERS), 2, J, np.random.default_rng([5, PLAYERS]))[1]
    assert counts_J.max() > 1
    single = size_weights(PLAYERS)[1] / PLAYERS
    weights_J = np.full(PLAYERS + J, single)
    weights_J[PLAYERS:] = counts_J / counts_J.sum() * (0.5 - PLAYERS * single)
    estimate = Clarify(budget, 5).estimate(game)
    given_J = difference_J, float((game.scores_NL - game.expected_L)[0, 0])
    phi_P = least_squares(half_JP, weights_J, *given_J)
    np.testing.assert_allclose(estimate.phi_NPL[0, :, 0], phi_P, atol=1e-12)
    variance_P = np.zeros(PLAYERS)
    for j, count in enumerate(counts_J):
        without_J = weights_J.copy()
        without_J[PLAYERS + j] *= 1 - 1 / count
        moved_P = phi_P - least_squares(half_JP, without_J, *given_J)
        variance_P += moved_P**2 * count * J / (J - 1)
    assert estimate.variance_NPL is not None
    np.testing.assert_allclose(estimate.variance_NPL[0, :, 0], variance_P, rtol=1e-9)


@pytest.mark.parametrize(("num_samples", "known"), [(18, False), (20, False), (22, True)])
def test_too_few_draws_tell_nothing(num_samples: int, known: bool) -> None:
    """Where fewer than two pairs are drawn but coalitions are missing, the error is not known."""
    variance = Clarify(num_samples, 0).estimate(smooth(3, PLAYERS, np.random.default_rng(2))).variance_NPL
    assert variance is not None
    assert np.isfinite(variance).all() == known


def test_all_coalitions_leave_no_error() -> None:
    """Then the variance is 0, and φ exact."""
    game = Table(np.random.default_rng(0).normal(size=(1, 16)))
    estimate = Clarify(10**6, 0).estimate(game)
    np.testing.assert_allclose(estimate.phi_NPL, Exact().estimate(game).phi_NPL, atol=1e-12)
    assert estimate.variance_NPL is not None
    assert not estimate.variance_NPL.any()


def test_rows_that_coincide_are_asked_for_once() -> None:
    """Where features equal the background, a record's rows all differ, and its attributions are those of all rows."""
    features = pl.concat([FEATURES[:, :4], BACKGROUND[:1].select("f4", "f5")[[0] * len(FEATURES)]], how="horizontal")
    seen: list[pl.DataFrame] = []

    def remember(rows: pl.DataFrame) -> NDArray[np.float64]:
        seen.append(rows)
        return interacting(rows)

    sparing, lavish = Formula(remember), AdditiveFormula(interacting)
    found, asked = (explain(Clarify(40, 3), model, features=features) for model in (sparing, lavish))
    assert found.phi_NDL.tobytes() == asked.phi_NDL.tobytes()
    assert found.evaluations == sum(sparing.batches) < asked.evaluations == sum(lavish.batches)
    seen.clear()
    alone = explain(Clarify(40, 3), Formula(remember), features=features[:1], background=BACKGROUND[:1])
    rows = pl.concat(seen)
    assert rows.n_unique() == rows.height == alone.evaluations
