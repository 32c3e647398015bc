"""Permutation tests of global attributions: pool reference and live records, and divide them at random.

Array letters: N reference records, M live records, K pooled records, D features, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MEANS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"mean_abs": np.abs, "mean_sq": np.square}
"""Aggregations that are means, with the transform of the local values that is averaged."""


class Pair(NamedTuple):
    """Absolute global attributions of both sides."""

    reference: NDArray[np.float64]
    live: NDArray[np.float64]


def observed(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64], agg_method: str) -> Pair:
    """Return the global attributions_D of each side."""
    return Pair(_summary(reference_ND, agg_method), _summary(live_MD, agg_method))


def permuted(
    reference_ND: NDArray[np.float64],
    live_MD: NDArray[np.float64],
    agg_method: str,
    permutations: int,
    rng: np.random.Generator,
) -> Pair:
    """Return the global attributions_PD of each side after P random permutations of the pooled records."""
    N, M = len(reference_ND), len(live_MD)
    pooled_KD = np.concatenate([reference_ND, live_MD])
    aggregate = _means if agg_method in MEANS else _medians
    fewer_PD, more_PD = aggregate(pooled_KD, min(N, M), agg_method, permutations, rng)
    return Pair(fewer_PD, more_PD) if N <= M else Pair(more_PD, fewer_PD)


def p_value(statistic: float, null_P: NDArray[np.float64]) -> float:
    """Return the permutation p-value: the share of statistics, the observed one included, that are at least as large.

    Source: Phipson and Smyth (2010), "Permutation p-values should never be zero".
    """
    return float((1 + (null_P >= statistic).sum()) / (1 + len(null_P)))


def _summary(phi_ND: NDArray[np.float64], agg_method: str) -> NDArray[np.float64]:
    mean_of = MEANS.get(agg_method)
    summary_D: NDArray[np.float64] = abs(np.median(phi_ND, axis=0)) if mean_of is None else mean_of(phi_ND).mean(axis=0)
    return summary_D


def _means(
    pooled_KD: NDArray[np.float64], size: int, agg_method: str, permutations: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means over `size` random records and over the remaining ones."""
    values_KD = MEANS[agg_method](pooled_KD)
    K, D = values_KD.shape
    sums_PD = np.empty((permutations, D))
    for p in range(permutations):
        sums_PD[p] = values_KD[rng.choice(K, size, replace=False, shuffle=False)].sum(axis=0)
    rest_PD = (values_KD.sum(axis=0) - sums_PD).clip(min=0)
    return sums_PD / size, rest_PD / (K - size)


def _medians(
    pooled_KD: NDArray[np.float64], size: int, agg_method: str, permutations: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    K, D = pooled_KD.shape
    fewer_PD, more_PD = np.empty((permutations, D)), np.empty((permutations, D))
    for p in range(permutations):
        chosen_K = np.zeros(K, dtype=bool)
        chosen_K[rng.choice(K, size, replace=False, shuffle=False)] = True
        fewer_PD[p], more_PD[p] = (_summary(pooled_KD[side], agg_method) for side in (chosen_K, ~chosen_K))
    return fewer_PD, more_PD
