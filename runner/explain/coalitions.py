"""Which coalitions kernel SHAP asks for, and the weighted least squares that turn their values into φ.

Array letters: N records, L labels, P players, K coalitions, J = K / 2 pairs of a coalition and its complement, or those
of them that were drawn, G designs.

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
    """G alternative sets of J coalitions and their complements, each with its solver.

    A coalition and its complement weigh the same, so of their values only the difference matters:
    `phi = solver @ (value(coalition) − value(complement)) + slack · total`.

    Attributes:
        masks_GKP: the J coalitions of each design, followed by their complements.
        solver_GPJ, slack_GP: the constrained weighted least squares as matrices; Σ solver = 0 and Σ slack = 1 over
            P, so that efficiency holds whatever the values are.
        gain_GJ: of the pairs that were drawn, which are the last ones: from a residual to how much φ would move
            without one draw. Empty where every coalition is there, nan where fewer than two were drawn.
    """

    masks_GKP: NDArray[np.bool_]
    solver_GPJ: NDArray[np.float64]
    slack_GP: NDArray[np.float64]
    gain_GJ: NDArray[np.float64]

    def residual(
        self, difference_NJL: NDArray[np.float64], phi_NPL: NDArray[np.float64], design_N: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return what φ leaves unexplained of the values of the drawn pairs, times their gain, as residual_NJL."""
        J = self.masks_GKP.shape[1] // 2
        inside_NJP = self.masks_GKP[design_N, J - self.gain_GJ.shape[1] : J].astype(np.float64)
        explained_NJL = 2 * (inside_NJP @ phi_NPL) - phi_NPL.sum(axis=1, keepdims=True)
        residual_NJL: NDArray[np.float64] = (difference_NJL - explained_NJL) * self.gain_GJ[design_N][:, :, None]
        return residual_NJL


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


@lru_cache(maxsize=16)
def kernel_designs(players: int, budget: int, designs: int, seed: int) -> Designs:
    """Return designs of at most `budget` coalitions: whole size classes while they fit, then drawn pairs.

    Sizes s and P-s are enumerated together, from the outside in. The rest of the budget is drawn in pairs of a
    coalition and its complement, the size by its weight, the members uniformly; a pair drawn again weighs more.
    """
    weights = size_weights(players)
    whole, whole_weights = [np.zeros((0, players), dtype=np.bool_)], [np.zeros(0)]
    pairs, size = budget // 2, 1
    while 2 * size <= players and len(members := _pairs_of_size(players, size)) <= pairs:
        whole.append(members)
        whole_weights.append(np.full(len(members), weights[size] / comb(players, size)))
        pairs, size = pairs - len(members), size + 1
    half_GJP, weights_GJ = np.concatenate(whole)[None], np.concatenate(whole_weights)[None]
    counts_GJ = np.ones((1, int(2 * size <= players)))
    if pairs and 2 * size <= players:
        drawn_GJP, counts_GJ = _draw_pairs(players, size, pairs, designs, np.random.default_rng([seed, players]))
        drawn_weights_GJ = counts_GJ / counts_GJ.sum(axis=1, keepdims=True) * (0.5 - weights_GJ.sum())
        half_GJP = np.concatenate([half_GJP.repeat(designs, axis=0), drawn_GJP], axis=1)
        weights_GJ = np.concatenate([weights_GJ.repeat(designs, axis=0), drawn_weights_GJ], axis=1)
    solver_GPJ, slack_GP = _solve(half_GJP, weights_GJ)
    gain_GJ = _gain(half_GJP, solver_GPJ, counts_GJ)
    return Designs(np.concatenate([half_GJP, ~half_GJP], axis=1), solver_GPJ, slack_GP, gain_GJ)


def _pairs_of_size(players: int, size: int) -> NDArray[np.bool_]:
    """Return the coalitions of a size, at half of the players only those with the first player in them."""
    chosen = np.array(list(combinations(range(players), size)))
    masks_JP = np.zeros((len(chosen), players), dtype=np.bool_)
    np.put_along_axis(masks_JP, chosen, True, axis=1)
    return masks_JP[masks_JP[:, 0]] if 2 * size == players else masks_JP


