"""How sure a verdict has to be: from the false alarms a year that somebody accepts to the level of one window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import comb

YEAR = timedelta(days=365)
HALVINGS = 200


@dataclass(frozen=True)
class Alarm:
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

        >>> round(Alarm(87.6).level(timedelta(hours=1)), 6), round(Alarm(2.61, 2, 3).level(timedelta(hours=1)), 4)
        (0.01, 0.01)
        """
        wanted = min(1.0, self.false_alarms_per_year / (YEAR / window))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.rate(middle) <= wanted else (low, middle)
        return low

    def rate(self, level: float) -> float:
        """Return the chance that `k` or more of `n` windows are past a level while nothing drifts."""
        return sum(comb(self.n, i) * level**i * (1 - level) ** (self.n - i) for i in range(self.k, self.n + 1))
