"""What the values of some coalitions tell about all others: the posterior over odd games.

A Shapley value depends on the odd part of a game alone, on the differences v(S) − v(complement of S): where that part
is a sum of interactions among 1, 3, 5, … players, Σ 2·a_A·Π_{p∈A} z_p, φ_p is Σ_{A∋p} 2·a_A / |A|. As nothing is
presumed of order 1, a game without interactions is explained exactly. Given the differences of J pairs and the one of
the grand coalition, the mean of φ is a matrix times these differences, and its variance is known too.

Array letters: P players, J pairs of a coalition and its complement, M = J + 1 differences, H of them.

Source: Rasmussen and Williams (2006), equations 2.41 and 2.42; 5.10 to 5.12 for leaving one out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from runner.explain.coalitions import draw_pairs, every
from runner.explain.pairs import coalitions, each
from runner.explain.prior import VARIANCE, prior

JITTER = 1e-12
"""Of the variance of a difference, added to all for the sake of the inverse."""
LOOKED_AT = 64
"""How many differences are left out, one by one, to see how well the others predict them."""


@dataclass(frozen=True)
class Posterior:
    """J pairs, and how φ follows from their differences.

    Attributes:
        half_JP: one coalition of each pair.
        solver_MP: φ is differences_RM @ solver_MP.
        variance_P: of φ, for a game of which the others predict a difference left out as well as the prior has it.
        left_out_MH: differences @ it are residuals of H of them, each predicted from all others, in units of its own
            standard deviation.
        counts_HP: how much each of these residuals counts for the error of φ: half by its influence on it, half as
            all others; columns sum to 1.
    """

    half_JP: NDArray[np.bool_]
    solver_MP: NDArray[np.float64]
    variance_P: NDArray[np.float64]
    left_out_MH: NDArray[np.float64]
    counts_HP: NDArray[np.float64]

    @cached_property
    def members_PK(self) -> NDArray[np.float64]:
        """The K coalitions that a game is asked for, 1 for a member and 0 for an outsider."""
        return np.ascontiguousarray(coalitions(self.half_JP).T.astype(np.float64))

    @property
    def complete(self) -> bool:
        """Whether these are all pairs there are, so that φ is exact."""
        return len(self.half_JP) == _all_pairs(self.half_JP.shape[1])

    def variance_ratio(self, differences_RM: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return as surprise_RP how many times the variance of φ is what it would be by the prior."""
        return each(each(differences_RM, self.left_out_MH) ** 2, self.counts_HP)


@lru_cache(maxsize=32)
def posterior(players: int, pairs: int, seed: int) -> Posterior:
    """Return the posterior given as many pairs, drawn by the seed, or all of them.

    A variance of order 1, on top of what is not presumed of it, changes no result; with it the inverse exists. What its
    rounding errors do to a game without interactions is taken back.
    """
    if pairs >= _all_pairs(players):
        return complete(players)
    half_JP = draw_pairs(players, pairs, np.random.default_rng([seed, players]))
    sign_MP = np.where(np.concatenate([half_JP, np.ones((1, players), dtype=np.bool_)]), 1.0, -1.0)
    presumed = prior(sign_MP)
    first = VARIANCE / players
    covariance_MM = presumed.covariance_MM + first * (sign_MP @ sign_MP.T) + VARIANCE * JITTER * np.eye(pairs + 1)
    joint_MP = presumed.joint_MP + first * sign_MP
    precision_MM = np.linalg.inv(covariance_MM)
    weighted_MP = precision_MM @ sign_MP
    spread_PP = np.linalg.inv(sign_MP.T @ weighted_MP)
    first_MP, later_MP = weighted_MP @ spread_PP, precision_MM @ joint_MP
    unseen_PP = np.eye(players) - joint_MP.T @ weighted_MP
    solver_MP = later_MP + first_MP @ unseen_PP.T
    solver_MP += first_MP @ (np.eye(players) - sign_MP.T @ solver_MP)
    unknown_P = (unseen_PP @ spread_PP * unseen_PP).sum(axis=1)
    variance_P = presumed.variance_P + first - (joint_MP * later_MP).sum(axis=0) + unknown_P
    some = np.linspace(0, pairs, min(LOOKED_AT, pairs + 1)).astype(int)
    left_out_MH = precision_MM[:, some] - first_MP @ weighted_MP[some].T
    precision_H = left_out_MH[some, np.arange(len(some))]
    influence_HP = solver_MP[some] ** 2 / precision_H[:, None]
    return Posterior(
        half_JP=half_JP,
        solver_MP=solver_MP,
        variance_P=np.maximum(variance_P, 0),
        left_out_MH=left_out_MH / np.sqrt(precision_H),
        counts_HP=influence_HP / influence_HP.sum(axis=0) / 2 + 1 / (2 * len(some)),
    )


@lru_cache(maxsize=32)
def complete(players: int) -> Posterior:
    """Return all pairs, and the exact φ: Σ over the coalitions S of the others of v(S ∪ p) − v(S), weighted.

    Source: Shapley (1953): a coalition of s others weighs s! (P−s−1)! / P!.
    """
    half_JP = every(players)[1 : 2 ** (players - 1)] if players else every(0)[:0]
    size_J1 = half_JP.sum(axis=1)[:, None]
    weights = np.array([1 / (players * comb(players - 1, s)) for s in range(players)] or [0.0])
    share_JP = np.where(half_JP, weights[size_J1 - 1], -weights[np.minimum(size_J1, players - 1)])
    solver_MP = np.concatenate([share_JP, np.full((1, players), 1 / max(1, players))])
    nothing_MH, nothing_HP = np.zeros((len(solver_MP), 0)), np.zeros((0, players))
    return Posterior(half_JP, solver_MP, np.zeros(players), nothing_MH, nothing_HP)


def _all_pairs(players: int) -> int:
    return 2 ** (players - 1) - 1 if players else 0
