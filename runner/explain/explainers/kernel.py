"""Kernel SHAP: Shapley values estimated from the values of sampled coalitions.

`shap.compat=clarify` reproduces the regression and the sampling scheme of SageMaker Clarify. Results agree with
Clarify's published analyses up to their run-to-run noise. The weights are the Shapley kernel of Lundberg and Lee
(NeurIPS 2017): (P-1) / (s (P-s)) for all coalitions of size s together.

Array letters: N records, L labels, R = N·L games, P players, K coalitions, J pairs of a coalition and its complement
(the last I are drawn), M = J + 1 differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Estimate
from runner.explain.coalitions import (
    by_record,
    coalition_budget,
    differences,
    evaluate,
    evaluate_differences,
    number_of_pairs,
    pairs_of_size,
    rowwise_matmul,
    unique_coalitions,
    with_complements,
    with_first_player,
)
from runner.explain.control_variate import control_variate
from runner.explain.explainers.exact import Exact
from runner.explain.game_explainer import GameExplainer, GameSize, restore_order
from runner.explain.gaussian_process import posterior
from runner.protocols import Game

MAX_SAMPLES = 8192
"""Maximum number of coalitions; the matrix of a larger design needs too much memory."""
MAX_DESIGN = 2**23
"""Largest product of coalitions and features in a design with `shap.compat=clarify`."""
STEPS = 1e9
"""Number of levels of importance; players whose importance differs only by rounding errors stay in their order."""


@dataclass(frozen=True)
class SampledCoalitions(GameExplainer):
    """Base class of the explainers that evaluate a sample of the coalitions.

    Attributes:
        num_samples: coalitions per record and background row; None for min(2·P + 2^11, 2^P − 2).
        seed: seed of the coalitions.
    """

    num_samples: int | None
    seed: int

    is_exact: ClassVar[bool] = False
    compat: ClassVar[str | None]

    @property
    def settings(self) -> dict[str, object]:
        """Name of the explainer, and the settings that its noise depends on."""
        return {"explainer": "kernel", "compat": self.compat, "num_samples": self.num_samples, "seed": self.seed}


@dataclass(frozen=True)
class Kernel(SampledCoalitions):
    """Explainer that estimates posterior means, with a control variate if the model's outputs are probabilities."""

    compat: ClassVar[str | None] = None

    def coalitions(self, players: int) -> int:
        """Return the number of coalitions, at most 2^P − 2.

        Raises:
            ExplainerError: if `num_samples` is too small for this number of players, or too large.
        """
        return coalition_budget(self.num_samples, players, MAX_SAMPLES)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, and its variance unless all coalitions were evaluated."""
        P, labels = game.players, len(game.expected_L)
        design = posterior(P, self.coalitions(P) // 2, self.seed)
        if design.complete:
            return Exact().estimate(game)
        order_NP, values_RK = evaluate_by_importance(game, design.half_JP)
        differences_RM, control = differences(values_RK), control_variate(values_RK, design)
        residual_RM = differences_RM - control.differences_RM
        phi_RP = control.phi_RP + rowwise_matmul(residual_RM, design.solver_MP)
        phi_RP += (differences_RM[:, -1:] - phi_RP.sum(axis=1, keepdims=True)) / P
        variance_RP = (
            design.variance_ratio(residual_RM) * control.variance_inflation_R1 * design.variance_P
            + control.rounding_R1**2
        )
        return Estimate(*(restore_order(by_record(rows_RP, labels), order_NP) for rows_RP in (phi_RP, variance_RP)))


def evaluate_by_importance(game: Game, half_JP: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return order_NP, the players of each record by descending importance, and values_RK for players in this order.

    The importance of a player is the effect of adding it to the empty coalition and of removing it from the grand
    coalition. The pairs with these coalitions are evaluated first, because the prior of interactions depends on the
    order.

    Args:
        game: game to evaluate.
        half_JP: one coalition of each pair; the first P contain one player each, as in `draw_pairs`.
    """
    J, P = half_JP.shape
    singleton_RK = evaluate(game, half_JP[:P])
    order_NP = _order(singleton_RK, len(game.expected_L))
    both_R2P, order_R1P = singleton_RK[:, :-2].reshape(-1, 2, P), order_NP.repeat(len(game.expected_L), axis=0)[:, None]
    single_RP, complement_RP = np.take_along_axis(both_R2P, order_R1P, axis=2).transpose(1, 0, 2)
    other_RK = evaluate(game.reorder(order_NP), half_JP[P:])
    return order_NP, np.concatenate([single_RP, other_RK[:, : J - P], complement_RP, other_RK[:, J - P :]], axis=1)


