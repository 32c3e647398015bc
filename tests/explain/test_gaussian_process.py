"""The prior against sums over all interactions; the posterior against games drawn from the prior, and enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions, differences, draw_pairs, evaluate, rowwise_matmul
from runner.explain.explainers.exact import Exact
from runner.explain.gaussian_process import (
    DECAY,
    EQUAL_SHARE,
    VARIANCE,
    _equal_rho,
    complete,
    posterior,
    prior,
)
from tests.explain.games import TableGame

Interactions = dict[tuple[int, ...], float]


def interaction_variances(players: int, pairs: int) -> Interactions:
    """Return the prior variance of each coefficient a_A, by the players in A."""
    decay_P = np.exp(-np.arange(players) / DECAY)
    decaying = _products(decay_P / decay_P.sum())
    equal = _products(np.full(players, _equal_rho(players, pairs)))
    return {members: (1 - EQUAL_SHARE) * decaying[members] + EQUAL_SHARE * equal[members] for members in decaying}


def _products(rho_P: NDArray[np.float64]) -> Interactions:
    P = len(rho_P)
    odd = [members for order in range(3, P + 1, 2) for members in combinations(range(P), order)]
    products = {members: float(rho_P[list(members)].prod()) for members in odd}
    total = sum(products.values())
    return {members: VARIANCE / 4 * product / total for members, product in products.items()}


def signs(half_JP: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return sign_MP of pairs, the grand coalition last."""
    return np.where(np.concatenate([half_JP, np.ones((1, half_JP.shape[1]), dtype=bool)]), 1.0, -1.0)


def prior_games(records: int, players: int, pairs: int, rng: np.random.Generator) -> TableGame:
    """Return games whose odd interactions are drawn from the prior, with large main effects."""
    sign_KP, values_NK = np.where(all_coalitions(players), 1.0, -1.0), np.zeros((records, 2**players))
    main = {(player,): 900.0 for player in range(players)}
    for members, variance in (main | interaction_variances(players, pairs)).items():
        values_NK += rng.normal(size=(records, 1)) * np.sqrt(variance) * sign_KP[:, members].prod(axis=1)
    return TableGame(values_NK - values_NK[:, :1])


@pytest.mark.parametrize(("players", "pairs"), [(4, 6), (7, 20), (9, 200), (12, 60)])
def test_the_prior_is_the_sum_over_all_interactions(players: int, pairs: int) -> None:
    """Covariances of differences, those with φ, and the variances of φ match their definitions."""
    sign_MP = signs(draw_pairs(players, pairs, np.random.default_rng(0)))
    found, M = prior(sign_MP), pairs + 1
    covariance_MM, joint_MP, variance_P = np.zeros((M, M)), np.zeros((M, players)), np.zeros(players)
    for members, variance in interaction_variances(players, pairs).items():
        columns, product_M = list(members), sign_MP[:, members].prod(axis=1)
        covariance_MM += 4 * variance * np.outer(product_M, product_M)
        joint_MP[:, columns] += 4 * variance / len(columns) * product_M[:, None]
        variance_P[columns] += 4 * variance / len(columns) ** 2
    np.testing.assert_allclose(found.covariance_MM, covariance_MM, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.joint_MP, joint_MP, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.variance_P, variance_P, rtol=1e-9)
    np.testing.assert_allclose(np.diag(found.covariance_MM), VARIANCE)


def test_the_first_players_interact_most() -> None:
    """The variance of φ decreases with the position, and is never 0."""
    variance_P = prior(np.ones((2, 60))).variance_P
    assert (np.diff(variance_P[:20]) < 0).all()
    assert variance_P.min() > 1e-3 * VARIANCE / 60


def test_the_prior_supports_thousands_of_players() -> None:
    """No number overflows or underflows."""
    sign_MP = np.where(np.random.default_rng(0).random((5, 4000)) < 0.5, 1.0, -1.0)
    sign_MP[-1] = 1
    found = prior(sign_MP)
    assert all(np.isfinite(part).all() for part in found)
    np.testing.assert_allclose(np.diag(found.covariance_MM), VARIANCE, rtol=1e-6)
    assert (found.variance_P > 0).all()


