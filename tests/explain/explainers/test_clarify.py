"""Clarify's kernel SHAP: weights, designs, and standard errors."""

from __future__ import annotations

from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.explain.coalitions import differences, evaluate
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, _draw, regression, size_weights
from tests.builders import BACKGROUND, FEATURES, explain
from tests.explain.games import TableGame, logistic_games
from tests.formula_models import AdditiveFormula, Formula, interacting

PLAYERS, RECORDS, SEEDS = 9, 64, 25
NORMAL_95 = 1.96
"""Half the width of a 95 % interval, in standard errors."""


@pytest.mark.parametrize("players", [2, 3, 7, 14])
def test_weights_are_the_shapley_kernel(players: int) -> None:
    """The weight of a size is its number of coalitions times Lundberg and Lee's kernel, up to a factor."""
    sizes = np.arange(1, players)
    kernel = [(players - 1) / (comb(players, s) * s * (players - s)) * comb(players, s) for s in sizes]
    np.testing.assert_allclose(size_weights(players)[1:players], np.array(kernel) / sum(kernel))


@given(st.integers(3, 9), st.integers(0, 200), st.integers(0, 5))
def test_pairs_of_a_design_are_distinct(players: int, extra: int, seed: int) -> None:
    """A design uses the whole budget, and contains neither the empty coalition nor that of all players."""
    budget = min(2 * players + extra, 2**players - 2)
    half = regression(players, budget, seed).half_JP
    known = {mask.tobytes() for mask in [*half, *~half]}
    assert len(known) == 2 * len(half)
    assert budget - 1 <= 2 * len(half) <= budget
    assert half.sum(axis=1).min() > 0
    assert (~half).sum(axis=1).min() > 0


@given(st.integers(2, 9), st.integers(0, 60))
def test_solvers_are_efficient(players: int, extra: int) -> None:
    """For any values, the attributions add up to the total."""
    solver = regression(players, min(2 * players + extra, 2**players - 2), 0).solver_MP
    np.testing.assert_allclose(solver[:-1].sum(axis=1), 0, atol=1e-9)
    assert solver[-1].sum() == pytest.approx(1)


def test_singletons_are_always_included() -> None:
    """100 coalitions of 14 players include the 14 singletons and their complements."""
    sizes = regression(14, 100, 0).half_JP.sum(axis=1)
    assert len(sizes) == 50
    assert (sizes == 1).sum() == 14


@pytest.mark.parametrize(("num_samples", "is_complete"), [(220, False), (1000, True)])
def test_a_size_is_complete_if_its_share_pays_for_it(num_samples: int, is_complete: bool) -> None:
    """With a small budget, the 91 pairs of size 2 are sampled, so that larger sizes are represented, too."""
    sizes = regression(14, num_samples, 0).half_JP.sum(axis=1)
    assert bool((sizes == 2).sum() == 91) == is_complete
    assert (sizes > 2).sum() > num_samples / 4


@pytest.mark.parametrize("num_samples", [240, 400])
def test_exact_values_are_within_the_errors(num_samples: int) -> None:
    """Within 1.96 standard errors in 95 % of the cases, up to binomial error."""
    game, hits_P = logistic_games(RECORDS, PLAYERS, np.random.default_rng(11)), np.zeros(PLAYERS)
    exact_NP = Exact().estimate(game).phi_NPL[:, :, 0]
    for seed in range(SEEDS):
        estimate = Clarify(num_samples, seed).estimate(game)
        assert estimate.variance_NPL is not None
        error_NP = np.sqrt(estimate.variance_NPL[:, :, 0])
        hits_P += (abs(estimate.phi_NPL[:, :, 0] - exact_NP) <= NORMAL_95 * error_NP).sum(axis=0)
    assert abs(hits_P.mean() / (RECORDS * SEEDS) - 0.95) < 0.03


