"""Holm's correction: p-values that may be compared with one level, however many tests were made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def holm(p_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the adjusted p-values: the chance of one or more false alarms among all tests is at most the level.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order_D = p_D.argsort(kind="stable")
    factors_D = np.arange(len(p_D), 0, -1)
    adjusted_D = np.empty_like(p_D)
    adjusted_D[order_D] = np.maximum.accumulate(p_D[order_D] * factors_D).clip(max=1)
    return adjusted_D