@pytest.mark.parametrize(("players", "pairs"), [(5, 9), (7, 20), (7, 50), (8, 90)])
def test_variances_match_errors_in_games_of_the_prior(players: int, pairs: int) -> None:
    """The mean squared error is the variance; leave-one-out residuals have the mean square 1."""
    design, game = posterior(players, pairs, 1), prior_games(4000, players, pairs, np.random.default_rng(3))
    differences_RM = differences(evaluate(game, design.half_JP))
    error_NP = rowwise_matmul(differences_RM, design.solver_MP) - Exact().estimate(game).phi_NPL[:, :, 0]
    np.testing.assert_allclose((error_NP**2).mean(axis=0), design.variance_P, rtol=0.15, atol=1e-9)
    residual_RH = rowwise_matmul(differences_RM, design.loo_residual_MH)
    np.testing.assert_allclose((residual_RH**2).mean(axis=0), 1, rtol=0.15)


def test_residuals_match_regression_without_the_difference() -> None:
    """A residual is a difference minus its conditional mean given the others, by the formula for normal variables."""
    design = posterior(6, 15, 0)
    sign_MP = signs(design.half_JP)
    covariance_MM = 1e6 * (sign_MP @ sign_MP.T)
    for members, variance in interaction_variances(6, 15).items():
        product_M = sign_MP[:, members].prod(axis=1)
        covariance_MM += 4 * variance * np.outer(product_M, product_M)
    difference_M = differences(evaluate(prior_games(1, 6, 15, np.random.default_rng(0)), design.half_JP))[0]
    residual_M = rowwise_matmul(difference_M[None], design.loo_residual_MH)[0]
    for m in range(len(difference_M)):
        others = np.arange(len(difference_M)) != m
        weights = np.linalg.solve(covariance_MM[np.ix_(others, others)], covariance_MM[others, m])
        deviation = np.sqrt(covariance_MM[m, m] - weights @ covariance_MM[others, m])
        expected = (difference_M[m] - weights @ difference_M[others]) / deviation
        assert residual_M[m] == pytest.approx(expected, abs=1e-3)


def test_the_variance_ratio_is_one_for_games_of_the_prior() -> None:
    """It is quadratic in the size of the game."""
    design, game = posterior(7, 20, 1), prior_games(4000, 7, 20, np.random.default_rng(5))
    differences_RM = differences(evaluate(game, design.half_JP))
    ratio_RP = design.variance_ratio(differences_RM)
    np.testing.assert_allclose(ratio_RP.mean(axis=0), 1, rtol=0.15)
    np.testing.assert_allclose(design.loo_weight_HP.sum(axis=0), 1)
    np.testing.assert_allclose(design.variance_ratio(100 * differences_RM), 1e4 * ratio_RP)


@pytest.mark.parametrize("players", range(5))
def test_all_pairs_are_a_complete_design(players: int) -> None:
    """The total is distributed completely, unless there are no players."""
    design = posterior(players, 2**20, 0)
    assert design.complete
    assert design is complete(players)
    assert not design.variance_P.any()
    assert design.solver_MP[-1].sum() == pytest.approx(float(players > 0))


def test_a_design_without_one_pair_is_incomplete() -> None:
    """Four players have seven pairs."""
    assert not posterior(4, 6, 0).complete
    assert posterior(4, 7, 0).complete


def test_more_pairs_leave_less_variance() -> None:
    """For any number of players, although ρ depends on the number of pairs."""
    for players, budgets in ((9, (20, 60, 120, 250)), (14, (50, 200, 700)), (60, (120, 500))):
        variances = [posterior(players, pairs, 0).variance_P.mean() for pairs in budgets]
        assert variances == sorted(variances, reverse=True)
        assert variances[-1] >= 0


@pytest.mark.parametrize(("players", "pairs"), [(12, 1500), (60, 700), (200, 300)])
def test_games_without_interactions_are_explained_exactly(players: int, pairs: int) -> None:
    """For any design, φ is the main effect of each player up to rounding."""
    design, effect_P = posterior(players, pairs, 0), np.random.default_rng(0).normal(size=players)
    np.testing.assert_allclose((signs(design.half_JP) @ effect_P) @ design.solver_MP, effect_P, atol=1e-12)
