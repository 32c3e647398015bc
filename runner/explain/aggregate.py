"""Local φ → one value per feature and label.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from math import fsum

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, GlobalAttributions


class Aggregation(StrEnum):
    """The ways SageMaker Clarify summarises local SHAP values (`agg_method`)."""

    MEAN_ABS = "mean_abs"
    MEDIAN = "median"
    MEAN_SQ = "mean_sq"


def aggregate(attributions: Attributions, method: Aggregation) -> GlobalAttributions:
    """Return the global attributions; the median is that of signed values and can be negative.

    Sums are exact before they are rounded once, so the records' order does not matter to the last bit.
    """
    summary: dict[Aggregation, Callable[[NDArray[np.float64]], float]] = {
        Aggregation.MEAN_ABS: lambda phi_N: _mean(abs(phi_N)),
        Aggregation.MEDIAN: lambda phi_N: float(np.median(phi_N)),
        Aggregation.MEAN_SQ: lambda phi_N: _mean(phi_N**2),
    }
    _, D, L = attributions.phi_NDL.shape
    values_DL = np.array([[summary[method](attributions.phi_NDL[:, d, i]) for i in range(L)] for d in range(D)])
    return GlobalAttributions(attributions.names, attributions.labels, values_DL, attributions.expected_L)


def _mean(values: NDArray[np.float64]) -> float:
    numbers: Iterable[float] = values.tolist()
    return fsum(numbers) / len(values)
