"""The settings of `drift`, and the alert policy, which limits the number of false alarms per year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from runner.domain.drift import Level
from runner.domain.numbers import Finite, Integer, Seed

YEAR = timedelta(days=365)

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

        Windows of this length follow each other without gaps. They share a reference, so their results are not
        independent. Markov's inequality holds nevertheless: the probability that k of n windows are significant is at
        most n / k times the significance level.

        >>> round(AlertPolicy(87.6).significance(timedelta(hours=1)), 6)
        0.01
        >>> round(AlertPolicy(87.6, 2, 3).significance(timedelta(hours=1)), 6)
        0.006667
        """
        accepted = min(1.0, self.false_alarms_per_year / (YEAR / window))
        return accepted * self.datapoints_to_alert / self.evaluation_period

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


Size = Annotated[Finite, Gt(0), Le(1_000_000)]


@dataclass(frozen=True)
class Limit:
    """Smallest size of a significant change that is a warning, and a violation."""

    warning: Size
    violation: Size

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the order.

        Raises:
            ValueError: if the limit for a violation is below that for a warning.
        """
        if self.violation < self.warning:
            raise ValueError(f"violation: {self.violation:g} is less than warning={self.warning:g}")

    def level(self, size: float) -> Level:
        """Return the level of a significant change.

        >>> str(Limit(0.1, 0.25).level(0.2))
        'warning'
        """
        if abs(size) >= self.violation:
            return Level.VIOLATION
        return Level.WARNING if abs(size) >= self.warning else Level.INFO


@dataclass(frozen=True)
class Limits:
    """Limits of each kind of change.

    Attributes:
        input_values: distance of the values of a feature, a lower bound of the share of records that changed.
        input_invalid: share of the records with a newly missing, unseen or constant value of a feature.
        mean_score: change of the mean score, relative to the range of the central 98 % of the reference scores.
        attribution_shift: total variation distance of the attribution shares.
        total_log2_change: absolute log2 fold change of the total attribution.
        signed_shift: mean distance between the signed attributions, relative to the total attribution.
        separability: area under the ROC curve of the classifier.
        association: change of the correlation of two features.
        unexplained: deviation of a feature from its prediction by the others that the reference does not have, in
            standard deviations of the feature.
        model_scores: largest difference of the scores of a changed or another model.
    """

    input_values: Limit
    input_invalid: Limit
    mean_score: Limit
    attribution_shift: Limit
    total_log2_change: Limit
    signed_shift: Limit
    separability: Limit
    association: Limit
    unexplained: Limit
    model_scores: Limit

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class Weights:
    """Parts of the significance level that the families of tests receive, in proportion.

    A family without tests receives none.
    """

    inputs: Size
    outputs: Size
    attributions: Size
    joint: Size
    segments: Size

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class DriftPolicy(AlertPolicy):
    """`drift`: thresholds and tests that assign a level to a window.

    Attributes:
        threshold: nDCG below which the ranking of a label is a violation.
        violations: verdicts that end an execution with violations: of the ranking rule, the calibrated tests, or both.
            With `both`, the ranking rule needs `min_rows` records in the window, too.
        min_rows: minimum number of reference records, and of records in a window; with fewer, no test is run.
        limits: smallest sizes of significant changes that are a warning or a violation.
        weights: parts of the significance level by family of tests.
        permutations: number of random permutations that effects are compared with.
        segment_by: feature or SQL expression that divides records into segments; None for no segments.
        classifier: whether joint changes of several features are tested, too.
        unit: unit of observation: `content` counts repetitions of a record once, `record` counts all records; `event`,
            a feature or a SQL expression over features draws one random record of each event or value.
        season: whether a window is compared with the same hours of the reference if its records have a cycle (`auto`).
        parity_tolerance: largest difference between captured and recomputed scores that rounding explains; None to
            infer it from the decimals of the captured scores.
        reference_rows: maximum number of reference records that baselining stores.
        canary_rows: number of stored records that each execution explains again; 0 for none.
        seed: seed of the reference sample and of the permutations.
    """

    threshold: Annotated[Finite, Gt(0), Le(1)]
    violations: Literal["ranking", "calibrated", "both"]
    min_rows: Annotated[Integer, Ge(2), Le(1_000_000)]
    limits: Limits
    weights: Weights
    permutations: Annotated[Integer, Ge(99), Le(100_000)]
    segment_by: Annotated[str, MinLen(1)] | None
    classifier: bool
    unit: Annotated[str, MinLen(1)]
    season: Literal["auto", "none"]
    parity_tolerance: Annotated[Finite, Ge(0)] | None
    reference_rows: Annotated[Integer, Ge(500), Le(100_000)]
    canary_rows: Annotated[Integer, Ge(0), Le(10_000)]
    seed: Seed

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            ValueError: if `datapoints_to_alert` exceeds `evaluation_period`.
        """
        if self.datapoints_to_alert > self.evaluation_period:
            most = f"drift.evaluation_period={self.evaluation_period}"
            raise ValueError(f"datapoints_to_alert: {self.datapoints_to_alert} windows are more than {most}")
