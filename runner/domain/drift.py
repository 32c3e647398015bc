"""Results of drift detection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

NOT_JUDGED = "not judged, because the window has too few records"

CONFIDENCE = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % confidence interval."""
CLEAR = 2.5758293035489004
"""Standard normal quantile of a two-sided test at 1 %."""
UNLIKELY = 0.01
"""p-value up to which a deviation from the prediction by other features is stated."""
SIMILAR = 0.1
"""Largest difference of two correlations that are called similar."""
TOGETHER, POSSIBLE = 0.001, 0.05
"""p-value up to which the inputs changed jointly, and up to which their change is possible."""


class Level(StrEnum):
    """Levels of a result, in ascending order."""

    NONE = "none"
    INSUFFICIENT_DATA = "insufficient_data"
    INFO = "info"
    WARNING = "warning"
    VIOLATION = "violation"

    @property
    def order(self) -> int:
        """Position in ascending order, from 0."""
        return list(Level).index(self)

    @property
    def words(self) -> str:
        """The level in words, such as `insufficient data`."""
        return self.replace("_", " ")


class Headline(StrEnum):
    """Verdicts in one to three words, as documents store them."""

    NO_DRIFT = "No drift"
    NO_DATA = "No data"
    TOO_FEW_RECORDS = "Too few records"
    NO_MATERIAL_DRIFT = "No material drift"
    UNCONFIRMED_DRIFT = "Unconfirmed drift"
    MODEL_CHANGED = "Model changed"
    MODEL_MISMATCH = "Model mismatch"
    DRIFT = "Drift"
    SEVERE_DRIFT = "Severe drift"
    NO_VERDICT = "No verdict"
    FAILED = "Failed"
    REFERENCE = "Reference"


class ChangeKind(StrEnum):
    """Kinds of significant changes, in the order in which a headline names them.

    If scores changed although no input did, they are named before the attributions.
    """

    SERVING = "serving"
    MODEL = "model"
    INPUT = "input"
    JOINT = "joint"
    ATTRIBUTION = "attribution"
    OUTPUT = "output"
    SEGMENT = "segment"
    RANKING = "ranking"


@dataclass(frozen=True)
class Change:
    """A significant change with its start, ISO 8601 in UTC.

    Attributes:
        name: feature or label that changed; empty for the model, and for a joint change of several inputs or
            attributions.
        onset: time in this window from which the change occurs. If it is in all of the window: start of the window, or
            of an earlier one that had it without being significant.
        since: onset in the first of the windows in which this change was found without interruption.
    """

    kind: ChangeKind
    name: str
    onset: str
    since: str


@dataclass(frozen=True)
class Verdict:
    """The verdict in words.

    Attributes:
        title: the cause or the finding in a few words, without a full stop.
        changed, matters, action: sentences on what changed, how much it matters, and what to do; empty if unknown.
    """

    title: str
    changed: str
    matters: str
    action: str


@dataclass(frozen=True)
class Effect:
    """A statistic with its permutation distribution.

    Attributes:
        value: observed statistic; None if undefined.
        noise: 99th percentile under permutation of the pooled records; None if `value` is None.
        p: permutation p-value; None if `value` is None.
    """

    value: float | None
    noise: float | None
    p: float | None


