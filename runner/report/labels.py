"""Results by label and feature, live and in the reference, with the most urgent label first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import FeatureDrift, Histogram, LabelRanking, LabelResult, RankingResult
from runner.results.documents import DriftDocument

MOST_TOP_CHANGES = 10
"""Features in the table of top changes."""


@dataclass(frozen=True)
class Feature:
    """Global attribution of a feature, live and in the reference, as charts and tables show it.

    Attributes:
        now, before: global attribution, live and in the reference.
        share_now, share_before: attribution share.
        rank_now, rank_before: rank by global attribution, from 1.
        median_now, median_before: median of the local attributions.
        distance, p: Kolmogorov-Smirnov distance of the local attributions, and its corrected p-value.
        cause: likely cause of a significant change.
        attributions, values: histograms of local attributions and feature values.
    """

    name: str
    now: float
    share_now: float
    rank_now: int
    before: float | None = None
    share_before: float | None = None
    rank_before: int | None = None
    median_before: float | None = None
    median_now: float | None = None
    distance: float | None = None
    p: float | None = None
    cause: str | None = None
    attributions: Histogram | None = None
    values: Histogram | None = None

    @property
    def share_change(self) -> float | None:
        """Change of the attribution share; None without a reference."""
        return None if self.share_before is None else self.share_now - self.share_before

    @property
    def size(self) -> float:
        """Magnitude of the change of the attribution share."""
        return abs(self.share_change or 0.0)


@dataclass(frozen=True)
class Label:
    """Results of one label.

    Attributes:
        features: features in the order of the reference ranking, or of the live one without a reference.
        expected_value: model output on the SHAP baseline.
        ranking: result of the nDCG rule; None if the label was not compared.
        result: result of the statistical tests; None without tests.
    """

    name: str
    features: tuple[Feature, ...]
    expected_value: float
    ranking: LabelRanking | None
    result: LabelResult | None

    @property
    def is_compared(self) -> bool:
        """Whether the reference has attributions of this label."""
        return self.features[0].before is not None

    @property
    def top_changes(self) -> list[Feature]:
        """The features with the largest changes of their share, largest first."""
        return sorted(self.features, key=lambda feature: (-feature.size, -(feature.distance or 0)))[:MOST_TOP_CHANGES]

    @property
    def urgency(self) -> tuple[int, float, float]:
        """Sort key: level, then attribution shift, then nDCG."""
        level, shift = (0, None) if self.result is None else severity(self.result)
        ndcg = self.ranking.ndcg if self.ranking else None
        return -level, -(shift or 0), 2 if ndcg is None else ndcg


def compare_labels(live: GlobalAttributions, ranking: RankingResult | None, drift: DriftDocument | None) -> list[Label]:
    """Return the labels of an analysis, compared with the reference if there is one, the most urgent first."""
    rankings = {each.label: each for each in (ranking.drifts if ranking else ())}
    results = {each.label: each for each in (drift.result.labels if drift and drift.result else ())}
    reference = {} if drift is None else {label: _values(drift.reference, label) for label in drift.reference.labels}
    found = []
    for i, name in enumerate(live.labels):
        ranked, result = rankings.get(name), results.get(name)
        before = reference.get(ranked.reference_label) if ranked else None
        features = tested_features(result.features) if result else compare_features(_values(live, name), before)
        found.append(Label(name, features, float(live.expected_L[i]), ranked, result))
    return sorted(found, key=lambda label: label.urgency)


def _values(attributions: GlobalAttributions, label: str) -> dict[str, float]:
    return dict(zip(attributions.names, attributions.values(label, attributions.names).tolist(), strict=True))


def tested_features(drifts: Sequence[FeatureDrift]) -> tuple[Feature, ...]:
    """Return tested features in the order of the reference ranking."""
    return _ranked([Feature(**vars(drift)) for drift in drifts])


def compare_features(now: Mapping[str, float], before: Mapping[str, float] | None) -> tuple[Feature, ...]:
    """Return features from live global attributions, and those of the reference if there is one."""
    live, reference = _shares_and_ranks(now), {} if before is None else _shares_and_ranks(before)
    features = []
    for name, value in now.items():
        share, rank = live[name]
        feature = Feature(name, value, share, rank)
        if before is not None and name in before:
            share, rank = reference[name]
            feature = replace(feature, before=before[name], share_before=share, rank_before=rank)
        features.append(feature)
    return _ranked(features)


def _ranked(features: Sequence[Feature]) -> tuple[Feature, ...]:
    return tuple(sorted(features, key=lambda feature: feature.rank_before or feature.rank_now))


def _shares_and_ranks(values: Mapping[str, float]) -> dict[str, tuple[float, int]]:
    total, descending = sum(map(abs, values.values())), sorted(-abs(value) for value in values.values())
    return {
        name: (abs(value) / total if total else 0.0, 1 + bisect_left(descending, -abs(value)))
        for name, value in values.items()
    }


def largest(features: Sequence[Feature], most: int) -> list[Feature]:
    """Return the `most` features with the largest share, live or in the reference, in their order."""
    shares = sorted((-max(each.share_now, each.share_before or 0), i) for i, each in enumerate(features))
    return [features[i] for i in sorted(i for _, i in shares[:most])]


def severity(result: LabelResult) -> tuple[int, float]:
    """Return the sort key of a result: level, then attribution shift."""
    return result.level.order, result.attribution_shift.value or 0.0
