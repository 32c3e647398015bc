"""How far estimated attributions may be from the exact ones.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Errors
from runner.explain.aggregate import Aggregation
from runner.explain.masking import slices

CHUNK = 2**14
"""Records that are looked at together, to bound the memory."""
LEAST_EXPONENT = -50.0
"""Below it exp is nothing beside 1, and slow where it underflows."""
COMMON = 0.15
"""The share of the standard errors that records have in common, so that it does not vanish with their number."""


def errors(
    phi_NDL: NDArray[np.float64], error_NDL: NDArray[np.float64], counts_N: NDArray[np.float64], method: Aggregation
) -> Errors:
    """Return the standard errors of all attributions together, and of their summary.

    The exact local value lies within ±1.96 of its standard error in 90 to 95 % of the cases (measured with 100 to 1,000
    samples of 14 and 30 features). The standard error of a global value covers the exact one about as often or more so.
    It is the root of the squares of three parts: of the noise that is left in the mean over the records; of what their
    errors have in common (measured: a twentieth to a sixth of them); and of the lift, by which noise raises a mean of
    sizes or squares however many records there are. For a median no error is known.

    Args:
        phi_NDL: attributions of different records.
        error_NDL: their standard errors.
        counts_N: how often each record occurs.
        method: of the summary.
    """
    D, L = phi_NDL.shape[1:]
    squares_DL, own_DL, common_DL, lift_DL = np.zeros((4, D, L))
    for some in slices(len(phi_NDL), CHUNK):
        weight_N, error = counts_N[some], error_NDL[some]
        slope, lift = _summary(phi_NDL[some], error, method)
        moves = abs(slope * error)
        squares_DL += _weighed(weight_N, error**2)
        own_DL += _weighed(weight_N**2, moves**2)
        common_DL += COMMON * _weighed(weight_N, moves)
        lift_DL += _weighed(weight_N, lift)
    records = counts_N.sum()
    local_L = np.sqrt(squares_DL.sum(axis=0) / (records * D))
    return Errors(local_L, np.sqrt(own_DL + common_DL**2 + lift_DL**2) / records)


def _weighed(weight_N: NDArray[np.float64], parts_NDL: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("n,ndl->dl", weight_N, parts_NDL))


def _summary(
    phi_NDL: NDArray[np.float64], error_NDL: NDArray[np.float64], method: Aggregation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how fast each value changes its part of the sum over records, and how far noise lifts that part.

    Noise of standard error s lifts φ² by s². It lifts |φ| by 0.80 s at φ = 0, less elsewhere; as φ itself is not known,
    what is returned has this mean at 0, and one that is no less than the lift elsewhere.
    """
    match method:
        case Aggregation.MEAN_SQ:
            return 2 * phi_NDL, error_NDL**2
        case Aggregation.MEAN_ABS:
            ratio_NDL = np.divide(phi_NDL, error_NDL, out=np.zeros_like(phi_NDL), where=error_NDL > 0)
            return np.sign(phi_NDL), 2 / sqrt(pi) * error_NDL * np.exp(np.maximum(ratio_NDL**2 / -2, LEAST_EXPONENT))
        case Aggregation.MEDIAN:
            unknown_NDL = np.where(error_NDL > 0, np.nan, 0)
            return unknown_NDL, unknown_NDL