def _draw_pairs(
    players: int, size: int, pairs: int, designs: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return drawn_GJP, J = `pairs` distinct ones a design, and how often each was drawn until there were that many.

    A pair is known by the smaller of its coalitions, or by the one with the first player in it.
    """
    sizes = np.arange(size, players // 2 + 1)
    chance = size_weights(players)[sizes] * np.where(2 * sizes == players, 1, 2)
    tallies: list[dict[bytes, int]] = [{} for _ in range(designs)]
    while waiting := [tally for tally in tallies if len(tally) < pairs]:
        shape = (len(waiting), pairs + pairs // 4 + 4)
        drawn = rng.choice(sizes, shape, p=chance / chance.sum())[..., None]
        luck = rng.random((*shape, players))
        masks = luck < np.take_along_axis(np.sort(luck), drawn, axis=-1)
        masks ^= (2 * drawn == players) & ~masks[..., :1]
        packed = np.packbits(masks, axis=-1)
        keys = packed.view(f"V{packed.shape[-1]}")[..., 0].tolist()
        for tally, drawn_keys in zip(waiting, keys, strict=True):
            _count(tally, drawn_keys, pairs)
    packed = np.frombuffer(b"".join(key for tally in tallies for key in tally), dtype=np.uint8)
    drawn_GJP = np.unpackbits(packed.reshape(designs, pairs, -1), axis=-1, count=players).astype(np.bool_)
    return drawn_GJP, np.array([list(tally.values()) for tally in tallies], dtype=np.float64)


def _count(tally: dict[bytes, int], keys: list[bytes], distinct: int) -> None:
    """Add keys to a tally until it has `distinct` different ones."""
    for key in keys:
        if len(tally) == distinct:
            return
        tally[key] = tally.get(key, 0) + 1


def _solve(
    half_GJP: NDArray[np.bool_], weights_GJ: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (solver_GPJ, slack_GP) of min Σ w (d/2 − Zφ)² subject to Σφ = total.

    Z holds ½ for a member and −½ for an outsider, d is the difference of the values of a pair. With M = Z'WZ + 11'
    (the constraint makes any multiple of 11' harmless) and c = 1'M⁻¹1:
    φ = M⁻¹(I − 11'M⁻¹/c) Z'W d/2 + M⁻¹1/c · total.
    """
    Z = half_GJP - 0.5
    weighted_GPJ = Z.transpose(0, 2, 1) * weights_GJ[:, None, :]
    inverse_GPP = np.linalg.inv(weighted_GPJ @ Z + 1).astype(np.float64)
    slack_GP = inverse_GPP.sum(axis=2) / inverse_GPP.sum(axis=(1, 2))[:, None]
    projected_GPP = inverse_GPP - slack_GP[:, :, None] * inverse_GPP.sum(axis=1)[:, None, :]
    return projected_GPP @ weighted_GPJ / 2, slack_GP


def _gain(
    half_GJP: NDArray[np.bool_], solver_GPJ: NDArray[np.float64], counts_GJ: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the gain_GJ of pairs that were drawn so many times, the last ones of each design.

    The jackknife over draws in closed form: without one draw φ moves by solver · residual / (1 − leverage), and the
    squares of that add up, times J / (J − 1), to its variance. A pair drawn c times is c draws, each of 1/c of its
    weight and leverage. Coalitions that are always there add nothing.

    Source: MacKinnon and White (Journal of Econometrics 1985), HC3.
    """
    J = counts_GJ.shape[1]
    if J == 1:
        return np.full(counts_GJ.shape, np.nan)
    drawn = slice(half_GJP.shape[1] - J, None)
    signs_GJP = 2.0 * half_GJP[:, drawn] - 1
    leverage_GJ = np.einsum("gjp,gpj->gj", signs_GJP, solver_GPJ[:, :, drawn])
    gain_GJ: NDArray[np.float64] = np.sqrt(J / max(J - 1, 1) / counts_GJ) / (1 - leverage_GJ / counts_GJ)
    return gain_GJ