@dataclass(frozen=True)
class Histogram:
    """Histogram of the reference and the live records over the same bins or categories.

    Attributes:
        edges: bin edges, one more than bins; empty for categories.
        names: categories; empty for numbers.
        reference, live: share of the records in each bin or category.
        medians: median on both sides; None for categories.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]
    reference: tuple[float, ...]
    live: tuple[float, ...]
    medians: tuple[float, float] | None = None


@dataclass(frozen=True)
class FeatureDrift:
    """Change of one feature's attributions.

    Attributes:
        before, now: global attribution in the reference records and in the live records.
        share_before, share_now: attribution share.
        rank_before, rank_now: rank by global attribution, from 1.
        median_before, median_now: median of the signed local attributions.
        distance: Kolmogorov-Smirnov distance of the local attributions, in [0, 1].
        p: p-value of the distance, corrected for multiple tests.
        cause: likely cause; None if the change is not significant.
        attributions, values: histograms of local attributions and feature values; None if not shown.
        share_noise: 99th percentile of the absolute change of the share under permutation; None if unknown.
    """

    name: str
    before: float
    now: float
    share_before: float
    share_now: float
    rank_before: int
    rank_now: int
    median_before: float
    median_now: float
    distance: float
    p: float
    cause: str | None = None
    attributions: Histogram | None = None
    values: Histogram | None = None
    share_noise: float | None = None

    @property
    def share_change(self) -> float:
        """Change of the attribution share."""
        return self.share_now - self.share_before


@dataclass(frozen=True)
class LabelResult:
    """Change of the attributions of one label.

    Attributes:
        label, reference_label: live label, and the reference label it is compared with.
        p: smallest corrected p-value of the features.
        attribution_shift: total variation distance of the attribution shares, in [0, 1].
        total_log2_change: log2 fold change of the total attribution.
        ndcg: nDCG against the reference records.
        features: changes by feature, in the live order.
        signed_shift: mean distance between the sorted signed attributions of significantly changed features, summed
            over these features, relative to the total attribution.
    """

    label: str
    reference_label: str
    level: Level
    p: float
    attribution_shift: Effect
    total_log2_change: Effect
    ndcg: Effect
    features: tuple[FeatureDrift, ...]
    signed_shift: float = 0.0

    @property
    def changed(self) -> FeatureDrift:
        """The feature with the smallest p-value."""
        return min(self.features, key=lambda feature: (feature.p, -feature.distance))

    @property
    def top_changes(self) -> tuple[FeatureDrift, ...]:
        """The features by descending absolute change of their attribution share."""
        return tuple(sorted(self.features, key=lambda feature: (-abs(feature.share_change), -feature.distance)))


@dataclass(frozen=True)
class InputResult:
    """Change of a feature's values.

    Attributes:
        name: name of the feature.
        p: p-value of the tests of the feature, corrected for multiple tests.
        distance: distance between the distributions of the values that are not missing, a lower bound of the share of
            records that changed, in [0, 1].
        missing_before, missing_now: share of missing values.
        unseen: share of the live records with a category that is not in the reference, a number outside its range, or
            strings in place of numbers.
        vanished: share of the reference records with a category that no longer occurs.
        constant: whether all live values are equal, and those of the reference are not.
        cause: description of the change; None if it is not significant.
        altered: share of the records that the cause altered by more than half a standard deviation; 0 if another
            population explains the change, too.
        unseen_expected: share of unseen values that is expected without drift.
        unseen_chance: excess of `unseen` over its expected share that is expected by chance at most, at 1 %.
        distance_expected: part of the distance that is expected without drift, because categories are rare.
    """

    name: str
    level: Level
    p: float
    distance: float
    missing_before: float
    missing_now: float
    unseen: float
    vanished: float
    constant: bool
    cause: str | None = None
    altered: float = 0.0
    unseen_expected: float = 0.0
    unseen_chance: float = 0.0
    distance_expected: float = 0.0

    @property
    def newly_unseen(self) -> float:
        """Share of the records that have an unseen value and would not have one without drift; 0 if chance explains it.

        Source: Abbott (1925), "A method of computing the effectiveness of an insecticide", for the share of responses
        that would occur anyway.
        """
        excess, present = self.unseen - self.unseen_expected, 1 - self.missing_now
        if excess <= self.unseen_chance or self.unseen_expected >= present:
            return 0.0
        return excess / (1 - self.unseen_expected / present)

    @property
    def moved(self) -> float:
        """Lower bound of the share of records that changed: of their values, or of the missing ones."""
        return max(0.0, self.distance - self.distance_expected, abs(self.missing_now - self.missing_before))

    @property
    def invalid(self) -> float:
        """Share of the records with a value that is newly missing, unseen, vanished or part of a constant."""
        missing = max(0.0, self.missing_now - self.missing_before)
        return 1.0 if self.constant else max(missing + self.newly_unseen, self.vanished)

    @property
    def size(self) -> float:
        """Share of the records that changed."""
        return max(self.moved, self.invalid, self.altered)


@dataclass(frozen=True)
class OutputResult:
    """Change of the scores of a label.

    Attributes:
        label: live label.
        p: p-value of the scores' distribution, corrected for multiple tests.
        distance: Kolmogorov-Smirnov distance of the scores.
        mean_before, mean_now: mean score.
        change_low, change_high: 95 % confidence interval of the change of the mean score.
        spread: range of the central 98 % of the reference scores.
        scores: histogram of the scores; None in documents before version 4.
    """

    label: str
    level: Level
    p: float
    distance: float
    mean_before: float
    mean_now: float
    change_low: float
    change_high: float
    spread: float
    scores: Histogram | None = None

    @property
    def relative_change(self) -> float:
        """Change of the mean score, relative to the spread of the scores."""
        return (self.mean_now - self.mean_before) / self.spread if self.spread else 0.0

    @property
    def chance(self) -> float:
        """Change of the mean score that is expected by chance at most, at 1 %."""
        return (self.change_high - self.change_low) / 2 / CONFIDENCE * CLEAR


@dataclass(frozen=True)
class Association:
    """Change of the association of two features: the correlation of their ranks on each side.

    Attributes:
        p: p-value, corrected for multiple tests.
        deviation_before, deviation_now: standard deviation of the first feature around its prediction by all other
            features, relative to that of the feature.
        deviation_p: p-value of the deviations, corrected for the number of features only.
        reversed: feature whose correlations with the other features have the opposite sign; empty if there is none.
        exchanged: one of both features and two of its values, if the records of each have the former mean of the other
            feature of those of the other value; empty if there is none.
    """

    first: str
    second: str
    before: float
    now: float
    p: float
    level: Level = Level.NONE
    deviation_before: float = 0.0
    deviation_now: float = 0.0
    deviation_p: float = 1.0
    reversed: str = ""
    exchanged: tuple[str, ...] = ()

    @property
    def unexplained(self) -> float:
        """Standard deviation of the part of the first feature that the others no longer predict."""
        return math.sqrt(max(0.0, self.deviation_now**2 - self.deviation_before**2))

    @property
    def is_deviation(self) -> bool:
        """Whether the deviation of the first feature changed clearly, and the correlation hardly."""
        is_clear = self.deviation_p <= UNLIKELY and self.deviation_now != self.deviation_before
        return is_clear and abs(self.now - self.before) < SIMILAR and not (self.reversed or self.exchanged)

    @property
    def hypothesis(self) -> str:
        """Possible reasons, as a question."""
        if self.reversed:
            return f"values of {self.reversed} in reverse order, or with the opposite sign?"
        if self.exchanged:
            name, first, second = self.exchanged
            return f"values {first} and {second} of {name} swapped?"
        if self.is_deviation and not self.unexplained:
            return "values computed from other features?"
        first = "noise, old values" if self.unexplained else "columns swapped"
        return f"{first}, or values of other records?"


@dataclass(frozen=True)
class SegmentResult:
    """Change of the attributions in a segment of the records.

    Attributes:
        name: name of the segment, such as `Sex: 1`.
        rows_reference, rows_live: number of records.
        labels: changes by label; empty if there are too few records.
    """

    name: str
    level: Level
    rows_reference: int
    rows_live: int
    labels: tuple[LabelResult, ...]


def highest(levels: Iterable[Level]) -> Level:
    """Return the highest of at least one level."""
    return max(levels, key=lambda level: level.order)


def worst(
    found: Sequence[LabelResult | SegmentResult | InputResult | OutputResult], least: Level = Level.NONE
) -> Level:
    """Return the highest level, at least `least`; insufficient data is ignored."""
    levels = [each.level for each in found if each.level is not Level.INSUFFICIENT_DATA]
    return highest([least, *levels])


@dataclass(frozen=True)
class Canary:
    """Comparison of the current model with the model of the reference, on stored reference records.

    Attributes:
        records: number of records.
        changed: whether the scores differ by more than rounding.
        difference: largest difference of the scores.
        attribution_shift: attribution shift on these records; None if the estimator settings differ.
    """

    records: int
    changed: bool
    difference: float
    attribution_shift: float | None


@dataclass(frozen=True)
class Parity:
    """Comparison of captured scores with those of the explained model.

    Attributes:
        largest: largest difference.
        records: number of records compared.
        tolerance: largest difference that rounding of the captured scores explains.
        differing: number of records that differ by more.
    """

    largest: float
    records: int
    tolerance: float = 1e-6
    differing: int = 0

    @property
    def same(self) -> bool:
        """Whether the model may be the one that computed the captured scores."""
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class FamilyEffect:
    """Most severe effect of a family of tests.

    Attributes:
        family: `inputs`, `outputs`, `attributions`, `joint` or `model`.
        level: highest level of the family.
        measure: name of the limits in `drift.limits` that the effect is compared with.
        name: feature, label or pair of features with this effect; empty for all together.
        value: size of the effect; None if it is undefined.
        chance: size up to which an effect is expected by chance; None if it is undefined.
        warning, violation: sizes from which the effect is a warning or a violation.
    """

    family: str
    level: Level
    measure: str
    name: str
    value: float | None
    chance: float | None
    warning: float
    violation: float

    @property
    def severity(self) -> float:
        """The size relative to its limits: 2 at the limit of a warning, 3 at that of a violation, at most 4."""
        return severity(abs(self.value or 0.0), self.warning, self.violation, self.least)

    @property
    def chance_severity(self) -> float:
        """The end of the range of chance on the scale of `severity`."""
        return severity(self.chance or 0.0, self.warning, self.violation, self.least)

    @property
    def least(self) -> float:
        """The smallest possible size."""
        return 0.5 if self.measure == "separability" else 0.0


def severity(size: float, warning: float, violation: float, least: float = 0.0) -> float:
    """Return a size on the scale of `FamilyEffect.severity`, which is linear between its limits.

    >>> [severity(size, 0.1, 0.3) for size in (0.05, 0.1, 0.3, 9.0)]
    [1.0, 2.0, 3.0, 4.0]
    """
    if size < warning:
        return max(0.0, 2 * (size - least) / (warning - least))
    width = max(violation - warning, 1e-9)
    return min(4.0, 2 + (size - warning) / width)


@dataclass(frozen=True)
class Season:
    """Hours of the reference that a window is compared with, because its records have a cycle.

    Attributes:
        cycle: cycle whose hours are the same.
        hours: the hours in words, such as `Mondays 14:00–15:00 UTC`.
    """

    cycle: Literal["day", "week"]
    hours: str


@dataclass(frozen=True)
class DriftResult:
    """Result of comparing a window with the reference.

    Attributes:
        level: alert level with the previous windows.
        level_alone: level of this window alone.
        rows_reference, rows_live: number of records compared.
        significance: significance level of the tests, from the accepted number of false alarms per year.
        minimum_detectable_change: smallest detectable distance between a feature's distributions; from 1, no
            change is detectable.
        labels: changes by label.
        segments: changes by segment; empty without `drift.segment_by`.
        separability: area under the ROC curve of the classifier test; None without this test.
        association: most clearly changed association of two features; None without the tests of joint changes.
        inputs, outputs: changes of the values of each feature, and of the scores of each label.
        changes: significant changes with their start, the one that the headline names first.
        canary: comparison of the current model with that of the reference; None if no records were explained again.
        families: most severe effect of each family of tests; empty without tests.
        season: hours of the reference that the window is compared with; None for all hours.
        inputs_together: p-value of a joint change of the inputs alone; None if no test is significant, without tests of
            joint changes, and in earlier documents.
    """

    level: Level
    level_alone: Level
    rows_reference: int
    rows_live: int
    significance: float
    minimum_detectable_change: float
    labels: tuple[LabelResult, ...]
    notes: tuple[str, ...] = ()
    segments: tuple[SegmentResult, ...] = ()
    separability: Effect | None = None
    canary: Canary | None = None
    association: Association | None = None
    inputs: tuple[InputResult, ...] = ()
    outputs: tuple[OutputResult, ...] = ()
    families: tuple[FamilyEffect, ...] = ()
    changes: tuple[Change, ...] = ()
    season: Season | None = None
    inputs_together: float | None = None

    @property
    def since(self) -> str | None:
        """Start of the change that the headline names, ISO 8601 in UTC; None without a change."""
        return self.changes[0].since if self.changes else None

    @property
    def changed_inputs(self) -> tuple[InputResult, ...]:
        """The inputs whose values changed significantly, by level and then by the size of their effect."""
        effects: dict[str, float] = {}
        for label in self.labels:
            total = sum(each.before for each in label.features) or 1.0
            for each in label.features:
                change = max(abs(each.share_change), abs(each.now - each.before) / total)
                effects[each.name] = max(effects.get(each.name, 0.0), change)
        changed = [each for each in self.inputs if each.level is not Level.NONE]
        return tuple(sorted(changed, key=lambda each: (-each.level.order, -effects.get(each.name, 0.0), each.p)))

    @property
    def joint_change(self) -> bool:
        """Whether several inputs changed jointly; attributions alone are no evidence for it."""
        if self.association is not None and self.association.level is not Level.NONE:
            return True
        if self.inputs_together is None:
            return self.is_separable
        return self.inputs_together <= TOGETHER and (self.is_separable or worst(self.inputs) is Level.NONE)

    @property
    def is_separable(self) -> bool:
        """Whether the classifier separates live from reference records by inputs and attributions."""
        joint = self.separability.p if self.separability else None
        return joint is not None and joint <= self.significance

    @property
    def without_inputs(self) -> bool:
        """Whether scores or attributions changed although nothing suggests a change of inputs: the model changed?"""
        if self.canary and self.canary.changed:
            return False
        smallest = min([each.p for each in self.labels] + [each.p for each in self.outputs], default=1.0)
        changed = smallest <= self.significance or self.is_separable
        p = [each.p for each in self.inputs] + [self.association.p if self.association else 1.0]
        p += [1.0 if self.inputs_together is None else self.inputs_together]
        return changed and bool(self.inputs) and not self.joint_change and min(p) > POSSIBLE

    @property
    def smallest_p(self) -> float:
        """Smallest p-value of all tests of the whole window."""
        p = [each.p for each in self.inputs] + [each.p for each in self.outputs] + [each.p for each in self.labels]
        p += [self.association.p] if self.association else []
        p += [self.separability.p] if self.separability and self.separability.p is not None else []
        return min(p, default=1.0)


Value = float | str | None
"""Value of a feature: a number or a category; None if it is missing."""


@dataclass(frozen=True)
class SampledFeature:
    """Attributions and values of a feature, one for each sampled record of the reference and of the window.

    Attributes:
        reference_phi, live_phi: local attributions.
        reference_values, live_values: values of the feature; empty for a group of features.
    """

    name: str
    reference_phi: tuple[float, ...]
    live_phi: tuple[float, ...]
    reference_values: tuple[Value, ...]
    live_values: tuple[Value, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers, and there are some."""
        values = [value for value in (*self.reference_values, *self.live_values) if value is not None]
        return bool(values) and not any(isinstance(value, str) for value in values)


