"""The posterior over odd games: against games drawn from the prior, and against all coalitions."""

from __future__ import annotations

import numpy as np
import pytest

from runner.explain.coalitions import all_coalitions, differences, evaluate, rowwise_matmul
from runner.explain.explainers.exact import Exact
from runner.explain.gaussian_process import complete, posterior
from tests.explain.games import Table
from tests.explain.test_prior import interactions


def drawn(records: int, players: int, pairs: int, rng: np.random.Generator) -> Table:
    """Return games whose odd interactions are drawn from the prior, one by one; what is not presumed is large."""
    sign_KP, values_NK = np.where(all_coalitions(players), 1.0, -1.0), np.zeros((records, 2**players))
    alone = {(player,): 900.0 for player in range(players)}
    for members, variance in (alone | interactions(players, pairs)).items():
        values_NK += rng.normal(size=(records, 1)) * np.sqrt(variance) * sign_KP[:, members].prod(axis=1)
    return Table(values_NK - values_NK[:, :1])


@pytest.mark.parametrize(("players", "pairs"), [(5, 9), (7, 20), (7, 50), (8, 90)])
def test_games_of_the_prior_are_told_as_well_as_it_says(players: int, pairs: int) -> None:
    """Over such games the mean square error is the variance, and so is the one of what is left out: 1 by its units."""
    design, game = posterior(players, pairs, 1), drawn(4000, players, pairs, np.random.default_rng(3))
    differences_RM = differences(evaluate(game, design.half_JP))
    error_NP = rowwise_matmul(differences_RM, design.solver_MP) - Exact().estimate(game).phi_NPL[:, :, 0]
    np.testing.assert_allclose((error_NP**2).mean(axis=0), design.variance_P, rtol=0.15, atol=1e-9)
    np.testing.assert_allclose((rowwise_matmul(differences_RM, design.loo_residual_MH) ** 2).mean(axis=0), 1, rtol=0.15)


def test_leaving_out_is_what_it_says() -> None:
    """A residual is a difference minus what the others predict of it, by the normal distribution's own formula."""
    design = posterior(6, 15, 0)
    sign_MP = np.where(np.concatenate([design.half_JP, np.ones((1, 6), dtype=bool)]), 1.0, -1.0)
    covariance_MM = 1e6 * (sign_MP @ sign_MP.T)
    for members, variance in interactions(6, 15).items():
        product_M = sign_MP[:, members].prod(axis=1)
        covariance_MM += 4 * variance * np.outer(product_M, product_M)
    difference_M = differences(evaluate(drawn(1, 6, 15, np.random.default_rng(0)), design.half_JP))[0]
    left_out_M = rowwise_matmul(difference_M[None], design.loo_residual_MH)[0]
    for m in range(len(difference_M)):
        others = np.arange(len(difference_M)) != m
        weights = np.linalg.solve(covariance_MM[np.ix_(others, others)], covariance_MM[others, m])
        spread = np.sqrt(covariance_MM[m, m] - weights @ covariance_MM[others, m])
        assert left_out_M[m] == pytest.approx((difference_M[m] - weights @ difference_M[others]) / spread, abs=1e-3)


def test_surprise_is_one_as_presumed_and_grows_with_the_square() -> None:
    """Games of the prior are no surprise on average; what is a hundred times larger is one of ten thousand times."""
    design, game = posterior(7, 20, 1), drawn(4000, 7, 20, np.random.default_rng(5))
    differences_RM = differences(evaluate(game, design.half_JP))
    surprise_RP = design.variance_ratio(differences_RM)
    np.testing.assert_allclose(surprise_RP.mean(axis=0), 1, rtol=0.15)
    np.testing.assert_allclose(design.loo_weight_HP.sum(axis=0), 1)
    np.testing.assert_allclose(design.variance_ratio(100 * differences_RM), 1e4 * surprise_RP)


@pytest.mark.parametrize("players", range(5))
def test_all_pairs_are_exact(players: int) -> None:
    """With all coalitions φ is what each order of arrival gives on average; nobody gets it all where nobody plays."""
    design = posterior(players, 2**20, 0)
    assert design.complete
    assert design is complete(players)
    assert not design.variance_P.any()
    assert design.solver_MP[-1].sum() == pytest.approx(float(players > 0))


def test_an_incomplete_design_says_so() -> None:
    """One pair less than all is not complete."""
    assert not posterior(4, 6, 0).complete
    assert posterior(4, 7, 0).complete


def test_more_pairs_leave_less_variance() -> None:
    """Whatever the number of players, and whatever ρ is for so many pairs, variance falls."""
    for players, budgets in ((9, (20, 60, 120, 250)), (14, (50, 200, 700)), (60, (120, 500))):
        variances = [posterior(players, pairs, 0).variance_P.mean() for pairs in budgets]
        assert variances == sorted(variances, reverse=True)
        assert variances[-1] >= 0


@pytest.mark.parametrize(("players", "pairs"), [(12, 1500), (60, 700), (200, 300)])
def test_games_without_interactions_are_told_to_the_last_digits(players: int, pairs: int) -> None:
    """Whatever the design, φ is what each player adds."""
    design, adds_P = posterior(players, pairs, 0), np.random.default_rng(0).normal(size=players)
    sign_MP = np.where(np.concatenate([design.half_JP, np.ones((1, players), dtype=bool)]), 1.0, -1.0)
    np.testing.assert_allclose((sign_MP @ adds_P) @ design.solver_MP, adds_P, atol=1e-12)
