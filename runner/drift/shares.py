"""Attribution shares: each feature's part of the total attribution, and how far the shares shifted.

Array letter: D features, on the last axis; functions apply to each row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def share(values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each feature's part of the total attribution, by absolute value; zeros where all are zero."""
    sizes_D: NDArray[np.float64] = abs(values_D)
    total: NDArray[np.float64] = sizes_D.sum(axis=-1, keepdims=True)
    return np.divide(sizes_D, total, out=np.zeros(sizes_D.shape), where=total > 0)


def rank(values_D: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return each feature's rank in descending order, from 1; tied features share the better rank."""
    larger_D: NDArray[np.intp] = (values_D[:, None] < values_D).sum(axis=1)
    return larger_D + 1


def share_change(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the change of each feature's attribution share.

    >>> share_change(np.array([3.0, 1.0]), np.array([1.0, 1.0])).tolist()
    [-0.25, 0.25]
    """
    return share(now_D) - share(before_D)


def attribution_shift(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the total variation distance between the two distributions of shares, ½ Σ |change|, in [0, 1].

    The result is nan if all attributions of one side are zero.

    Source: Levin and Peres (2017), "Markov Chains and Mixing Times", proposition 4.2.
    """
    known = before_D.any(axis=-1) & now_D.any(axis=-1)
    return np.where(known, abs(share_change(before_D, now_D)).sum(axis=-1) / 2, np.nan)


def total_log2_change(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log2 fold change of the total attribution; nan if all attributions of one side are zero.

    >>> float(total_log2_change(np.array([1.0, 1.0]), np.array([0.5, 0.5])))
    -1.0
    """
    before, now = abs(before_D).sum(axis=-1), abs(now_D).sum(axis=-1)
    known = (before > 0) & (now > 0)
    growth: NDArray[np.float64] = np.divide(now, before, out=np.full(known.shape, np.nan), where=known)
    return np.log2(growth)
