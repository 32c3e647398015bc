"""Rates of alarms: their intervals, their comparison with a promise, and episodes of consecutive alarms.

Array letters: B references.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
CHANCE = 1e-3
"""Probability with which a correct promise counts as broken."""


def interval(count: float, trials: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a probability; trials that depend on each other have a smaller, real number.

    >>> [round(end, 4) for end in interval(10, 1000)]
    [0.0048, 0.0183]

    Source: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the
    binomial"; Korn and Graubard (1998) for effective numbers of trials.
    """
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, count, trials - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, trials - count)) if count < trials else 1.0
    return low, high


def events_interval(count: int, exposure: float) -> tuple[float, float]:
    """Return the exact 95 % interval of the number of events per unit of exposure, such as alarms per year.

    >>> [round(end, 3) for end in events_interval(20, 20)]
    [0.611, 1.544]

    Source: Garwood (1936), "Fiducial limits for the Poisson distribution".
    """
    from scipy.stats import chi2

    tail = (1 - CONFIDENCE) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low / exposure, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2 / exposure


def alarm_limit(windows: int, level: float) -> int:
    """Return the smallest number of alarms that has a probability of at most `CHANCE` if the level is correct."""
    from scipy.stats import binom

    return int(binom.isf(CHANCE, windows, level)) + 1


def effective_trials(counted_B: NDArray[np.intp], size: int) -> float:
    """Return the number of independent windows that estimate a rate as well as the windows of B references do.

    Windows with the same reference depend on each other. Their number is divided by the design effect, the ratio of the
    variance between references to that of independent windows.

    Args:
        counted_B: number of alarms with each reference.
        size: number of windows with each reference.

    Source: Kish (1965), "Survey Sampling", section 5.4, for the design effect.
    """
    rate = float(counted_B.sum()) / (size * len(counted_B))
    independent = size * rate * (1 - rate)
    effect = max(1.0, float(counted_B.var()) / independent) if independent > 0 and size > 1 else 1.0
    return max(1.0, size * len(counted_B) / effect)


def within(counted_B: NDArray[np.intp], size: int, promised: float) -> bool:
    """Return whether the alarms of B references are not significantly more than promised."""
    rate = float(counted_B.sum()) / (size * len(counted_B))
    effective = round(effective_trials(counted_B, size))
    return rate * effective < alarm_limit(effective, promised)


def episodes(alarmed: Iterable[bool | None]) -> list[tuple[int, int]]:
    """Return the first and the last window of each episode of alarms; windows without a verdict (None) do not end one.

    >>> episodes([True, None, True, False, None, True])
    [(0, 2), (5, 5)]
    """
    found: list[tuple[int, int]] = []
    open_ = False
    for window, alarm in enumerate(alarmed):
        if alarm and open_:
            found[-1] = found[-1][0], window
        elif alarm:
            found.append((window, window))
        open_ = open_ if alarm is None else alarm
    return found
