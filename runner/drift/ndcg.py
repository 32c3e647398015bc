"""Normalized discounted cumulative gain (nDCG) of the live ranking of features against the reference.

The reference attributions are the gains; the live attributions determine the order: nDCG = DCG / ideal DCG with
DCG = Σ_i gain of the i-th feature / log2(i + 1).

Array letter: D features.

Source: Järvelin and Kekäläinen (2002); the use for attributions follows the SageMaker Clarify monitor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ndcg(reference_D: NDArray[np.float64], live_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nDCG in [0, 1]; features tied in the live order share their mean gain.

    Args:
        reference_D: non-negative gains; one row or many.
        live_D: values that order the features, largest first; one row or many.

    Returns:
        One value per row, nan if all gains are zero.

    >>> float(ndcg(np.array([0.70, 0.50, 0.05]), np.array([0.10, 0.20, 0.70])))
    0.6876396241226223
    """
    reference_D, live_D = np.broadcast_arrays(reference_D, live_D)
    order_D = (-live_D).argsort(axis=-1, kind="stable")
    gains_D, values_D = np.take_along_axis(reference_D, order_D, -1), np.take_along_axis(live_D, order_D, -1)
    return _ratio(_dcg(_shared(gains_D, values_D)), reference_D)


def _shared(gains_D: NDArray[np.float64], values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return gains with the mean gain in place of each run of equal values."""
    first_D = np.ones(values_D.shape, dtype=np.bool_)
    first_D[..., 1:] = values_D[..., 1:] != values_D[..., :-1]
    starts = np.flatnonzero(first_D)
    sizes = np.diff(starts, append=first_D.size)
    shared_D: NDArray[np.float64] = (np.add.reduceat(gains_D.ravel(), starts) / sizes).repeat(sizes)
    return shared_D.reshape(gains_D.shape)


def floor(reference_D: NDArray[np.float64]) -> float:
    """Return the nDCG of the reversed order, the lower bound of all rankings; nan if all gains are zero."""
    return float(_ratio(_dcg(np.sort(reference_D)), reference_D))


def chance(reference_D: NDArray[np.float64]) -> float:
    """Return the mean nDCG over all orders, the expectation of a random ranking; nan if all gains are zero."""
    return float(_ratio(_dcg(np.full_like(reference_D, reference_D.mean())), reference_D))


def _ratio(dcg: NDArray[np.float64], reference_D: NDArray[np.float64]) -> NDArray[np.float64]:
    ideal = _dcg(np.sort(reference_D)[..., ::-1])
    none: NDArray[np.float64] = np.full(ideal.shape, np.nan)
    return np.divide(dcg, ideal, out=none, where=ideal > 0)


def _dcg(gains_D: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((gains_D / np.log2(np.arange(gains_D.shape[-1]) + 2)).sum(axis=-1))
