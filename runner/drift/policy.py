"""How sure a verdict has to be: from the false alarms a year that somebody accepts to the level of one window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import comb
from operator import attrgetter

from runner.domain.drift import Level

YEAR = timedelta(days=365)
HALVINGS = 200

_order = attrgetter("order")


@dataclass(frozen=True)
class AlertPolicy:
    """The rule: an alarm is raised when `k` of the last `n` windows are past their level.

    Attributes:
        false_alarms_per_year: how many are accepted while nothing drifts.
        k, n: one window of one is the usual rule; two of three need each window to be less sure.
    """

    false_alarms_per_year: float
    k: int = 1
    n: int = 1

    def level(self, window: timedelta) -> float:
        """Return the level of the test of one window, for windows that follow each other without a gap.

        >>> round(AlertPolicy(87.6).level(timedelta(hours=1)), 6)
        0.01
        >>> round(AlertPolicy(2.61, 2, 3).level(timedelta(hours=1)), 4)
        0.01
        """
        wanted = min(1.0, self.false_alarms_per_year / (YEAR / window))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.rate(middle) <= wanted else (low, middle)
        return low

    def standing(self, before: Sequence[Level], now: Level) -> Level:
        """Return the level that `k` of the last `n` windows have reached; with too few records a window says nothing.

        Args:
            before: what the windows before said by themselves, oldest first.
            now: what this one says.

        >>> str(AlertPolicy(1.0, 2, 3).standing([Level.WARNING, Level.NONE], Level.VIOLATION))
        'warning'
        """
        if now is Level.INSUFFICIENT_DATA or self.n == 1:
            return now
        looked_at = [*before[-(self.n - 1) :], now]
        ranked = sorted((level for level in looked_at if level is not Level.INSUFFICIENT_DATA), key=_order)
        return ranked[-self.k] if len(ranked) >= self.k else Level.NONE

    def rate(self, level: float) -> float:
        """Return the chance that `k` or more of `n` windows are past a level while nothing drifts."""
        return sum(comb(self.n, i) * level**i * (1 - level) ** (self.n - i) for i in range(self.k, self.n + 1))
