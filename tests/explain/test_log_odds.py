"""Additive games in log-odds: their Shapley values against enumeration, and their fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions
from runner.explain.control_variate import LogitAdditive, fit
from runner.explain.explainers.exact import Exact
from runner.explain.game import clipped_logit
from runner.explain.gaussian_process import posterior
from tests.explain.games import Table


def table(games: LogitAdditive) -> Table:
    """Return the same games by the values of all coalitions."""
    return Table(games.value(all_coalitions(games.slope_NP.shape[1]).T.astype(np.float64)))


def enumerated(games: LogitAdditive) -> NDArray[np.float64]:
    """Return phi_NP from the values of all coalitions."""
    values_NK = table(games).values_NK
    shapley = [Exact().estimate(Table(values_K[None])).phi_NPL[0, :, 0] for values_K in values_NK]
    return np.array(shapley)


@given(st.integers(2, 9), st.floats(0.01, 8), st.floats(-20, 20), st.integers(0, 1000))
def test_shapley_values_are_those_of_enumeration(players: int, scale: float, intercept: float, seed: int) -> None:
    """To within 1e-5, whether slopes are small or saturate the sigmoid many times over."""
    slope_NP = np.random.default_rng(seed).normal(size=(3, players)) * scale
    games = LogitAdditive(np.array([intercept, 0.0, -intercept / 3]), slope_NP)
    np.testing.assert_allclose(games.shapley(), enumerated(games), atol=1e-5)


def test_shapley_values_of_fourteen_players() -> None:
    """To within 1e-6 for slopes as models have them."""
    rng = np.random.default_rng(0)
    games = LogitAdditive(rng.normal(size=10), rng.normal(size=(10, 14)))
    assert abs(games.shapley() - enumerated(games)).max() < 3e-6


def test_company_changes_nothing() -> None:
    """A game has the same Shapley values to the bit whatever other games are computed with it."""
    rng = np.random.default_rng(1)
    games = LogitAdditive(rng.normal(size=200), rng.normal(size=(200, 6)) * np.arange(1, 201)[:, None] / 20)
    alone = [games.take(np.array([n])).shapley()[0] for n in range(200)]
    assert games.shapley().tobytes() == np.array(alone).tobytes()


def test_an_additive_game_is_found_again() -> None:
    """From some of its values, also where most of them are so close to 0 or 1 that single precision loses them."""
    rng, design = np.random.default_rng(2), posterior(10, 40, 0)
    games = LogitAdditive(rng.normal(size=30) * 3, rng.normal(size=(30, 10)) * np.linspace(0.1, 3, 30)[:, None])
    values_NK = games.value(design.members_PK).astype(np.float32).astype(np.float64)
    left_NK = fit(values_NK, design).value(design.members_PK) - values_NK
    assert abs(left_NK).max() < 1e-6


def test_log_odds_of_certainties_are_finite() -> None:
    """0 and 1 are moved by 1e-12."""
    np.testing.assert_allclose(clipped_logit(np.array([0.0, 0.5, 1.0])), [-np.log(1e12), 0, np.log(1e12)], rtol=1e-4)


@pytest.mark.parametrize("size", [0.0, 1e-9])
def test_hardly_any_slope_is_hardly_any_attribution(size: float) -> None:
    """A constant game has none."""
    phi_NP = LogitAdditive(np.array([0.3]), np.full((1, 5), size)).shapley()
    np.testing.assert_allclose(phi_NP, size * 0.2445, atol=1e-12)