@dataclass(frozen=True)
class Contribution:
    """Local attribution of a feature of a record, with the value of the feature; None for a group of features."""

    name: str
    value: Value
    phi: float


@dataclass(frozen=True)
class ChangedRecord:
    """Record of a window whose attributions are far from the median attributions of the reference.

    Attributes:
        row: position among the explained records, from 0.
        score: score of the model; `expected` and all attributions add up to it.
        expected: mean score of the model on the SHAP baseline.
        contributions: features with the largest attributions, largest first.
        others: number of all other features.
        others_phi: sum of their attributions.
        event_id: id of the captured event; empty if unknown.
        at: time of the event, ISO 8601 in UTC; empty if unknown.
    """

    row: int
    score: float
    expected: float
    contributions: tuple[Contribution, ...]
    others: int
    others_phi: float
    event_id: str = ""
    at: str = ""


@dataclass(frozen=True)
class RecordSample:
    """Records for the charts of the label with the highest level.

    Attributes:
        label: live label.
        features: features with the largest shares and changes, in random records of both sides.
        changed: records whose attributions changed most; empty if no attribution changed.
    """

    label: str
    features: tuple[SampledFeature, ...]
    changed: tuple[ChangedRecord, ...]


@dataclass(frozen=True)
class DetectableChange:
    """Smallest detectable change of one feature in a window, as a share of its records; 1 if none is detectable."""

    records: int
    change: float


