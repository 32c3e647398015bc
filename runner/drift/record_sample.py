"""Records for the charts of a report: random ones of both sides, the ones that changed most, and pairs of scores.

Array letters: N reference records, M live records, D features, L labels, C categories.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import (
    ChangedRecord,
    Contribution,
    DriftResult,
    LabelResult,
    RecordSample,
    SampledFeature,
    ScoreGroup,
    ScorePairs,
    Value,
)
from runner.drift.counts import categories
from runner.drift.inputs import with_finite_numbers
from runner.drift.verdict import worst_label
from runner.errors import snippet

MOST_RECORDS = 200
"""Maximum number of random records of each side."""
MOST_FEATURES = 12
"""Maximum number of features of the random records."""
MOST_CHANGED = 5
"""Maximum number of records whose attributions changed most."""
MOST_CONTRIBUTIONS = 7
"""Number of features of such a record that are listed individually."""
MOST_GROUPS = 12
"""Maximum number of values of a feature by which differing scores are counted."""
CLEAR_GROUPS = 1e-4
"""Significance level, for all features together, at which scores differ for some values of a feature more often."""
Column = tuple[tuple[float, ...], tuple[Value, ...]]
"""Attributions and values of a feature."""
PHI_DIGITS, VALUE_DIGITS = 4, 6
"""Significant digits of attributions and of values."""


def record_sample(
    result: DriftResult, before: Explained, now: Explained, seed: int, random: int | None = None
) -> RecordSample | None:
    """Return records for the charts of the label with the highest level; None without tested labels.

    Args:
        result: result of the tests.
        before: reference records.
        now: live records.
        seed: seed of the random choice.
        random: number of live records that are a random sample of the window, the first ones; None for all.
    """
    if not result.labels:
        return None
    label = worst_label(result)
    counts = len(before.attributions.phi_NDL), len(now.attributions.phi_NDL) if random is None else random
    rng = np.random.default_rng([seed, *counts])
    drawn = [_drawn(side, count, rng) for side, count in zip((before, now), counts, strict=True)]
    names = _sampled_names(label, result)
    features = zip(
        names, *(_columns(side, name, names) for side, name in zip(drawn, _labels(label), strict=True)), strict=True
    )
    return RecordSample(
        label=label.label,
        features=tuple(
            SampledFeature(name, phi, live_phi, values, live_values)
            for name, (phi, values), (live_phi, live_values) in features
        ),
        changed=tuple(_changed(label, result.significance, now)),
    )


def score_pairs(
    features: pl.DataFrame,
    captured_ML: NDArray[np.float64],
    scores_ML: NDArray[np.float64],
    labels: Sequence[str],
    tolerance: float,
    seed: int,
) -> ScorePairs | None:
    """Return captured and recomputed scores of some records; None if all are equal.

    Args:
        features: records.
        captured_ML: captured scores, NaN if unknown.
        scores_ML: scores of the explained model.
        labels: labels of the scores.
        tolerance: largest difference that rounding explains.
        seed: seed of the random choice.
    """
    known_M = np.all(np.isfinite(captured_ML), axis=1)
    features, captured_ML, scores_ML = features.filter(known_M), captured_ML[known_M], scores_ML[known_M]
    gap_ML = abs(captured_ML - scores_ML)
    differs_M = np.any(gap_ML > tolerance, axis=1)
    if not differs_M.any():
        return None
    label, rng = int(gap_ML.max(axis=0).argmax()), np.random.default_rng([seed, len(gap_ML)])
    drawn = [rng.permutation(np.flatnonzero(side_M))[:MOST_RECORDS] for side_M in (~differs_M, differs_M)]
    rows = np.sort(np.concatenate(drawn))
    captured, recomputed = (
        tuple(_rounded(each, VALUE_DIGITS) for each in side_ML[rows, label].tolist())
        for side_ML in (captured_ML, scores_ML)
    )
    return ScorePairs(labels[label], captured, recomputed, _groups(features, differs_M))


def _groups(features: pl.DataFrame, differs_M: NDArray[np.bool_]) -> tuple[ScoreGroup, ...]:
    """Return the values of the feature on which it depends most clearly whether scores differ."""
    clearest, found = CLEAR_GROUPS / max(1, features.width), tuple[ScoreGroup, ...]()
    for column in features.iter_columns():
        if not 1 < column.n_unique() <= MOST_GROUPS:
            continue
        frame = pl.DataFrame({"value": column, "differs": differs_M})
        counts = frame.group_by("value", maintain_order=True).agg(pl.col("differs").sum(), pl.len())
        differing_C, records_C = counts["differs"].to_numpy().astype(int), counts["len"].to_numpy().astype(int)
        p = categories(records_C - differing_C, differing_C)
        if p < clearest:
            names = [f"{column.name} = {'missing' if value is None else snippet(value)}" for value in counts["value"]]
            groups = map(ScoreGroup, names, differing_C.tolist(), records_C.tolist())
            clearest, found = p, tuple(sorted(groups, key=lambda each: (-each.share, -each.records, each.name)))
    return found


def _labels(label: LabelResult) -> tuple[str, str]:
    return label.reference_label, label.label


def _drawn(explained: Explained, count: int, rng: np.random.Generator) -> Explained:
    """Return at most `MOST_RECORDS` of the first records, with missing values for numbers that are not finite."""
    chosen = rng.choice(count, MOST_RECORDS, replace=False) if count > MOST_RECORDS else np.arange(count)
    sample = explained.rows(np.sort(chosen))
    return Explained(with_finite_numbers(sample.features), sample.attributions)


def _sampled_names(label: LabelResult, result: DriftResult) -> list[str]:
    """Return the features with significant changes or large shares, in the order of the live shares."""
    changed = {each.name for each in result.changed_inputs}
    changed |= {each.name for each in label.features if each.p <= result.significance}
    order = sorted(label.features, key=lambda each: (each.name not in changed, -max(each.share_before, each.share_now)))
    return [each.name for each in sorted(order[:MOST_FEATURES], key=lambda each: -each.share_now)]


def _columns(explained: Explained, label: str, names: Sequence[str]) -> list[Column]:
    """Return the attributions and the values of each feature."""
    attributions, features = explained.attributions, explained.features
    phi_ND = attributions.phi_NDL[:, :, attributions.labels.index(label)]
    return [
        (
            tuple(_rounded(phi, PHI_DIGITS) for phi in phi_ND[:, attributions.names.index(name)].tolist()),
            _values(features[name]) if name in features.columns else (),
        )
        for name in names
    ]


def _changed(label: LabelResult, significance: float, now: Explained) -> list[ChangedRecord]:
    """Return the live records with the largest distance from the reference medians of the changed attributions."""
    changed = [each for each in label.features if each.p <= significance]
    if not changed:
        return []
    names = now.attributions.names
    phi_MD = now.attributions.phi_NDL[:, :, now.attributions.labels.index(label.label)]
    medians_D = np.array([each.median_before for each in changed])
    distance_M = abs(phi_MD[:, [names.index(each.name) for each in changed]] - medians_D).sum(axis=1)
    _, rows = np.unique(-distance_M, return_index=True)
    records = now.rows(rows[:MOST_CHANGED])
    return [_record(records, label.label, i, int(row)) for i, row in enumerate(rows[:MOST_CHANGED])]


def _record(records: Explained, label: str, index: int, row: int) -> ChangedRecord:
    attributions, features = records.attributions, with_finite_numbers(records.features)
    index_L = attributions.labels.index(label)
    phi_D = attributions.phi_NDL[index, :, index_L]
    order = np.argsort(-abs(phi_D), kind="stable")
    contributions = []
    for d in order[:MOST_CONTRIBUTIONS]:
        name = attributions.names[d]
        value = _values(features[name][index : index + 1])[0] if name in features.columns else None
        contributions.append(Contribution(name, value, _rounded(float(phi_D[d]), VALUE_DIGITS)))
    return ChangedRecord(
        row=row,
        score=_rounded(float(attributions.scores_NL[index, index_L]), VALUE_DIGITS),
        expected=_rounded(float(attributions.expected_L[index_L]), VALUE_DIGITS),
        contributions=tuple(contributions),
        others=len(order[MOST_CONTRIBUTIONS:]),
        others_phi=_rounded(float(phi_D[order[MOST_CONTRIBUTIONS:]].sum()), VALUE_DIGITS),
    )


def _values(values: pl.Series) -> tuple[Value, ...]:
    if values.dtype.is_numeric():
        return tuple(None if value is None else _rounded(float(value), VALUE_DIGITS) for value in values.to_list())
    return tuple(None if value is None else snippet(value) for value in values.to_list())


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")
