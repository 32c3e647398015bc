"""Shapley values by Gaussian process regression: the posterior of φ given the values of some coalitions.

Shapley values depend only on the odd part of a game, that is, on the differences v(S) − v(complement of S). Each
difference is a sum of interactions A of 1, 3, 5, … players: Σ_A 2·a_A·Π_{p∈A} z_p, where z is 1 for members of S and −1
for all other players. The Shapley values are φ_p = Σ_{A∋p} 2·a_A / |A|.

The prior of coefficients a_A of order 1 is flat, so φ of a game without interactions is exact. All other a_A have
independent normal priors with mean 0 and a variance proportional to Π_{p∈A} ρ_p. The most important players come first,
so ρ decreases with the position of a player. For a small share of the variance, ρ is equal for all players, so that no
interaction is excluded. Given the differences of J pairs and of the grand coalition, the posterior mean of φ is a
matrix times these differences. Its variance has a closed form.

Array letters: R games, P players, J pairs of a coalition and its complement, M = J + 1 differences, H of them that are
left out in turn, K coalitions, I components of the prior, T nodes of integrals.

Source: the kernel Π (1 + ρ_p·z_p·z'_p) is the sum of Π_{p∈A} ρ_p over all interactions: O'Donnell (2014), section 2.4.
Regression: Rasmussen and Williams (2006), equations 2.41 and 2.42; leaving one out: 5.10 to 5.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions, draw_pairs, rowwise_matmul, with_complements

DECAY = 2.5
"""Number of positions over which ρ decreases to 1/e; 2 and 3 are as good, 5 is worse (six models of 10–30 features)."""
EQUAL_SHARE = 0.1
"""Share of the prior variance with equal ρ for all players."""
SCALE = 0.15
"""ρ·P of equal players for few pairs: order 5 then has 0.1 % of the variance of order 3."""
MAX_ORDER = 25
"""Largest order of interactions; higher ones cannot be determined by any feasible number of pairs."""
VARIANCE = 4.0
"""Prior variance of a difference due to interactions of order 3 and higher."""
NODES = (np.polynomial.legendre.leggauss(8)[0] + 1) / 2
"""Gauss nodes of integrals over 0…1, exact up to order 15."""
POWERS = 2 * np.arange(len(NODES))
ONCE, TWICE = (np.linalg.solve(NODES ** POWERS[:, None], 1 / (POWERS + 1) ** times) for times in (1, 2))
"""Weights that turn the values of Σ c_k·t^k, k = 0, 2, 4, …, at the nodes into Σ c_k / (k+1) and Σ c_k / (k+1)²."""
JITTER = 1e-12
"""Share of a difference's variance that is added to the diagonal, so that the covariance can be inverted."""
MAX_LEFT_OUT = 64
"""Maximum number of differences that are left out in turn to measure how well the others predict them."""


class Prior(NamedTuple):
    """Prior of interactions of order 3, 5, ….

    Attributes:
        covariance_MM: covariances of differences.
        joint_MP: covariances of differences and φ.
        variance_P: variances of φ.
    """

    covariance_MM: NDArray[np.float64]
    joint_MP: NDArray[np.float64]
    variance_P: NDArray[np.float64]


def prior(sign_MP: NDArray[np.float64]) -> Prior:
    """Return the prior for differences of coalitions, given as 1 for members and −1 for non-members.

    The grand coalition comes last.
    """
    M, P = sign_MP.shape
    decay_P = np.exp(-np.arange(P) / DECAY)
    rho_IP = np.stack([decay_P / decay_P.sum(), np.full(P, _equal_rho(P, M - 1))])
    interactions_I = (np.prod(1 + rho_IP, axis=1) - np.prod(1 - rho_IP, axis=1)) / 2 - rho_IP.sum(axis=1)
    share_I = VARIANCE * np.array([1 - EQUAL_SHARE, EQUAL_SHARE]) / interactions_I
    return Prior(_covariance(sign_MP, rho_IP, share_I), *_with_phi(sign_MP, rho_IP, share_I))


