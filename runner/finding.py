"""The nouns of a finding: what the calibrated comparison of reference and live attributions has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
class Finding:
    """What the comparison of a window with the reference found.

    Attributes:
        rows_reference, rows_live: the records compared.
        significance: the level that p-values are compared with: from the false alarms a year that are accepted.
        smallest: the smallest distance of a feature's distributions that this window could have seen; above 1 none.
    """

    level: Level
    rows_reference: int
    rows_live: int
    significance: float
    smallest: float
    labels: tuple[LabelFinding, ...]
    notes: tuple[str, ...] = ()
