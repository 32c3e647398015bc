"""What is presumed of games: against the sum over all interactions, one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.explain.coalitions import draw_pairs
from runner.explain.gaussian_process import DECAY, EQUAL_SHARE, VARIANCE, _equal_rho, prior

Interactions = dict[tuple[int, ...], float]


def interactions(players: int, pairs: int) -> Interactions:
    """Return the prior variance of each coefficient a_A, by the players of A."""
    falling_P = np.exp(-np.arange(players) / DECAY)
    falling = _spread(falling_P / falling_P.sum())
    alike = _spread(np.full(players, _equal_rho(players, pairs)))
    return {members: (1 - EQUAL_SHARE) * falling[members] + EQUAL_SHARE * alike[members] for members in falling}


def _spread(rho_P: NDArray[np.float64]) -> Interactions:
    P = len(rho_P)
    odd = [members for order in range(3, P + 1, 2) for members in combinations(range(P), order)]
    products = {members: float(rho_P[list(members)].prod()) for members in odd}
    whole = sum(products.values())
    return {members: VARIANCE / 4 * product / whole for members, product in products.items()}


@pytest.mark.parametrize(("players", "pairs"), [(4, 6), (7, 20), (9, 200), (12, 60)])
def test_the_prior_is_the_sum_over_all_interactions(players: int, pairs: int) -> None:
    """Covariances of differences, theirs with φ and the variances of φ are those of the definition."""
    half_JP = draw_pairs(players, pairs, np.random.default_rng(0))
    sign_MP = np.where(np.concatenate([half_JP, np.ones((1, players), dtype=bool)]), 1.0, -1.0)
    found, M = prior(sign_MP), pairs + 1
    covariance_MM, joint_MP, variance_P = np.zeros((M, M)), np.zeros((M, players)), np.zeros(players)
    for members, variance in interactions(players, pairs).items():
        among, product_M = list(members), sign_MP[:, members].prod(axis=1)
        covariance_MM += 4 * variance * np.outer(product_M, product_M)
        joint_MP[:, among] += 4 * variance / len(among) * product_M[:, None]
        variance_P[among] += 4 * variance / len(among) ** 2
    np.testing.assert_allclose(found.covariance_MM, covariance_MM, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.joint_MP, joint_MP, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.variance_P, variance_P, rtol=1e-9)
    np.testing.assert_allclose(np.diag(found.covariance_MM), VARIANCE)


def test_the_first_players_interact_most() -> None:
    """The variance of φ falls from seat to seat, and none is 0."""
    variance_P = prior(np.ones((2, 60))).variance_P
    assert (np.diff(variance_P[:20]) < 0).all()
    assert variance_P.min() > 1e-3 * VARIANCE / 60


def test_thousands_of_players() -> None:
    """Neither very many players nor very unimportant ones are beyond what numbers hold."""
    sign_MP = np.where(np.random.default_rng(0).random((5, 4000)) < 0.5, 1.0, -1.0)
    sign_MP[-1] = 1
    found = prior(sign_MP)
    assert all(np.isfinite(part).all() for part in found)
    np.testing.assert_allclose(np.diag(found.covariance_MM), VARIANCE, rtol=1e-6)
    assert (found.variance_P > 0).all()
