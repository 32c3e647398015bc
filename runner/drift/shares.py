"""Shares of the attention: what part of all attribution is a feature's, and how much changed hands.

Array letter: D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def share(values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each feature's part of the total attribution, by absolute value; zeros where all are zero."""
    total = float(abs(values_D).sum())
    return abs(values_D) / total if total > 0 else np.zeros_like(values_D)


def rank(values_D: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return each feature's place in the descending order, from 1; tied features share the better place."""
    larger_D: NDArray[np.intp] = (values_D[:, None] < values_D).sum(axis=1)
    return larger_D + 1


def moved(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much of the attention each feature has gained; what is lost is negative.

    >>> moved(np.array([3.0, 1.0]), np.array([1.0, 1.0])).tolist()
    [-0.25, 0.25]
    """
    return share(now_D) - share(before_D)


def share_moved(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> float:
    """Return the share of the attention that changed hands, in [0, 1]: ½ Σ |gain|.

    It is the total variation distance of the two distributions of attention; nan where one side has none.

    Source: Levin and Peres (2017), "Markov Chains and Mixing Times", proposition 4.2.
    """
    if not (before_D.any() and now_D.any()):
        return float("nan")
    return float(abs(moved(before_D, now_D)).sum() / 2)


def mass(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> float:
    """Return log2 of how many times the attribution of all features together has grown; nan where one side has none.

    >>> mass(np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    -1.0
    """
    before, now = float(abs(before_D).sum()), float(abs(now_D).sum())
    return float(np.log2(now / before)) if before > 0 and now > 0 else float("nan")
