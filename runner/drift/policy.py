"""The settings of `drift`, and the alert policy, which limits the number of false alarms per year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import comb
from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from runner.domain.drift import Level
from runner.domain.numbers import Finite, Integer, Seed

YEAR = timedelta(days=365)
HALVINGS = 200
"""Steps of the bisection that solves for the significance level."""

_order = attrgetter("order")


@dataclass(frozen=True)
class AlertPolicy:
    """Rule that raises an alert if `datapoints_to_alert` of the last `evaluation_period` windows reach a level.

    Attributes:
        false_alarms_per_year: accepted mean number of false alarms per year without drift.
        datapoints_to_alert: number of windows that must reach a level.
        evaluation_period: number of windows considered, including the current one.
    """

    false_alarms_per_year: Annotated[Finite, Gt(0), Le(1e6)]
    datapoints_to_alert: Annotated[Integer, Ge(1), Le(48)] = 1
    evaluation_period: Annotated[Integer, Ge(1), Le(48)] = 1

    def significance(self, window: timedelta) -> float:
        """Return the significance level of one window that gives the accepted number of false alarms.

        Windows of this length follow each other without gaps.

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
        """Return the probability that chance alone makes `datapoints_to_alert` windows significant (binomial tail).

        Args:
            significance: significance level of one window.
        """
        n = self.evaluation_period
        return sum(
            comb(n, i) * significance**i * (1 - significance) ** (n - i) for i in range(self.datapoints_to_alert, n + 1)
        )


@dataclass(frozen=True, kw_only=True)
class DriftPolicy(AlertPolicy):
    """`drift`: thresholds and tests that assign a level to a window.

    Attributes:
        threshold: nDCG below which the ranking of a label is a violation.
        min_rows: minimum number of reference records, and of records in a window; with fewer, no test is run.
        material, severe: smallest attribution shift of a warning and of a violation, if the change is significant.
        material_mass, severe_mass: smallest absolute log2 fold change of the total attribution for the same levels.
        permutations: number of random permutations that effects are compared with.
        segment_by: feature or SQL expression that divides records into segments; None for no segments.
        classifier: whether a classifier on all attributions also tests for joint changes.
        unit: unit of observation; `event` draws one random record of each event.
        reference_rows: maximum number of reference records that baselining stores.
        canary_rows: number of stored records that each execution explains again; 0 for none.
        seed: seed of the reference sample and of the permutations.
    """

    threshold: Annotated[Finite, Gt(0), Le(1)]
    min_rows: Annotated[Integer, Ge(2), Le(1_000_000)]
    material: Annotated[Finite, Ge(0), Le(1)]
    severe: Annotated[Finite, Ge(0), Le(1)]
    material_mass: Annotated[Finite, Gt(0), Le(100)]
    severe_mass: Annotated[Finite, Gt(0), Le(100)]
    permutations: Annotated[Integer, Ge(99), Le(100_000)]
    segment_by: Annotated[str, MinLen(1)] | None
    classifier: bool
    unit: Literal["record", "event"]
    reference_rows: Annotated[Integer, Ge(500), Le(100_000)]
    canary_rows: Annotated[Integer, Ge(0), Le(10_000)]
    seed: Seed

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the order of limits.

        Raises:
            ValueError: if a limit for a violation is below that for a warning, or if `datapoints_to_alert` exceeds
                `evaluation_period`.
        """
        if self.severe < self.material:
            raise ValueError(f"severe: {self.severe:g} is less than drift.material={self.material:g}")
        if self.datapoints_to_alert > self.evaluation_period:
            most = f"drift.evaluation_period={self.evaluation_period}"
            raise ValueError(f"datapoints_to_alert: {self.datapoints_to_alert} windows are more than {most}")
        if self.severe_mass < self.material_mass:
            raise ValueError(
                f"severe_mass: {self.severe_mass:g} is less than drift.material_mass={self.material_mass:g}"
            )