def least_squares(
    half_JP: NDArray[np.bool_], weights_J: NDArray[np.float64], difference_J: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """Return the weighted least squares φ_P with a given sum, from the Lagrange equations."""
    Z, ones = half_JP - 0.5, np.ones((PLAYERS, 1))
    left = np.block([[Z.T * weights_J @ Z, ones], [ones.T, np.zeros((1, 1))]])
    right = np.append(Z.T * weights_J @ difference_J / 2, total)
    return np.linalg.solve(left, right)[:PLAYERS]


def test_variances_match_the_jackknife() -> None:
    """The variance is the sum of squared changes of φ when the regression is solved without each draw."""
    J, budget, game = 35, 2 * (PLAYERS + 35), logistic_games(1, PLAYERS, np.random.default_rng(2))
    half_JP = regression(PLAYERS, budget, 5).half_JP
    difference_J = differences(evaluate(game, half_JP))[0, :-1]
    counts_J = _draw(size_weights(PLAYERS), 2, J, np.random.default_rng([5, PLAYERS]))[1]
    assert counts_J.max() > 1
    singleton = size_weights(PLAYERS)[1] / PLAYERS
    weights_J = np.full(PLAYERS + J, singleton)
    weights_J[PLAYERS:] = counts_J / counts_J.sum() * (0.5 - PLAYERS * singleton)
    estimate = Clarify(budget, 5).estimate(game)
    total = float((game.scores_NL - game.expected_L)[0, 0])
    phi_P = least_squares(half_JP, weights_J, difference_J, total)
    np.testing.assert_allclose(estimate.phi_NPL[0, :, 0], phi_P, atol=1e-12)
    variance_P = np.zeros(PLAYERS)
    for j, count in enumerate(counts_J):
        without_J = weights_J.copy()
        without_J[PLAYERS + j] *= 1 - 1 / count
        change_P = phi_P - least_squares(half_JP, without_J, difference_J, total)
        variance_P += change_P**2 * count * J / (J - 1)
    assert estimate.variance_NPL is not None
    np.testing.assert_allclose(estimate.variance_NPL[0, :, 0], variance_P, rtol=1e-9)


@pytest.mark.parametrize(("num_samples", "is_known"), [(18, False), (20, False), (22, True)])
def test_the_error_of_fewer_than_two_draws_is_unknown(num_samples: int, is_known: bool) -> None:
    """If coalitions are missing."""
    variance = Clarify(num_samples, 0).estimate(logistic_games(3, PLAYERS, np.random.default_rng(2))).variance_NPL
    assert variance is not None
    assert np.isfinite(variance).all() == is_known


def test_all_coalitions_leave_no_error() -> None:
    """The variance is 0, and φ is exact."""
    game = TableGame(np.random.default_rng(0).normal(size=(1, 16)))
    estimate = Clarify(10**6, 0).estimate(game)
    np.testing.assert_allclose(estimate.phi_NPL, Exact().estimate(game).phi_NPL, atol=1e-12)
    assert estimate.variance_NPL is not None
    assert not estimate.variance_NPL.any()


def test_equal_rows_are_sent_once() -> None:
    """If features equal the background, all rows of a record are distinct, and attributions are those of all rows."""
    features = pl.concat([FEATURES[:, :4], BACKGROUND[:1].select("f4", "f5")[[0] * len(FEATURES)]], how="horizontal")
    batches: list[pl.DataFrame] = []

    def record(rows: pl.DataFrame) -> NDArray[np.float64]:
        batches.append(rows)
        return interacting(rows)

    model, additive_model = Formula(record), AdditiveFormula(interacting)
    found, complete = (explain(Clarify(40, 3), explained, features) for explained in (model, additive_model))
    assert found.phi_NDL.tobytes() == complete.phi_NDL.tobytes()
    assert found.evaluations == sum(model.batches) < complete.evaluations == sum(additive_model.batches)
    batches.clear()
    single = explain(Clarify(40, 3), Formula(record), features[:1], BACKGROUND[:1])
    rows = pl.concat(batches)
    assert rows.n_unique() == rows.height == single.evaluations
