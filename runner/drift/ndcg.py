"""The normalised discounted cumulative gain of one ranking of features against another.

Gains are the reference attributions; the live ones supply only the order: nDCG = DCG / ideal DCG with
DCG = Σ_i gain of the i-th feature / log2(i + 1).

Array letter: D features.

Source: Järvelin and Kekäläinen (2002); the use for attributions follows the SageMaker Clarify monitor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ndcg(reference_D: NDArray[np.float64], live_D: NDArray[np.float64]) -> float:
    """Return the nDCG in [0, 1]; features tied in the live order share the mean gain of their places.

    Args:
        reference_D: gains, none negative.
        live_D: what orders the features, largest first.

    Returns:
        nan where all gains are zero.

    >>> ndcg(np.array([0.70, 0.50, 0.05]), np.array([0.10, 0.20, 0.70]))
    0.6876396241226223
    """
    _, group_D, size = np.unique(-live_D, return_inverse=True, return_counts=True)
    shared_D = np.bincount(group_D, weights=reference_D) / size
    return _ratio(_dcg(np.repeat(shared_D, size)), reference_D)


def floor(reference_D: NDArray[np.float64]) -> float:
    """Return the nDCG of the reversed order: no live ranking can fall below it; nan where all gains are zero."""
    return _ratio(_dcg(np.sort(reference_D)), reference_D)


def chance(reference_D: NDArray[np.float64]) -> float:
    """Return the mean nDCG of all orders, what a ranking without any relation reaches; nan where all gains are zero."""
    return _ratio(_dcg(np.full_like(reference_D, reference_D.mean())), reference_D)


def _ratio(dcg: float, reference_D: NDArray[np.float64]) -> float:
    ideal = _dcg(np.sort(reference_D)[::-1])
    return dcg / ideal if ideal > 0 else float("nan")


def _dcg(gains_D: NDArray[np.float64]) -> float:
    return float((gains_D / np.log2(np.arange(len(gains_D)) + 2)).sum())