@dataclass(frozen=True)
class ScoreGroup:
    """Records with the same value of a feature, and how many of their captured scores differ from recomputed ones."""

    name: str
    differing: int
    records: int

    @property
    def share(self) -> float:
        """Share of the records whose scores differ."""
        return self.differing / self.records


@dataclass(frozen=True)
class ScorePairs:
    """Captured and recomputed scores of records of a window in which some of them differ.

    Attributes:
        label: live label with the largest difference.
        captured, recomputed: scores of this label, of random records with equal and of random ones with other scores.
        groups: values of the feature on which it depends most clearly whether scores differ, the largest share of
            differing scores first; empty if it depends on no feature with few values.
    """

    label: str
    captured: tuple[float, ...]
    recomputed: tuple[float, ...]
    groups: tuple[ScoreGroup, ...]


@dataclass(frozen=True)
class LabelRanking:
    """nDCG of one label against the reference.

    Attributes:
        label, reference_label: live label, and the reference label it is compared with.
        ndcg: nDCG; None if all reference attributions are zero.
        floor, chance: lowest nDCG of any ranking, and mean nDCG of random rankings.
        notes: special cases, such as a single feature or negative values.
        judged: whether an nDCG below the threshold is a violation.
    """

    label: str
    reference_label: str
    ndcg: float | None
    floor: float | None
    chance: float | None
    notes: tuple[str, ...] = ()
    judged: bool = True


@dataclass(frozen=True)
class RankingResult:
    """Result of the nDCG rule of the SageMaker Clarify monitor."""

    threshold: float
    drifts: tuple[LabelRanking, ...]
    notes: tuple[str, ...] = ()

    @property
    def violations(self) -> tuple[LabelRanking, ...]:
        """The judged labels whose nDCG is below the threshold."""
        below = (drift for drift in self.drifts if drift.ndcg is not None and drift.ndcg < self.threshold)
        return tuple(drift for drift in below if drift.judged)

    @property
    def unjudged(self) -> RankingResult:
        """The same figures of a window with too few records for a verdict: no nDCG is a violation."""
        return replace(
            self,
            drifts=tuple(replace(drift, notes=(*drift.notes, NOT_JUDGED), judged=False) for drift in self.drifts),
        )
