"""The alert policy: from an accepted number of false alarms per year to the significance level of one window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import comb
from operator import attrgetter

from runner.domain.drift import Level

YEAR = timedelta(days=365)
HALVINGS = 200
"""Steps of the bisection that solves for the significance level."""

_order = attrgetter("order")


@dataclass(frozen=True)
class AlertPolicy:
    """An alert is raised when `datapoints_to_alert` of the last `evaluation_period` windows reach a level.

    Attributes:
        false_alarms_per_year: expected number of false alarms while nothing drifts.
        datapoints_to_alert: windows that must reach a level.
        evaluation_period: windows considered, the current one included.
    """

    false_alarms_per_year: float
    datapoints_to_alert: int = 1
    evaluation_period: int = 1

    def significance(self, window: timedelta) -> float:
        """Return the significance level of one window, for contiguous windows of this length.

        >>> round(AlertPolicy(87.6).significance(timedelta(hours=1)), 6)
        0.01
        >>> round(AlertPolicy(2.61, 2, 3).significance(timedelta(hours=1)), 4)
        0.01
        """
        accepted = min(1.0, self.false_alarms_per_year / (YEAR / window))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.false_alarm_probability(middle) <= accepted else (low, middle)
        return low

    def status(self, before: Sequence[Level], now: Level) -> Level:
        """Return the highest level that enough windows reach; windows with too few records are ignored.

        Args:
            before: levels of the previous windows alone, oldest first.
            now: level of the current window alone.

        >>> str(AlertPolicy(1.0, 2, 3).status([Level.WARNING, Level.NONE], Level.VIOLATION))
        'warning'
        """
        if now is Level.INSUFFICIENT_DATA or self.evaluation_period == 1:
            return now
        considered = [*before[-(self.evaluation_period - 1) :], now]
        ranked = sorted((level for level in considered if level is not Level.INSUFFICIENT_DATA), key=_order)
        return ranked[-self.datapoints_to_alert] if len(ranked) >= self.datapoints_to_alert else Level.NONE

    def false_alarm_probability(self, significance: float) -> float:
        """Return the probability that enough windows exceed a significance level by chance (binomial tail)."""
        n = self.evaluation_period
        return sum(
            comb(n, i) * significance**i * (1 - significance) ** (n - i) for i in range(self.datapoints_to_alert, n + 1)
        )
