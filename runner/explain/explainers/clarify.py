"""Kernel SHAP as the published SageMaker Clarify analyses have it (`shap.compat=clarify`).

Array letters: N records, L labels, R = N·L games, P players, K coalitions, J pairs of a coalition and its complement,
of which the last I were drawn, M = J + 1 differences.

Source: the sampling that reproduces the published analyses to within their run-to-run noise; the weights are Lundberg
and Lee's Shapley kernel (NeurIPS 2017), (P-1) / (s (P-s)) for all coalitions of size s together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Estimate
from runner.explain.coalitions import coalition_budget, number_of_pairs, pairs_of_size, unique_coalitions
from runner.explain.pairs import ask_differences, by_record, coalitions, each
from runner.protocols import Game

LARGEST_DESIGN = 2**23
"""Coalitions times features of a design."""


@dataclass(frozen=True)
class Clarify:
    """A weighted regression on whole size classes and then drawn pairs; features equal to the background play along.

    Attributes:
        num_samples: coalitions per record and background row; None for min(2·P + 2^11, 2^P − 2).
        seed: draws the coalitions.
    """

    num_samples: int | None
    seed: int

    keeps_unvarying = True

    @property
    def settings(self) -> dict[str, Any]:
        """The explainer's name and what its noise depends on."""
        return {"explainer": "kernel", "compat": "clarify", "num_samples": self.num_samples, "seed": self.seed}

    def coalitions(self, players: int, varying: int) -> int:
        """Return the coalitions of one record, those that only players equal to the background tell apart as one.

        Raises:
            ExplainerError: when `num_samples` is too few for that many players, or too many.
        """
        budget = self._budget(players)
        if varying == players:
            return budget
        return len(unique_coalitions(coalitions(regression(players, budget, self.seed).half_JP), varying).masks_kP)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, and the variance that drawing pairs leaves: nan where too few were drawn to tell."""
        labels = len(game.expected_L)
        if game.players < 2:
            total_NL = game.scores_NL - game.expected_L
            return Estimate(total_NL[:, None, :].repeat(game.players, axis=1), variance_NPL=None)
        design = regression(game.players, self._budget(game.players), self.seed)
        differences_RM = ask_differences(game, design.half_JP)
        phi_RP = each(differences_RM, design.solver_MP)
        residual_RI = design.residual(differences_RM, phi_RP)
        variance_RP = each(residual_RI**2, design.influence_IP**2)
        return Estimate(by_record(phi_RP, labels), by_record(variance_RP, labels))

    def _budget(self, players: int) -> int:
        return coalition_budget(self.num_samples, players, LARGEST_DESIGN // max(1, players))


@dataclass(frozen=True)
class Regression:
    """J pairs and the weighted least squares subject to Σφ = v(all) − v(nobody), as matrices.

    Attributes:
        half_JP: one coalition of each pair.
        solver_MP: φ is differences_RM @ solver_MP.
        gain_I: from the residual of a drawn pair to how much φ would move without one draw, times its influence. Empty
            where every coalition is there, nan where fewer than two were drawn.
    """

    half_JP: NDArray[np.bool_]
    solver_MP: NDArray[np.float64]
    gain_I: NDArray[np.float64]

    @property
    def influence_IP(self) -> NDArray[np.float64]:
        """The solver's part for the drawn pairs."""
        return self.solver_MP[len(self.half_JP) - len(self.gain_I) : -1]

    def residual(self, differences_RM: NDArray[np.float64], phi_RP: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what φ leaves unexplained of the differences of the drawn pairs, times their gain, as residual_RI."""
        drawn = slice(len(self.half_JP) - len(self.gain_I), len(self.half_JP))
        residual_RI = each(phi_RP, np.where(self.half_JP[drawn].T, 1.0, -1.0))
        np.subtract(differences_RM[:, drawn], residual_RI, out=residual_RI)
        residual_RI *= self.gain_I
        return residual_RI


def size_weights(players: int) -> NDArray[np.float64]:
    """Return the weight of each size class 0…P, zero for the empty and the grand coalition, summing to 1.

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
    """Return the regression on at most `budget` coalitions: whole size classes while they are due, then drawn pairs.

    Sizes s and P-s are enumerated together, from the outside in, where what is left of the budget, shared out by weight
    over the sizes that are left, pays for every coalition of them; size 1 always is. The rest of the budget is drawn in
    pairs of a coalition and its complement, the size by its weight, the members uniformly; a pair drawn again weighs
    more.
    """
    by_size = size_weights(players)
    whole, weights = [np.zeros((0, players), dtype=np.bool_)], [np.zeros(0)]
    pairs, size = budget // 2, 1
    while 2 * size <= players and (size == 1 or number_of_pairs(players, size) <= pairs * _chance(by_size, size)[0]):
        whole.append(pairs_of_size(players, size))
        weights.append(np.full(len(whole[-1]), by_size[size] / comb(players, size)))
        pairs, size = pairs - len(whole[-1]), size + 1
    counts_I = np.zeros(0)
    if pairs and 2 * size <= players:
        drawn_IP, counts_I = _draw(by_size, size, pairs, np.random.default_rng([seed, players]))
        rest = 0.5 - sum(part.sum() for part in weights)
        whole.append(drawn_IP)
        weights.append(counts_I / counts_I.sum() * rest)
    half_JP = np.concatenate(whole)
    solver_MP = _solve(half_JP, np.concatenate(weights))
    return Regression(half_JP, solver_MP, _gain(half_JP, solver_MP, counts_I, complete=2 * size > players))


def _chance(by_size: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the shares of pairs of a size, of the next one and so on to half of the players, in their weight."""
    players = len(by_size) - 1
    sizes = np.arange(size, players // 2 + 1)
    weights = by_size[sizes] * np.where(2 * sizes == players, 1, 2)
    chance: NDArray[np.float64] = weights / weights.sum()
    return chance


def _draw(
    by_size: NDArray[np.float64], size: int, pairs: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return that many distinct pairs of at least a size, and how often each was drawn until there were that many."""
    players = len(by_size) - 1
    sizes, chance = np.arange(size, players // 2 + 1), _chance(by_size, size)
    tally: dict[bytes, int] = {}
    while len(tally) < pairs:
        drawn = rng.choice(sizes, (pairs + pairs // 4 + 4, 1), p=chance)
        luck = rng.random((len(drawn), players))
        masks = luck < np.sort(luck)[np.arange(len(luck))[:, None], drawn]
        masks ^= (2 * drawn == players) & ~masks[:, :1]
        _count(tally, [mask.tobytes() for mask in masks], pairs)
    drawn_IP = np.frombuffer(b"".join(tally), dtype=np.bool_).reshape(pairs, players)
    return drawn_IP, np.array(list(tally.values()), dtype=np.float64)


def _count(tally: dict[bytes, int], keys: list[bytes], distinct: int) -> None:
    """Add keys to a tally until it has `distinct` different ones."""
    for key in keys:
        if len(tally) == distinct:
            return
        tally[key] = tally.get(key, 0) + 1


def _solve(half_JP: NDArray[np.bool_], weights_J: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return solver_MP of min Σ w (d/2 − Zφ)² subject to Σφ = total.

    Z holds ½ for a member and −½ for an outsider, d is the difference of the values of a pair. With A = Z'WZ + 11'
    (the constraint makes any multiple of 11' harmless) and c = 1'A⁻¹1:
    φ = A⁻¹(I − 11'A⁻¹/c) Z'W d/2 + A⁻¹1/c · total.
    """
    Z = half_JP - 0.5
    inverse_PP = np.linalg.inv(Z.T * weights_J @ Z + 1).astype(np.float64)
    slack_P = inverse_PP.sum(axis=1) / inverse_PP.sum()
    projected_PP = inverse_PP - np.outer(slack_P, inverse_PP.sum(axis=0))
    return np.concatenate([(Z * weights_J[:, None]) @ projected_PP.T / 2, slack_P[None]])


def _gain(
    half_JP: NDArray[np.bool_], solver_MP: NDArray[np.float64], counts_I: NDArray[np.float64], complete: bool
) -> NDArray[np.float64]:
    """Return the gain_I of the pairs that were drawn so many times, the last ones.

    The jackknife over draws in closed form: without one draw φ moves by solver · residual / (1 − leverage), and the
    squares of that add up, times I / (I − 1), to its variance. A pair drawn c times is c draws, each of 1/c of its
    weight and leverage. Coalitions that are always there add nothing.

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
