"""The control variate: what it takes out of games, and where it takes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions, differences, evaluate
from runner.explain.control_variate import control_variate
from runner.explain.explainers.exact import Exact
from runner.explain.gaussian_process import posterior
from tests.explain.games import Table, smooth


def values(game: Table, pairs: int) -> NDArray[np.float64]:
    """Return the values that the design of so many pairs asks for."""
    return evaluate(game, posterior(game.players, pairs, 0).half_JP)


def test_additive_games_are_taken_out_as_a_whole() -> None:
    """Nothing is left of games that add up in log-odds, and what is put back are their Shapley values."""
    game = smooth(20, 10, np.random.default_rng(0))
    values_RK = values(game, 60)
    control = control_variate(values_RK, posterior(10, 60, 0))
    np.testing.assert_allclose(control.differences_RM, differences(values_RK), atol=1e-6)
    np.testing.assert_allclose(control.phi_RP, Exact().estimate(game).phi_NPL[:, :, 0], atol=1e-6)


def test_rounding_does_not_decide_how_much() -> None:
    """Where nearly all coalitions leave nothing to predict but rounding errors, no more than the whole is taken out."""
    game = smooth(60, 10, np.random.default_rng(1))
    rounded = Table(game.values_NK.astype(np.float32).astype(np.float64))
    values_RK = values(rounded, 500)
    control = control_variate(values_RK, posterior(10, 500, 0))
    ours_R, theirs_R = (abs(some_RM).max(axis=1) for some_RM in (differences(values_RK), control.differences_RM))
    assert (theirs_R < 1.001 * ours_R).all()


@pytest.mark.parametrize(("pairs", "scale"), [(14, 1.0), (60, 2.0)], ids=["few pairs", "amounts"])
def test_nothing_is_taken_out_of_other_games(pairs: int, scale: float) -> None:
    """No more pairs than the fit needs, or values that are no probabilities: the games stay as they are."""
    sums_NK = np.random.default_rng(2).uniform(size=(5, 7)) @ all_coalitions(7).T / 7
    control = control_variate(values(Table(scale * sums_NK), pairs), posterior(7, pairs, 0))
    assert not control.differences_RM.any()
    assert not control.phi_RP.any()
    assert (control.variance_inflation_R1 == 1).all()
    assert (control.rounding_R1 == 0).all()
