"""The control variate: Shapley values of its surrogate against enumeration, the fit, and its weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions, differences, evaluate
from runner.explain.control_variate import LogitAdditive, control_variate, fit
from runner.explain.explainers.exact import Exact
from runner.explain.gaussian_process import posterior
from tests.explain.games import TableGame, logistic_games


def evaluated(game: TableGame, pairs: int) -> NDArray[np.float64]:
    """Return the values of a game for a design with a number of pairs."""
    return evaluate(game, posterior(game.players, pairs, 0).half_JP)


def enumerated_shapley(games: LogitAdditive) -> NDArray[np.float64]:
    """Return phi_NP computed from the values of all coalitions."""
    values_NK = games.value(all_coalitions(games.slope_NP.shape[1]).T.astype(np.float64))
    return np.array([Exact().estimate(TableGame(values_K[None])).phi_NPL[0, :, 0] for values_K in values_NK])


@given(st.integers(2, 9), st.floats(0.01, 8), st.floats(-20, 20), st.integers(0, 1000))
def test_shapley_values_match_enumeration(players: int, scale: float, intercept: float, seed: int) -> None:
    """Up to 1e-5, for small slopes and for slopes that saturate the sigmoid."""
    slope_NP = np.random.default_rng(seed).normal(size=(3, players)) * scale
    games = LogitAdditive(np.array([intercept, 0.0, -intercept / 3]), slope_NP)
    np.testing.assert_allclose(games.shapley(), enumerated_shapley(games), atol=1e-5)


def test_shapley_values_of_fourteen_players_match_enumeration() -> None:
    """Up to 3e-6, for typical slopes."""
    rng = np.random.default_rng(0)
    games = LogitAdditive(rng.normal(size=10), rng.normal(size=(10, 14)))
    assert abs(games.shapley() - enumerated_shapley(games)).max() < 3e-6


@pytest.mark.parametrize("players", [10, 14, 25])
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_shapley_values_add_up_for_many_players(players: int, scale: float) -> None:
    """The number of nodes grows with the degree of the integrand where it has to."""
    rng = np.random.default_rng(0)
    games = LogitAdditive(rng.normal(size=500), rng.normal(size=(500, players)) * scale)
    empty_N, full_N = games.value(np.repeat([[0.0, 1.0]], players, axis=0)).T
    assert games.shapley().sum(axis=1) == pytest.approx(full_N - empty_N, abs=4e-6)


def test_other_games_do_not_change_a_bit() -> None:
    """A game has the same Shapley values alone and among others."""
    rng = np.random.default_rng(1)
    games = LogitAdditive(rng.normal(size=200), rng.normal(size=(200, 6)) * np.arange(1, 201)[:, None] / 20)
    alone = [games.take(np.array([n])).shapley()[0] for n in range(200)]
    assert games.shapley().tobytes() == np.array(alone).tobytes()


@pytest.mark.parametrize("slope", [0.0, 1e-9])
def test_tiny_slopes_have_tiny_attributions(slope: float) -> None:
    """A constant game has none."""
    phi_NP = LogitAdditive(np.array([0.3]), np.full((1, 5), slope)).shapley()
    np.testing.assert_allclose(phi_NP, slope * 0.2445, atol=1e-12)


def test_the_fit_recovers_an_additive_game() -> None:
    """Also if most values are so close to 0 or 1 that single precision loses them."""
    rng, design = np.random.default_rng(2), posterior(10, 40, 0)
    games = LogitAdditive(rng.normal(size=30) * 3, rng.normal(size=(30, 10)) * np.linspace(0.1, 3, 30)[:, None])
    values_NK = games.value(design.members_PK).astype(np.float32).astype(np.float64)
    assert abs(fit(values_NK, design).value(design.members_PK) - values_NK).max() < 1e-6


def test_additive_games_are_explained_completely() -> None:
    """No residual is left, and φ are the Shapley values of the games."""
    game = logistic_games(20, 10, np.random.default_rng(0))
    values_RK = evaluated(game, 60)
    control = control_variate(values_RK, posterior(10, 60, 0))
    np.testing.assert_allclose(control.differences_RM, differences(values_RK), atol=1e-6)
    np.testing.assert_allclose(control.phi_RP, Exact().estimate(game).phi_NPL[:, :, 0], atol=1e-6)


def test_rounding_errors_do_not_determine_the_weight() -> None:
    """If nearly all coalitions leave only rounding errors to predict, the weight is at most 1."""
    game = logistic_games(60, 10, np.random.default_rng(1))
    values_RK = evaluated(TableGame(game.values_NK.astype(np.float32).astype(np.float64)), 500)
    control = control_variate(values_RK, posterior(10, 500, 0))
    game_R, surrogate_R = (abs(rows_RM).max(axis=1) for rows_RM in (differences(values_RK), control.differences_RM))
    assert (surrogate_R < 1.001 * game_R).all()


@pytest.mark.parametrize(("pairs", "scale"), [(14, 1.0), (60, 2.0)], ids=["few pairs", "amounts"])
def test_other_games_have_no_control_variate(pairs: int, scale: float) -> None:
    """The fit needs more pairs, or the values are not probabilities."""
    sums_NK = np.random.default_rng(2).uniform(size=(5, 7)) @ all_coalitions(7).T / 7
    control = control_variate(evaluated(TableGame(scale * sums_NK), pairs), posterior(7, pairs, 0))
    assert not control.differences_RM.any()
    assert not control.phi_RP.any()
    assert (control.variance_inflation_R1 == 1).all()
    assert (control.rounding_R1 == 0).all()
