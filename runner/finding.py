"""The nouns of a finding: what the calibrated comparison of reference and live attributions has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.domain import Status


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
class LabelFinding:
    """What has become of the attributions of a label.

    Attributes:
        label: the live label; `reference_label` is the one it was matched with.
        p: the smallest corrected p-value of its features: is there any drift at all?
        share_moved: the part of the attention that changed hands, in [0, 1].
        mass: log2 of how many times all attribution together has grown.
        ndcg: of the kept records.
        features: in the live order of names.
    """

    label: str
    reference_label: str
    level: Level
    p: float
    share_moved: Effect
    mass: Effect
    ndcg: Effect
    features: tuple[FeatureDrift, ...]

    @property
    def changed(self) -> FeatureDrift:
        """The feature whose local attributions have changed most surely."""
        return min(self.features, key=lambda feature: (feature.p, -feature.distance))

    @property
    def movers(self) -> tuple[FeatureDrift, ...]:
        """The features, the one that moved most first."""
        return tuple(sorted(self.features, key=lambda feature: (-abs(feature.moved), -feature.distance)))


@dataclass(frozen=True)
class SegmentFinding:
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
    labels: tuple[LabelFinding, ...]


def worst(found: Sequence[LabelFinding | SegmentFinding], least: Level = Level.NONE) -> Level:
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
class Finding:
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
    labels: tuple[LabelFinding, ...]
    notes: tuple[str, ...] = ()
    segments: tuple[SegmentFinding, ...] = ()
    separability: Effect | None = None
    canary: Canary | None = None


@dataclass(frozen=True)
class Point:
    """What an execution said, of the label where most of the attention moved.

    Attributes:
        start, end: of its window, ISO 8601 in UTC.
        level: what stood then; `alone` is what its window said by itself.
        ndcg: the lowest of its labels; `threshold` is the one below which it is a violation.
        share_moved, share_moved_noise, mass, mass_noise: effects, and what they stay within by chance.
        reference: the SHA-256 of the analysis it was compared with.
    """

    start: str
    end: str
    status: Status
    level: Level
    alone: Level
    ndcg: float | None
    threshold: float | None
    share_moved: float | None
    share_moved_noise: float | None
    mass: float | None
    mass_noise: float | None
    reference: str | None