def _equal_rho(players: int, pairs: int) -> float:
    """Return ρ of equal players; it doubles with each further odd order that the pairs can determine.

    So the higher orders exceed rounding errors if there are enough pairs for them. With 8 to 14 players and 50 to 2,000
    pairs, the measured error is at most 10 % larger than with the best ρ, and variances have the right size.
    """
    interactions = np.cumsum([float(comb(players, order)) for order in range(1, min(players, MAX_ORDER) + 1, 2)])
    orders = float(np.interp(pairs, interactions, np.arange(len(interactions))))
    return SCALE * 2**orders / players


def _covariance(
    sign_MP: NDArray[np.float64], rho_IP: NDArray[np.float64], share_I: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return covariance_MM: Σ share · (odd orders of Π (1 + ρ_p·z_p·z'_p), except order 1).

    For z = ±1, Π (1 + ρ·z) is exp(Σ ½·log(1 − ρ²)) · exp(Σ z·artanh ρ). Its odd orders have sinh
    instead of the second exp.
    """
    covariance_MM = -(sign_MP * (share_I @ rho_IP)) @ sign_MP.T
    for share, angle_P in zip(share_I * _size(rho_IP), np.arctanh(rho_IP), strict=True):
        covariance_MM += share * np.sinh((sign_MP * angle_P) @ sign_MP.T)
    return covariance_MM


def _with_phi(
    sign_MP: NDArray[np.float64], rho_IP: NDArray[np.float64], share_I: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return joint_MP and variance_P: Σ share · ρ_p · (even orders of Π_{q≠p} (1 + ρ_q·z_q), except order 0).

    The even orders have cosh instead of exp: see `_covariance`. Division by (1 + ρ·z) removes a player. The factor
    1 / |A| of φ is the integral of t^(|A|−1) over 0…1.
    """
    rho_TP = np.concatenate([NODES[:, None] * rho_P for rho_P in rho_IP])
    weight_TP = (share_I[:, None] * rho_IP).repeat(len(NODES), axis=0) / (1 - rho_TP**2)
    once_TP, twice_TP = (np.tile(times, len(rho_IP))[:, None] * weight_TP for times in (ONCE, TWICE))
    angle_TM, size_T1 = np.arctanh(rho_TP) @ sign_MP.T, _size(rho_TP)[:, None]
    even_TM, odd_TM, order1_P = size_T1 * np.cosh(angle_TM), size_T1 * np.sinh(angle_TM), share_I @ rho_IP
    joint_MP = sign_MP * (even_TM.T @ once_TP - order1_P) - odd_TM.T @ (once_TP * rho_TP)
    variance_P = even_TM[:, -1] @ twice_TP - order1_P - odd_TM[:, -1] @ (twice_TP * rho_TP)
    return joint_MP, variance_P


def _size(rho_XP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Π √(1 − ρ²) of each row."""
    size_X: NDArray[np.float64] = np.sqrt(np.prod(1 - rho_XP**2, axis=1))
    return size_X


@dataclass(frozen=True)
class Posterior:
    """J pairs, and the linear map from their differences to φ.

    Attributes:
        half_JP: one coalition of each pair.
        solver_MP: φ is differences_RM @ solver_MP.
        variance_P: variance of φ in a game whose left-out differences are predicted as well as the prior expects.
        loo_residual_MH: differences_RM @ loo_residual_MH are leave-one-out residuals in units of their standard
            deviation.
        loo_weight_HP: weight of each residual in the error of φ: half by its influence on φ, half equal for all.
            Columns sum to 1.
    """

    half_JP: NDArray[np.bool_]
    solver_MP: NDArray[np.float64]
    variance_P: NDArray[np.float64]
    loo_residual_MH: NDArray[np.float64]
    loo_weight_HP: NDArray[np.float64]

    @cached_property
    def members_PK(self) -> NDArray[np.float64]:
        """The K evaluated coalitions: 1 for members, 0 for non-members."""
        return np.ascontiguousarray(with_complements(self.half_JP).T.astype(np.float64))

    @property
    def complete(self) -> bool:
        """Whether all pairs are included, so that φ is exact."""
        return len(self.half_JP) == _all_pairs(self.half_JP.shape[1])

    def variance_ratio(self, differences_RM: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ratio of φ's estimated variance to its prior variance, per game and player."""
        return rowwise_matmul(rowwise_matmul(differences_RM, self.loo_residual_MH) ** 2, self.loo_weight_HP)


@lru_cache(maxsize=32)
def posterior(players: int, pairs: int, seed: int) -> Posterior:
    """Return the posterior given `pairs` random pairs, or all pairs if there are no more.

    Here the prior variance of order 1 is finite, so that the covariance is invertible. It cancels in the results. The
    second step of `solver_MP` removes the rounding errors of `solver_MP` for games without interactions.
    """
    if pairs >= _all_pairs(players):
        return complete(players)
    half_JP = draw_pairs(players, pairs, np.random.default_rng([seed, players]))
    sign_MP = np.where(np.concatenate([half_JP, np.ones((1, players), dtype=np.bool_)]), 1.0, -1.0)
    interactions = prior(sign_MP)
    order1 = VARIANCE / players
    covariance_MM = interactions.covariance_MM + order1 * (sign_MP @ sign_MP.T) + VARIANCE * JITTER * np.eye(pairs + 1)
    joint_MP = interactions.joint_MP + order1 * sign_MP
    precision_MM = np.linalg.inv(covariance_MM)
    weighted_MP = precision_MM @ sign_MP
    spread_PP = np.linalg.inv(sign_MP.T @ weighted_MP)
    order1_MP, higher_MP = weighted_MP @ spread_PP, precision_MM @ joint_MP
    unexplained_PP = np.eye(players) - joint_MP.T @ weighted_MP
    solver_MP = higher_MP + order1_MP @ unexplained_PP.T
    solver_MP += order1_MP @ (np.eye(players) - sign_MP.T @ solver_MP)
    flat_P = (unexplained_PP @ spread_PP * unexplained_PP).sum(axis=1)
    variance_P = interactions.variance_P + order1 - (joint_MP * higher_MP).sum(axis=0) + flat_P
    left_out = np.linspace(0, pairs, min(MAX_LEFT_OUT, pairs + 1)).astype(int)
    residual_MH = precision_MM[:, left_out] - order1_MP @ weighted_MP[left_out].T
    precision_H = residual_MH[left_out, np.arange(len(left_out))]
    influence_HP = solver_MP[left_out] ** 2 / precision_H[:, None]
    return Posterior(
        half_JP=half_JP,
        solver_MP=solver_MP,
        variance_P=np.maximum(variance_P, 0),
        loo_residual_MH=residual_MH / np.sqrt(precision_H),
        loo_weight_HP=influence_HP / influence_HP.sum(axis=0) / 2 + 1 / (2 * len(left_out)),
    )


@lru_cache(maxsize=32)
def complete(players: int) -> Posterior:
    """Return all pairs, and the map to exact φ: the weighted sum of v(S ∪ p) − v(S) over all S without p.

    Source: Shapley (1953): a coalition with s members has the weight s! (P−s−1)! / P!.
    """
    half_JP = all_coalitions(players)[1 : 2 ** (players - 1)] if players else all_coalitions(0)[:0]
    size_J1 = half_JP.sum(axis=1)[:, None]
    weights = np.array([1 / (players * comb(players - 1, s)) for s in range(players)] or [0.0])
    weight_JP = np.where(half_JP, weights[size_J1 - 1], -weights[np.minimum(size_J1, players - 1)])
    solver_MP = np.concatenate([weight_JP, np.full((1, players), 1 / max(1, players))])
    return Posterior(
        half_JP=half_JP,
        solver_MP=solver_MP,
        variance_P=np.zeros(players),
        loo_residual_MH=np.zeros((len(solver_MP), 0)),
        loo_weight_HP=np.zeros((0, players)),
    )


def _all_pairs(players: int) -> int:
    return 2 ** (players - 1) - 1 if players else 0
