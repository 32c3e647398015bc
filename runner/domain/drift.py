"""The nouns of a finding: what the calibrated comparison of reference and live attributions has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.domain.executions import Status


class Level(StrEnum):
    """How much there is to say, in ascending order."""

    NONE = "none"
    INSUFFICIENT_DATA = "insufficient_data"
    INFO = "info"
    WARNING = "warning"
    VIOLATION = "violation"

    @property
    def order(self) -> int:
        """Its place in the order."""
        return list(Level).index(self)


@dataclass(frozen=True)
class Effect:
    """A figure beside what chance alone does to it.

    Attributes:
        value: None where it is undefined.
        noise: what it stays within in 99 of 100 divisions of the pooled records; None with `value`.
        p: the share of the divisions in which it is as far out.
    """

    value: float | None
    noise: float | None
    p: float | None


@dataclass(frozen=True)
class Histogram:
    """The distributions of a figure in the reference and in the window, side by side.

    Attributes:
        edges: of the bins of numbers, one more than there are bins; empty for categories.
        names: of the categories, the most frequent first; empty for numbers.
        reference, live: the shares of the records in each bin or category.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]
    reference: tuple[float, ...]
    live: tuple[float, ...]


@dataclass(frozen=True)
class FeatureDrift:
    """What has become of a feature's attribution.

    Attributes:
        before, now: global attribution in the kept reference records, and in the live ones.
        share_before, share_now: their parts of all attribution.
        rank_before, rank_now: their places, from 1.
        median_before, median_now: of the signed local attributions.
        distance: between the distributions of the local attributions, Kolmogorov-Smirnov, in [0, 1].
        p: of that distance, corrected for the number of features and labels (Holm).
        cause: what has probably happened to it, None where it was not looked for.
        attributions, values: how its local attributions and its own values are distributed, None where it is not shown.
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

    @property
    def moved(self) -> float:
        """The share of the attention that it has gained."""
        return self.share_now - self.share_before


@dataclass(frozen=True)
class LabelResult:
    """What has become of the attributions of a label.

    Attributes:
        label: the live label; `reference_label` is the one it was matched with.
        p: the smallest corrected p-value of its features: is there any drift at all?
        attribution_shift: the part of the attention that changed hands, in [0, 1].
        total_log2_change: log2 of how many times all attribution together has grown.
        ndcg: of the kept records.
        features: in the live order of names.
    """

    label: str
    reference_label: str
    level: Level
    p: float
    attribution_shift: Effect
    total_log2_change: Effect
    ndcg: Effect
    features: tuple[FeatureDrift, ...]

    @property
    def changed(self) -> FeatureDrift:
        """The feature whose local attributions have changed most surely."""
        return min(self.features, key=lambda feature: (feature.p, -feature.distance))

    @property
    def top_changes(self) -> tuple[FeatureDrift, ...]:
        """The features, the one that moved most first."""
        return tuple(sorted(self.features, key=lambda feature: (-abs(feature.moved), -feature.distance)))


@dataclass(frozen=True)
class SegmentResult:
    """What has become of the attributions in a part of the records.

    Attributes:
        name: of the part, such as `Sex = 1`.
        rows_reference, rows_live: its records.
        labels: empty where they are too few.
    """

    name: str
    level: Level
    rows_reference: int
    rows_live: int
    labels: tuple[LabelResult, ...]


def worst(found: Sequence[LabelResult | SegmentResult], least: Level = Level.NONE) -> Level:
    """Return the highest level, at least `least`; too few records are no level."""
    levels = [each.level for each in found if each.level is not Level.INSUFFICIENT_DATA]
    return max([least, *levels], key=lambda level: level.order)


@dataclass(frozen=True)
class Canary:
    """What the model makes today of records that were kept, beside what it made of them then.

    Attributes:
        records: how many.
        changed: whether it is another model, by what it answers.
        difference: of the scores, at most.
        moved: the share of the attention that changed hands on these same records; None where the estimator is another.
    """

    records: int
    changed: bool
    difference: float
    moved: float | None


@dataclass(frozen=True)
class DriftResult:
    """What the comparison of a window with the reference found.

    Attributes:
        level: what stands, in the light of the windows before; `alone` is what this window says by itself.
        rows_reference, rows_live: the records compared.
        significance: the level that p-values are compared with: from the false alarms a year that are accepted.
        smallest: the smallest distance of a feature's distributions that this window could have seen; above 1 none.
        segments: parts of the records, where they were asked for.
        separability: how well a classifier tells live local attributions from the reference's: the area under its
            receiver operating characteristic, 0.5 where it cannot; None where it was not asked for.
        canary: None where no records were explained again.
    """

    level: Level
    alone: Level
    rows_reference: int
    rows_live: int
    significance: float
    smallest: float
    labels: tuple[LabelResult, ...]
    notes: tuple[str, ...] = ()
    segments: tuple[SegmentResult, ...] = ()
    separability: Effect | None = None
    canary: Canary | None = None


@dataclass(frozen=True)
class HistoryPoint:
    """What an execution said, of the label where most of the attention moved.

    Attributes:
        start, end: of its window, ISO 8601 in UTC.
        level: what stood then; `alone` is what its window said by itself.
        ndcg: the lowest of its labels; `threshold` is the one below which it is a violation.
        attribution_shift, total_log2_change: effects; `_noise`: the 99th percentile of each by chance alone.
        reference: the SHA-256 of the analysis it was compared with.
    """

    start: str
    end: str
    status: Status
    level: Level
    alone: Level
    ndcg: float | None
    threshold: float | None
    attribution_shift: float | None
    attribution_shift_noise: float | None
    total_log2_change: float | None
    total_log2_change_noise: float | None
    reference: str | None


@dataclass(frozen=True)
class LabelRanking:
    """The nDCG of one label against the reference; `ndcg` is None where the reference supports no verdict.

    Attributes:
        label: the live label; `reference_label` is the one it was matched with.
        floor: the lowest nDCG any ranking could reach; chance: what a random ranking reaches on average.
        notes: sentences about edges that were met (one feature, negative values, degenerate reference …).
    """

    label: str
    reference_label: str
    ndcg: float | None
    floor: float | None
    chance: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankingResult:
    """Whether the ranking of reasons has drifted, by the rule of the SageMaker Clarify monitor."""

    threshold: float
    drifts: tuple[LabelRanking, ...]
    notes: tuple[str, ...] = ()

    @property
    def violations(self) -> tuple[LabelRanking, ...]:
        """The labels whose nDCG is below the threshold."""
        return tuple(drift for drift in self.drifts if drift.ndcg is not None and drift.ndcg < self.threshold)
