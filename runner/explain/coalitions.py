"""Which coalitions kernel SHAP asks for, and the weighted least squares that turn their values into φ.

Array letters: P players, K coalitions, G designs.

Source: the sampling that reproduces the published SageMaker Clarify analyses to within their run-to-run noise; the
weights are Lundberg and Lee's Shapley kernel (NeurIPS 2017), (P-1) / (s (P-s)) for all coalitions of size s together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Designs:
    """G alternative sets of K coalitions, each with its solver: `phi = solver @ (value − expected) + slack · total`.

    Attributes:
        masks_GKP: the coalitions.
        solver_GPK, slack_GP: the constrained weighted least squares as matrices; Σ solver = 0 and Σ slack = 1 over
            P, so that efficiency holds whatever the values are.
    """

    masks_GKP: NDArray[np.bool_]
    solver_GPK: NDArray[np.float64]
    slack_GP: NDArray[np.float64]


def every(players: int) -> NDArray[np.bool_]:
    """Return all coalitions of P players as masks_KP, K = 2^P; bit p of the row's number says whether p is in it."""
    masks_KP: NDArray[np.bool_] = (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1
    return masks_KP


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


@lru_cache(maxsize=128)
def kernel_designs(players: int, budget: int, designs: int, seed: int) -> Designs:
    """Return designs of at most `budget` coalitions: whole size classes while they fit, then complementary pairs.

    Sizes s and P-s are enumerated together, from the outside in. The rest of the budget is drawn in pairs of a
    coalition and its complement, the size by its weight, the members uniformly; a pair drawn again weighs more.
    """
    weights = size_weights(players)
    whole: list[NDArray[np.bool_]] = []
    whole_weights: list[NDArray[np.float64]] = []
    left, size = budget, 1
    while size <= players - size and left >= (count := _class_count(players, size)):
        members = _of_size(players, size)
        whole += [members] if 2 * size == players else [members, ~members]
        whole_weights += [np.full(count, weights[size] / comb(players, size))]
        left, size = left - count, size + 1
    masks_KP, weights_K = _stack(whole, whole_weights, players)
    if size > players - size or left < 2:
        masks_GKP, weights_GK = masks_KP[None], weights_K[None]
    else:
        masks_GKP, weights_GK = _with_pairs(masks_KP, weights_K, size, left // 2, designs, seed)
    return Designs(masks_GKP, *_solve(masks_GKP, weights_GK))


def _class_count(players: int, size: int) -> int:
    return comb(players, size) * (1 if 2 * size == players else 2)


def _of_size(players: int, size: int) -> NDArray[np.bool_]:
    chosen = np.array(list(combinations(range(players), size)))
    masks_KP = np.zeros((len(chosen), players), dtype=np.bool_)
    np.put_along_axis(masks_KP, chosen, True, axis=1)
    return masks_KP


def _stack(
    masks: list[NDArray[np.bool_]], weights: list[NDArray[np.float64]], players: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    empty = np.zeros((0, players), dtype=np.bool_)
    return np.concatenate([empty, *masks]), np.concatenate([np.zeros(0), *weights])


def _with_pairs(
    whole_KP: NDArray[np.bool_], whole_weights_K: NDArray[np.float64], size: int, pairs: int, designs: int, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the whole classes with `pairs` distinct drawn pairs appended to each design, and their weights."""
    players = whole_KP.shape[1]
    share = 1 - whole_weights_K.sum()
    drawn = _draw_pairs(players, size, pairs, designs, np.random.default_rng([seed, players]))
    masks, weights = [], []
    for counts in drawn:
        pair_KP = np.array([np.frombuffer(key, dtype=np.bool_) for key in counts])
        pair_weights = np.array(list(counts.values())) / counts.total() * share / 2
        masks.append(np.concatenate([whole_KP, pair_KP, ~pair_KP]))
        weights.append(np.concatenate([whole_weights_K, pair_weights, pair_weights]))
    return np.stack(masks), np.stack(weights)


def _draw_pairs(players: int, size: int, pairs: int, designs: int, rng: np.random.Generator) -> list[Tally]:
    """Return, per design, how often each of `pairs` distinct pairs was drawn until there were that many."""
    sizes = np.arange(size, players // 2 + 1)
    chance = size_weights(players)[sizes] * np.where(2 * sizes == players, 1, 2)
    tallies = [Tally() for _ in range(designs)]
    while waiting := [tally for tally in tallies if len(tally) < pairs]:
        shape = (len(waiting), pairs + pairs // 4 + 4)
        drawn = rng.choice(sizes, shape, p=chance / chance.sum())
        rank = rng.random((*shape, players)).argsort(-1).argsort(-1)
        masks = rank < drawn[..., None]
        masks ^= (2 * drawn == players)[..., None] & ~masks[..., :1]
        for tally, mask_KP in zip(waiting, masks, strict=True):
            tally.fill(mask_KP, pairs)
    return tallies


class Tally(dict[bytes, int]):
    """Counts of drawn pairs, each known by the bytes of one of its two masks."""

    def fill(self, masks_KP: NDArray[np.bool_], distinct: int) -> None:
        """Count draws until there are `distinct` different ones."""
        for mask in masks_KP:
            if len(self) == distinct:
                return
            key = mask.tobytes()
            self[key] = self.get(key, 0) + 1

    def total(self) -> int:
        """Return the number of draws."""
        return sum(self.values())


def _solve(
    masks_GKP: NDArray[np.bool_], weights_GK: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (solver_GPK, slack_GP) of min Σ w (y − Zφ)² subject to Σφ = total.

    With M = Z'WZ and c = 1'M⁻¹1: φ = M⁻¹(I − 11'M⁻¹/c) Z'W y + M⁻¹1/c · total.
    """
    Z = masks_GKP.astype(np.float64)
    weighted_GPK = Z.transpose(0, 2, 1) * weights_GK[:, None, :]
    inverse_GPP = np.linalg.inv(weighted_GPK @ Z).astype(np.float64)
    free_GPK = inverse_GPP @ weighted_GPK
    slack_GP = inverse_GPP.sum(axis=2) / inverse_GPP.sum(axis=(1, 2))[:, None]
    return free_GPK - slack_GP[:, :, None] * free_GPK.sum(axis=1, keepdims=True), slack_GP
