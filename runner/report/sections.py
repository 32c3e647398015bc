"""Sections of the report (rule, effects, causes and features of each label), and the table of segments."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import (
    DriftResult,
    Effect,
    FeatureDrift,
    Histogram,
    InputResult,
    LabelRanking,
    LabelResult,
    OutputResult,
    RankingResult,
    SegmentResult,
)
from runner.domain.numbers import plural
from runner.errors import listed
from runner.report import tables
from runner.report.tables import Column, ReportTable, make_table
from runner.results.documents import DriftDocument

MOST_TOP_CHANGES = 10
"""Maximum number of features in the table of top changes."""
FEWEST_ROWS = 10
"""Lower bound of the maximum number of rows per label."""


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
        share_noise: 99th percentile of the absolute change of the share under permutation.
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
    share_noise: float | None = None

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
        features = features_with_tests(result.features) if result else compare_features(_values(live, name), before)
        found.append(Label(name, features, float(live.expected_L[i]), ranked, result))
    return sorted(found, key=lambda label: label.urgency)


def _values(attributions: GlobalAttributions, label: str) -> dict[str, float]:
    return dict(zip(attributions.names, attributions.values(label, attributions.names).tolist(), strict=True))


def features_with_tests(drifts: Sequence[FeatureDrift]) -> tuple[Feature, ...]:
    """Return tested features in the order of the reference ranking."""
    return _ranked([Feature(**vars(drift)) for drift in drifts])


def compare_features(now: Mapping[str, float], before: Mapping[str, float] | None) -> tuple[Feature, ...]:
    """Return the features with their live global attributions, compared with a reference if there is one."""
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
    """Return the `most` features with the largest share, live or in the reference, without changing their order."""
    shares = sorted((-max(each.share_now, each.share_before or 0), i) for i, each in enumerate(features))
    return [features[i] for i in sorted(i for _, i in shares[:most])]


def severity(result: LabelResult) -> tuple[int, float]:
    """Return the sort key of a result: level, then attribution shift."""
    return result.level.order, result.attribution_shift.value or 0.0


EFFECTS = (
    ("Attribution shift", "attribution_shift", "{:.1%}", "up to {}"),
    ("Total attribution, log2 fold change", "total_log2_change", "{:+.2f}", "up to ±{}"),
    ("nDCG against the reference sample", "ndcg", "{:.4f}", "down to {}"),
    ("AUC of the classifier test, all labels jointly", "separability", "{:.3f}", "up to {}"),
)
"""Name, key, format of the value, and format of the 99% quantile of the permutation distribution."""


@dataclass(frozen=True)
class Rule:
    """Result of the nDCG rule for a label, formatted.

    Attributes:
        ndcg, threshold: nDCG, and the threshold below which it is a violation.
        floor, chance: nDCG of a reversed ranking, and mean of a random ranking.
    """

    ndcg: str
    threshold: str
    floor: str
    chance: str
    violated: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cause:
    """Likely cause of changes; `features` contains the names of the changed features as one string."""

    features: str
    cause: str


@dataclass(frozen=True)
class Section:
    """Section of the report about one label.

    Attributes:
        level: alert level; empty without tests.
        rule: result of the nDCG rule; None if the label was not compared.
        effects: observed effects; None without tests.
        causes: likely causes, most significant change first.
    """

    label: str
    level: str
    rule: Rule | None
    effects: ReportTable | None
    causes: tuple[Cause, ...]
    expected_value: str
    features: ReportTable


@dataclass(frozen=True)
class EffectRow:
    """Observed effect, formatted.

    Attributes:
        noise: 99% quantile of the permutation distribution; None if undefined.
    """

    name: str
    value: str
    noise: str | None
    p: float | None


@dataclass(frozen=True)
class SegmentRow:
    """Result of a segment for its most severe label; statistics are None if there are too few records."""

    name: str
    level: str
    rows_reference: int
    rows_live: int
    attribution_shift: float | None = None
    noise: float | None = None
    p: float | None = None
    top_change: str | None = None


def section(label: Label, threshold: float | None, separability: Effect | None, agg_method: str) -> Section:
    """Return the section of a label.

    Args:
        label: the results.
        threshold: the threshold of the nDCG rule; None without a comparison.
        separability: the effect of the classifier test, which applies to all labels; None without the test.
        agg_method: the aggregation of local attributions.
    """
    expected = f"{label.expected_value:.5g}"
    caption = (
        "Global attributions and attribution shares. "
        f"Expected value (mean model output on the SHAP baseline): {expected}."
    )
    columns = tables.compared_columns(agg_method) if label.is_compared else tables.live_columns(agg_method)
    result = label.result
    return Section(
        label=label.name,
        level=result.level.words if result else "",
        rule=None if label.ranking is None or threshold is None else _rule(label.ranking, threshold),
        effects=None if result is None else _effects_table(result, separability),
        causes=() if result is None else tuple(_causes(result)),
        expected_value=expected,
        features=make_table(caption, columns, label.features),
    )


def _rule(ranking: LabelRanking, threshold: float) -> Rule:
    return Rule(
        ndcg=_ndcg(ranking.ndcg),
        threshold=f"{threshold:g}",
        floor=_ndcg(ranking.floor),
        chance=_ndcg(ranking.chance),
        violated=ranking.judged and ranking.ndcg is not None and ranking.ndcg < threshold,
        notes=ranking.notes,
    )


def _ndcg(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _effects_table(result: LabelResult, separability: Effect | None) -> ReportTable:
    caption = "Observed effects, and the values expected by chance: the 99% quantile of a permutation test."
    return make_table(caption, tables.EFFECTS, list(effect_rows(result, separability)))


def effect_rows(result: LabelResult, separability: Effect | None) -> Iterator[EffectRow]:
    """Yield the effects of a label with the values expected by chance."""
    effects = {**vars(result), "separability": separability}
    for name, key, form, limit in EFFECTS:
        if effect := effects[key]:
            value = "undefined" if effect.value is None else form.format(effect.value)
            noise = None if effect.noise is None else limit.format(form.format(effect.noise).lstrip("+"))
            yield EffectRow(name, value, noise, effect.p)


def _causes(result: LabelResult) -> Iterator[Cause]:
    """Yield the likely causes, most significant change first; features with the same cause share an entry."""
    names: dict[str, list[str]] = {}
    for feature in sorted(result.features, key=lambda feature: (feature.p, -feature.distance)):
        if feature.cause:
            names.setdefault(feature.cause, []).append(feature.name)
    for cause, features in names.items():
        yield Cause(listed(features), cause)


@dataclass(frozen=True)
class TopChanges(ReportTable):
    """Table of the features whose own values or attributions changed.

    Attributes:
        label: label of the attributions; empty if there is only one.
        sentence: sentence on all other features; empty without tests.
    """

    label: str = ""
    sentence: str = ""


@dataclass(frozen=True)
class ChangeRow:
    """Feature in the table of top changes.

    Attributes:
        level: level of the change of its values in words; None without tests.
        share_before, share_now, share_change: attribution share; None for a feature of a group.
        ratio: global attribution, divided by that of the reference.
        p_values, p: p-values of the change of its values, and of its attributions.
    """

    name: str
    level: str | None
    cause: str | None
    share_before: float | None = None
    share_now: float | None = None
    share_change: float | None = None
    ratio: float | None = None
    p_values: float | None = None
    p: float | None = None


def top_changes(labels: Sequence[Label], result: DriftResult | None) -> TopChanges | None:
    """Return the table of the features whose own values or attributions changed; None if there are none.

    Without tests, these are the features with the largest changes of their attribution share.

    Args:
        labels: the labels, the most urgent first, whose attributions the table shows.
        result: result of the tests; None without tests.
    """
    if not labels or not labels[0].is_compared:
        return None
    label, name = labels[0], labels[0].name if len(labels) > 1 else ""
    if label.result is None or result is None:
        rows = [_change_row(each.name, each, None) for each in label.top_changes]
        caption = "Features with the largest changes of their attribution share."
        return TopChanges(**vars(make_table(caption, tables.TOP_CHANGES, rows)), label=name)
    features, inputs = {each.name: each for each in label.features}, {each.name: each for each in result.changed_inputs}
    own = sorted((each for each in label.features if each.p is not None and each.p <= result.significance), key=_by_p)
    names = list(inputs) or [each.name for each in own]
    if not names:
        return None
    rows = [_change_row(each, features.get(each), inputs.get(each)) for each in names[:MOST_TOP_CHANGES]]
    caption = "Changed inputs, by level and effect." if inputs else "Changed attributions; no input changed."
    table = make_table(caption, tables.TOP_CHANGES, rows)
    return TopChanges(
        **{**vars(table), "left_out": len(names) - len(rows)},
        label=name,
        sentence=" ".join(_others(label.features, names, [each.name for each in own if each.name not in names])),
    )


def _by_p(feature: Feature) -> tuple[float, float]:
    return feature.p or 0.0, -(feature.distance or 0.0)


def _change_row(name: str, feature: Feature | None, changed: InputResult | None) -> ChangeRow:
    row = ChangeRow(name, None, None)
    if feature:
        ratio = feature.now / feature.before if feature.before else None
        level = None if feature.p is None else "attribution only"
        shares = feature.share_before, feature.share_now, feature.share_change
        row = ChangeRow(name, level, feature.cause, *shares, ratio, None, feature.p)
    if changed:
        row = replace(row, level=changed.level.words, cause=changed.cause or row.cause, p_values=changed.p)
    return row


def _others(features: Sequence[Feature], names: Sequence[str], affected: Sequence[str]) -> Iterator[str]:
    """Yield sentences on the features that are not among the top changes.

    Args:
        features: all features.
        names: names of the top changes.
        affected: names of other features whose attributions changed.
    """
    if affected:
        subject = f"The values of {listed(affected)} are"
        yield f"{subject} unchanged; their attributions changed as an effect of the changes above."
    changes = [each.share_change or 0.0 for each in features if each.name not in {*names, *affected}]
    if changes:
        yield (
            f"Values and attributions of {plural(len(changes), 'other feature')} are unchanged; attribution shares "
            f"changed by up to {100 * max(map(abs, changes)):.1f} percentage points, because all shares add up to 100%."
        )


def families_table(result: DriftResult | None) -> ReportTable | None:
    """Return the table of the most severe effect of each family; None without tests."""
    if result is None or not result.families:
        return None
    rows = [
        {**vars(each), "level": each.level.words, "measure": each.measure.replace("_", " ")} for each in result.families
    ]
    caption = "Most severe effect of each family of tests, and its limits (drift.limits)."
    return make_table(caption, tables.FAMILIES, [SimpleNamespace(**row) for row in rows])


def inputs_table(result: DriftResult | None) -> ReportTable | None:
    """Return the table of the inputs, the highest level first; None without tests."""
    caption = "Values of the inputs, compared with the reference; significant changes first."
    return _tests_table(caption, tables.INPUTS, result.inputs if result else ())


def outputs_table(result: DriftResult | None) -> ReportTable | None:
    """Return the table of the scores, the highest level first; None without tests."""
    caption = "Scores of the model, compared with the reference; the change of the mean has a 95% interval."
    return _tests_table(caption, tables.OUTPUTS, result.outputs if result else ())


def _tests_table(
    caption: str, columns: Sequence[Column], results: Sequence[InputResult | OutputResult]
) -> ReportTable | None:
    """Return the table of test results, the highest level first; None without results."""
    ordered = sorted(results, key=lambda each: (-each.level.order, each.p, -each.distance))
    return make_table(caption, columns, ordered).limit(MOST_TOP_CHANGES) if ordered else None


def segments_table(result: DriftResult | None) -> ReportTable | None:
    """Return the table of the segments, the most urgent first; None without segments."""
    if result is None or not result.segments:
        return None
    return make_table("Segments of the records, each tested separately.", tables.SEGMENTS, segment_rows(result))


def segment_rows(result: DriftResult) -> list[SegmentRow]:
    """Return the results of the segments, the most urgent first."""
    return [_segment_row(segment) for segment in sorted(result.segments, key=_segment_urgency)]


def _segment_row(segment: SegmentResult) -> SegmentRow:
    row = SegmentRow(segment.name, segment.level.words, segment.rows_reference, segment.rows_live)
    if not segment.labels:
        return row
    worst = max(segment.labels, key=severity)
    top = max(worst.features, key=lambda feature: abs(feature.share_now - feature.share_before))
    shift = worst.attribution_shift
    return replace(row, attribution_shift=shift.value, noise=shift.noise, p=worst.p, top_change=top.name)


def _segment_urgency(segment: SegmentResult) -> tuple[int, float]:
    return -segment.level.order, -max((label.attribution_shift.value or 0.0 for label in segment.labels), default=0.0)


def rows_per_label(count: int, most: int) -> int:
    """Return the maximum number of rows per label: `most` divided by the number of labels, at least `FEWEST_ROWS`."""
    return max(FEWEST_ROWS, most // max(1, count))
