"""Coalitions, pairs of a coalition and its complement, and the values of a game for such pairs.

Shapley values depend only on differences v(S) − v(complement of S), so kernel SHAP evaluates coalitions in pairs. A
pair is represented by its smaller coalition; if both have half of the players, by the one with the first player.

The grand coalition contains all players, the empty coalition none.

Array letters: N records, L labels, R = N·L games of one label each, P players, J pairs, K = 2·J + 2 coalitions (one of
each pair, their complements, the grand and the empty coalition), M = J + 1 differences (one of each pair, and that of
the grand and the empty coalition).
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.errors import ExplainerError
from runner.protocols import Game

SPARSE = 4
"""Ratio of all pairs of a size to the pairs to draw; above it, pairs are drawn without enumerating all of them."""


def all_coalitions(players: int) -> NDArray[np.bool_]:
    """Return all coalitions of P players as masks_KP, K = 2^P; bit p of the row index is the membership of player p."""
    masks_KP: NDArray[np.bool_] = (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1
    return masks_KP


def pairs_of_size(players: int, size: int) -> NDArray[np.bool_]:
    """Return half_JP: all pairs whose smaller coalition has `size` players."""
    members = np.array(list(combinations(range(players), size)))
    half_JP = np.zeros((len(members), players), dtype=np.bool_)
    half_JP[np.arange(len(members))[:, None], members] = True
    return half_JP[half_JP[:, 0]] if 2 * size == players else half_JP


def number_of_pairs(players: int, size: int) -> int:
    """Return the number of pairs that `pairs_of_size` returns.

    >>> number_of_pairs(4, 1), number_of_pairs(4, 2)
    (4, 3)
    """
    return comb(players, size) // (2 if 2 * size == players else 1)


def draw_pairs(players: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return `count` distinct pairs as half_JP: first the P singletons, then equal numbers of every other size.

    A size with fewer pairs than its quota is included completely, and the rest of its quota goes to the other sizes.
    """
    parts = [pairs_of_size(players, 1)]
    remaining = count - len(parts[0])
    sizes = sorted(range(2, players // 2 + 1), key=lambda size: number_of_pairs(players, size))
    for i, size in enumerate(sizes):
        quota = min(remaining // (len(sizes) - i), number_of_pairs(players, size))
        parts.append(_draw_pairs_of_size(players, size, quota, rng))
        remaining -= quota
    return np.concatenate(parts)


def _draw_pairs_of_size(players: int, size: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    if number_of_pairs(players, size) <= SPARSE * count:
        enumerated_JP = pairs_of_size(players, size)
        return enumerated_JP[rng.permutation(len(enumerated_JP))[:count]]
    drawn: dict[bytes, None] = {}
    while len(drawn) < count:
        random_KP = rng.random((2 * count, players))
        masks_KP = random_KP < np.sort(random_KP, axis=1)[:, size : size + 1]
        if 2 * size == players:
            masks_KP = with_first_player(masks_KP)
        drawn |= dict.fromkeys(mask_P.tobytes() for mask_P in masks_KP)
    return np.frombuffer(b"".join(list(drawn)[:count]), dtype=np.bool_).reshape(count, players)


def with_first_player(masks_KP: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return each coalition or its complement, whichever contains the first player."""
    return np.where(masks_KP[:, :1], masks_KP, ~masks_KP)


class UniqueCoalitions(NamedTuple):
    """Coalitions without duplicates.

    Attributes:
        masks_kP: the k unique coalitions, without the grand and the empty coalition.
        index_K: index of each of the K original coalitions in `masks_kP`; −2 for the grand, −1 for the empty
            coalition.
    """

    masks_kP: NDArray[np.bool_]
    index_K: NDArray[np.intp]


def unique_coalitions(masks_KP: NDArray[np.bool_], varying: int) -> UniqueCoalitions:
    """Merge coalitions that have the same members among the first `varying` players."""
    keys = np.ascontiguousarray(masks_KP[:, :varying]).view(f"S{varying}")[:, 0].tolist()
    index_of = {b"\1" * varying: -2, b"": -1}
    index_K = np.array([index_of.setdefault(key, len(index_of) - 2) for key in keys], dtype=np.intp)
    indices, first = np.unique(index_K, return_index=True)
    return UniqueCoalitions(masks_KP[first[indices >= 0]], index_K)


def coalition_budget(num_samples: int | None, players: int, limit: int) -> int:
    """Return the number of coalitions per record: even, at most `limit` and at most 2^P − 2.

    Args:
        num_samples: requested number; None for min(2·P + 2^11, 2^P − 2).
        players: P.
        limit: maximum number that fits into memory.

    Raises:
        ExplainerError: if the requested number is too small or too large.
    """
    available = int(2**players - 2)
    least = min(2 * players, available)
    if least > limit:
        raise ExplainerError(
            f"a record has {players:,} features that differ from the baseline, but coalitions can be sampled for at "
            f"most {limit // 2:,}; use shap.groups"
        )
    requested = min(2 * players + 2**11, limit) if num_samples is None else num_samples
    if requested < least:
        raise ExplainerError(
            f"shap.num_samples={requested} is too small for {players} attributions: use at least {least}"
        )
    coalitions = min(requested, available) // 2 * 2
    if coalitions > limit:
        raise ExplainerError(
            f"shap.num_samples={requested} needs too much memory for {players} features: use at most {limit // 2 * 2}"
        )
    return coalitions


def with_complements(half_JP: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return masks_KP: the J coalitions, their complements, the grand and the empty coalition."""
    ends = np.array([[True], [False]]).repeat(half_JP.shape[1], axis=1)
    return np.concatenate([half_JP, ~half_JP, ends])


def evaluate(game: Game, half_JP: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return values_RK; the values of the grand and the empty coalition are known without model calls."""
    N, L = game.scores_NL.shape
    values_NKL = np.empty((N, 2 * len(half_JP) + 2, L))
    values_NKL[:, :-2] = game.value(with_complements(half_JP)[:-2])
    values_NKL[:, -2], values_NKL[:, -1] = game.scores_NL, game.expected_L
    return np.ascontiguousarray(values_NKL.transpose(0, 2, 1)).reshape(N * L, -1)


def evaluate_differences(game: Game, half_JP: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return `differences(evaluate(…))` without a copy of all values."""
    values_NLK = game.value(with_complements(half_JP)[:-2]).transpose(0, 2, 1)
    differences_NLM = _differences(values_NLK, game.scores_NL, game.expected_L)
    return differences_NLM.reshape(-1, differences_NLM.shape[-1])


def differences(values_RK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return v(S) − v(complement of S) as differences_RM; the last one is v(all players) − v(empty)."""
    return _differences(values_RK[:, :-2], values_RK[:, -2], values_RK[:, -1])


def _differences(
    values_XK: NDArray[np.float64], all_X: NDArray[np.float64], empty_X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return differences_XM; `values_XK` contains J coalitions, then their J complements."""
    J = values_XK.shape[-1] // 2
    differences_XM = np.empty((*values_XK.shape[:-1], J + 1))
    np.subtract(values_XK[..., :J], values_XK[..., J:], out=differences_XM[..., :J])
    np.subtract(all_X, empty_X, out=differences_XM[..., J])
    return differences_XM


def rowwise_matmul(rows_RM: NDArray[np.float64], matrix_MP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows_RM @ matrix_MP; rows are multiplied separately, so that their bits do not depend on other rows."""
    product: NDArray[np.float64] = np.matmul(rows_RM[:, None, :], matrix_MP)[:, 0, :]
    return product


def by_record(rows_RP: NDArray[np.float64], labels: int) -> NDArray[np.float64]:
    """Return the values of R games as values_NPL of N records."""
    return rows_RP.reshape(-1, labels, rows_RP.shape[1]).transpose(0, 2, 1)