def _order(singleton_RK: NDArray[np.float64], labels: int) -> NDArray[np.intp]:
    P = singleton_RK.shape[1] // 2 - 1
    gain_RP, loss_RP = singleton_RK[:, :P] - singleton_RK[:, -1:], singleton_RK[:, -2:-1] - singleton_RK[:, P : 2 * P]
    importance_NP = (gain_RP**2 + loss_RP**2).reshape(-1, labels, P).sum(axis=1)
    max_N1 = importance_NP.max(axis=1, keepdims=True)
    steps_NP = np.rint(importance_NP * (STEPS / np.where(max_N1 > 0, max_N1, 1)))
    order_NP: NDArray[np.intp] = (-steps_NP).argsort(axis=1, kind="stable")
    return order_NP


@dataclass(frozen=True)
class Clarify(SampledCoalitions):
    """Explainer by weighted regression on all coalitions of some sizes, and on drawn pairs of other sizes.

    Features equal to the background are players, too.
    """

    compat: ClassVar[str | None] = "clarify"

    def coalitions(self, players: int) -> int:
        """Return the number of coalitions, at most 2^P − 2.

        Raises:
            ExplainerError: if `num_samples` is too small for this number of players, or too large.
        """
        return coalition_budget(self.num_samples, players, MAX_DESIGN // max(1, players))

    def game_size(self, varying: int, players: int, is_additive: bool) -> GameSize:
        """Return the size of the game of all players.

        Coalitions that differ only in players equal to the background have equal values and are evaluated once. An
        additive model is evaluated faster than duplicates are found.
        """
        budget = self.coalitions(players)
        if is_additive or varying == players:
            return GameSize(players, players, budget)
        masks_KP = with_complements(regression(players, budget, self.seed).half_JP)
        return GameSize(players, varying, len(unique_coalitions(masks_KP, varying).masks_kP))

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, and its variance due to the drawn pairs: NaN if too few were drawn to estimate it."""
        labels = len(game.expected_L)
        if game.players < 2:
            total_NL = game.scores_NL - game.expected_L
            return Estimate(total_NL[:, None, :].repeat(game.players, axis=1), variance_NPL=None)
        design = regression(game.players, self.coalitions(game.players), self.seed)
        differences_RM = evaluate_differences(game, design.half_JP)
        phi_RP = rowwise_matmul(differences_RM, design.solver_MP)
        residual_RI = design.residual(differences_RM, phi_RP)
        variance_RP = rowwise_matmul(residual_RI**2, design.influence_IP**2)
        return Estimate(by_record(phi_RP, labels), by_record(variance_RP, labels))


@dataclass(frozen=True)
class Regression:
    """Weighted least squares on J pairs, subject to Σφ = v(all players) − v(empty), as matrices.

    Attributes:
        half_JP: one coalition of each pair.
        solver_MP: φ is differences_RM @ solver_MP.
        gain_I: factor of each drawn pair: (residual · gain · influence)² is the part of the pair in the variance of φ.
            Empty if all coalitions are included, NaN if fewer than two pairs were drawn.
    """

    half_JP: NDArray[np.bool_]
    solver_MP: NDArray[np.float64]
    gain_I: NDArray[np.float64]

    @property
    def influence_IP(self) -> NDArray[np.float64]:
        """Rows of the solver for the drawn pairs."""
        return self.solver_MP[len(self.half_JP) - len(self.gain_I) : -1]

    def residual(self, differences_RM: NDArray[np.float64], phi_RP: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return residual_RI: residuals of the drawn pairs, times their gain."""
        drawn = slice(len(self.half_JP) - len(self.gain_I), len(self.half_JP))
        residual_RI = rowwise_matmul(phi_RP, np.where(self.half_JP[drawn].T, 1.0, -1.0))
        np.subtract(differences_RM[:, drawn], residual_RI, out=residual_RI)
        residual_RI *= self.gain_I
        return residual_RI


def size_weights(players: int) -> NDArray[np.float64]:
    """Return the weight of each size 0…P; sizes 0 and P have the weight 0, and the sum is 1.

    >>> size_weights(4).round(3).tolist()
    [0.0, 0.364, 0.273, 0.364, 0.0]
    """
    sizes = np.arange(1, players)
    weights: NDArray[np.float64] = np.zeros(players + 1)
    weights[1:players] = (players - 1) / (sizes * (players - sizes))
    weights /= weights.sum()
    return weights


@lru_cache(maxsize=32)
def regression(players: int, budget: int, seed: int) -> Regression:
    """Return the regression on at most `budget` coalitions: first complete sizes, then drawn pairs.

    Sizes s and P-s are enumerated together, from s = 1 upwards. The remaining budget is divided among the remaining
    sizes by weight. Enumeration continues while the share of a size covers all of its coalitions; size 1 is always
    enumerated. The rest of the budget is used for random pairs of a coalition and its complement. Their sizes are drawn
    by weight, their members uniformly. The weight of a pair is proportional to the number of times it was drawn.
    """
    by_size = size_weights(players)
    parts, weights = [np.zeros((0, players), dtype=np.bool_)], [np.zeros(0)]
    pairs, size = budget // 2, 1
    while 2 * size <= players and (
        size == 1 or number_of_pairs(players, size) <= pairs * _size_probabilities(by_size, size)[0]
    ):
        parts.append(pairs_of_size(players, size))
        weights.append(np.full(len(parts[-1]), by_size[size] / comb(players, size)))
        pairs, size = pairs - len(parts[-1]), size + 1
    counts_I = np.zeros(0)
    if pairs and 2 * size <= players:
        drawn_IP, counts_I = _draw(by_size, size, pairs, np.random.default_rng([seed, players]))
        remaining = 0.5 - sum(part.sum() for part in weights)
        parts.append(drawn_IP)
        weights.append(counts_I / counts_I.sum() * remaining)
    half_JP = np.concatenate(parts)
    solver_MP = _solve(half_JP, np.concatenate(weights))
    return Regression(half_JP, solver_MP, _gain(half_JP, solver_MP, counts_I, complete=2 * size > players))


def _size_probabilities(by_size: NDArray[np.float64], min_size: int) -> NDArray[np.float64]:
    """Return the probability that a drawn pair has each size, from `min_size` to half of the players."""
    players = len(by_size) - 1
    sizes = np.arange(min_size, players // 2 + 1)
    weights = by_size[sizes] * np.where(2 * sizes == players, 1, 2)
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _draw(
    by_size: NDArray[np.float64], min_size: int, pairs: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return distinct pairs with sizes from `min_size`, and the number of times that each was drawn."""
    players = len(by_size) - 1
    sizes, probabilities = np.arange(min_size, players // 2 + 1), _size_probabilities(by_size, min_size)
    counts: dict[bytes, int] = {}
    while len(counts) < pairs:
        size_K1 = rng.choice(sizes, (pairs + pairs // 4 + 4, 1), p=probabilities)
        random_KP = rng.random((len(size_K1), players))
        masks_KP = random_KP < np.sort(random_KP)[np.arange(len(random_KP))[:, None], size_K1]
        masks_KP = np.where(2 * size_K1 == players, with_first_player(masks_KP), masks_KP)
        _count(counts, [mask_P.tobytes() for mask_P in masks_KP], pairs)
    drawn_IP = np.frombuffer(b"".join(counts), dtype=np.bool_).reshape(pairs, players)
    return drawn_IP, np.array(list(counts.values()), dtype=np.float64)


def _count(counts: dict[bytes, int], keys: list[bytes], distinct: int) -> None:
    """Count keys until there are `distinct` different ones."""
    for key in keys:
        if len(counts) == distinct:
            return
        counts[key] = counts.get(key, 0) + 1


def _solve(half_JP: NDArray[np.bool_], weights_J: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return solver_MP, the solution of min Σ w (d/2 − Zφ)² subject to Σφ = total.

    Z is ½ for members and −½ for non-members; d is the difference of the values of a pair. Let A = Z'WZ + 11' and
    c = 1'A⁻¹1. Because of the constraint, 11' does not change the solution. Then
    φ = A⁻¹(I − 11'A⁻¹/c) Z'W d/2 + A⁻¹1/c · total.
    """
    Z = half_JP - 0.5
    inverse_PP = np.linalg.inv(Z.T * weights_J @ Z + 1).astype(np.float64)
    total_P = inverse_PP.sum(axis=1) / inverse_PP.sum()
    projected_PP = inverse_PP - np.outer(total_P, inverse_PP.sum(axis=0))
    return np.concatenate([(Z * weights_J[:, None]) @ projected_PP.T / 2, total_P[None]])


def _gain(
    half_JP: NDArray[np.bool_], solver_MP: NDArray[np.float64], counts_I: NDArray[np.float64], complete: bool
) -> NDArray[np.float64]:
    """Return the gain_I of the drawn pairs, which are the last ones.

    This is the jackknife over draws in closed form: without one draw, φ changes by solver · residual / (1 − leverage).
    The variance is the sum of the squares of these changes, times I / (I − 1). A pair drawn c times counts as c draws,
    each with 1/c of its weight and leverage. Enumerated coalitions add no variance.

    Source: MacKinnon and White (Journal of Econometrics 1985), HC3.
    """
    if complete:
        return counts_I
    if len(counts_I) < 2:
        return np.full(1, np.nan)
    drawn = slice(len(half_JP) - len(counts_I), len(half_JP))
    leverage_I = ((2.0 * half_JP[drawn] - 1) * solver_MP[drawn]).sum(axis=1)
    gain_I: NDArray[np.float64] = np.sqrt(len(counts_I) / (len(counts_I) - 1) / counts_I) / (1 - leverage_I / counts_I)
    return gain_I
