"""Drift detection: tests, levels and calibration; segments, canary and previous windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, ks_2samp

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Canary, DriftResult, Level
from runner.drift.counts import extremes
from runner.drift.detect import detect_drift
from runner.drift.ranking import rank_labels
from runner.drift.significance import holm
from runner.drift.summary import sentence
from runner.errors import FeatureMismatch
from tests.drift.samples import HOUR, POLICY, SCALES, compared, local_attributions, mean_abs
from tests.golden import Golden

REFERENCE = local_attributions(600, 0)
SAME_MODEL, CHANGED_MODEL = Canary(20, changed=False, difference=0.0, attribution_shift=0.0), Canary(20, True, 0.5, 0.2)


def scaled(**factors: float) -> Attributions:
    """Return attributions of other records, multiplied by the factors of some features."""
    return local_attributions(300, 1, SCALES * np.array([factors.get(name, 1.0) for name in "abcde"]))


def test_no_drift_is_not_reported() -> None:
    """Each effect is within its permutation distribution."""
    found = compared(POLICY, REFERENCE, local_attributions(300, 1), "mean_abs", HOUR)
    (label,) = found.labels
    assert (found.level, found.rows_reference, found.rows_live) == (Level.NONE, 600, 300)
    assert label.attribution_shift.value is not None
    assert label.attribution_shift.noise is not None
    assert label.attribution_shift.value < label.attribution_shift.noise < 0.1
    assert label.p > 0.01


@pytest.mark.parametrize(
    ("factors", "level", "top_change"),
    [
        ({"e": 2.0}, Level.INFO, "e"),
        ({"c": 2.0}, Level.WARNING, "c"),
        ({"d": 8.0}, Level.VIOLATION, "d"),
        (dict.fromkeys("abcde", 2.5), Level.VIOLATION, None),
        (dict.fromkeys("abcde", 0.6), Level.WARNING, None),
    ],
)
def test_level_depends_on_the_size_of_the_change(
    factors: dict[str, float], level: Level, top_change: str | None
) -> None:
    """Changes are immaterial, material or severe; a common factor of all features does not change the ranking."""
    (label,) = compared(POLICY, REFERENCE, scaled(**factors), "mean_abs", HOUR).labels
    assert label.level == level
    assert top_change is None or label.top_changes[0].name == top_change


def test_flipped_sign_is_severe() -> None:
    """Global attributions are unchanged; the distribution of the local ones is not."""
    skewed = replace(REFERENCE, phi_NDL=abs(REFERENCE.phi_NDL))
    found = compared(POLICY, skewed, replace(skewed, phi_NDL=-skewed.phi_NDL), "mean_abs", HOUR)
    assert found.level == Level.VIOLATION
    assert found.labels[0].attribution_shift.value == pytest.approx(0, abs=1e-12)
    assert found.labels[0].signed_shift == pytest.approx(2, abs=0.1)


def test_p_values_match_scipy_after_holm_correction() -> None:
    """Two labels with five features are ten tests, each of the distribution and of the tails."""
    reference, live = (
        local_attributions(200, 2, labels=("y", "z")),
        local_attributions(100, 3, SCALES * [1, 1, 1.3, 1, 1], ("y", "z")),
    )
    found = compared(POLICY, reference, live, "mean_abs", HOUR)
    sides = [side.phi_NDL.swapaxes(1, 2).reshape(len(side.phi_NDL), -1) for side in (reference, live)]
    exact = [ks_2samp(*columns, method="exact").pvalue for columns in zip(sides[0].T, sides[1].T, strict=True)]
    tails = [extremes(*columns) for columns in zip(sides[0].T, sides[1].T, strict=True)]
    truth = holm(np.minimum(1, 2 * np.minimum(exact, tails))) * (3 + 2 + 3) / 3
    p_values = [feature.p for label in found.labels for feature in label.features]
    assert p_values == pytest.approx(truth.clip(max=1).tolist(), rel=1e-6)


def test_features_match_by_name_and_labels_by_name_or_position() -> None:
    """The order of the features does not matter."""
    live = local_attributions(300, 1)
    order = [3, 1, 4, 0, 2]
    shuffled = replace(live, names=tuple(live.names[d] for d in order), phi_NDL=live.phi_NDL[:, order], labels=("0.7",))
    first, second = (compared(POLICY, REFERENCE, each, "mean_abs", HOUR).labels[0] for each in (live, shuffled))
    assert {each.name: each.p for each in first.features} == {each.name: each.p for each in second.features}
    assert (second.label, second.reference_label) == ("0.7", "y")
    with pytest.raises(FeatureMismatch):
        compared(POLICY, REFERENCE, replace(live, names=tuple("vwxyz")), "mean_abs", HOUR)


@pytest.mark.parametrize(("rows", "reference_rows"), [(29, 600), (300, 29)])
def test_too_few_records_have_no_result(rows: int, reference_rows: int, golden: Golden) -> None:
    """A note states the required number of records."""
    found = compared(
        POLICY,
        local_attributions(reference_rows, 0),
        scaled(a=9.0) if rows == 300 else local_attributions(rows, 1, SCALES * 9),
        "mean_abs",
        HOUR,
    )
    assert (found.level, found.labels) == (Level.INSUFFICIENT_DATA, ())
    golden(found.notes[0])
    assert "drift.min_rows=30" in found.notes[0]


def test_effects_of_zero_attributions_are_undefined() -> None:
    """The change is detected, but the shares are undefined."""
    zero = replace(local_attributions(300, 1), phi_NDL=np.zeros((300, 5, 1)))
    (label,) = compared(POLICY, REFERENCE, zero, "mean_abs", HOUR).labels
    assert (label.attribution_shift.value, label.total_log2_change.value) == (None, None)
    assert label.level == Level.VIOLATION
    assert label.signed_shift == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("agg_method", ["mean_abs", "mean_sq", "median"])
def test_same_seed_gives_the_same_result(agg_method: str) -> None:
    """Results are bit-identical."""
    live = local_attributions(300, 1)
    first, second = (compared(POLICY, REFERENCE, live, agg_method, HOUR) for _ in range(2))
    assert first == second


@pytest.mark.soak
@pytest.mark.parametrize("rows", [10, 30, 100])
def test_rate_of_false_alarms_is_the_significance_level(rows: int) -> None:
    """With a significance level of 5 %, at most 5 % of windows without drift have a result."""
    windows, level = 400, 0.05
    policy = replace(POLICY, false_alarms_per_year=8760 * level, min_rows=2, permutations=1)
    alarms = 0
    for window in range(windows):
        found = compared(
            policy, local_attributions(100, 2 * window), local_attributions(rows, 2 * window + 1), "mean_abs", HOUR
        )
        alarms += found.labels[0].level != Level.NONE
    assert alarms <= binom.ppf(0.999, windows, level)
    assert alarms >= binom.ppf(0.001, windows, level * 0.5)


def test_longer_window_has_a_higher_significance_level() -> None:
    """There are fewer windows per year."""
    hourly, daily = (
        compared(POLICY, REFERENCE, local_attributions(300, 1), "mean_abs", each) for each in (HOUR, 24 * HOUR)
    )
    assert daily.significance == pytest.approx(24 * hourly.significance)
    assert daily.minimum_detectable_change < hourly.minimum_detectable_change


def records(rows: int, seed: int, changed: int | None = None, factor: float = 9.0) -> Explained:
    """Return records in five groups; in the group `changed`, attributions and values of `c` are multiplied."""
    phi = local_attributions(rows, seed)
    group_N = np.arange(rows) % 5
    values_ND = phi.phi_NDL[:, :, 0].copy()
    if changed is not None:
        phi.phi_NDL[group_N == changed, 2] *= factor
        values_ND[group_N == changed, 2] *= factor
    features = pl.DataFrame(values_ND, schema=list(phi.names)).with_columns(pl.Series("e", group_N))
    return Explained(features, phi)


def segmented(live: Explained, **changes: object) -> DriftResult:
    """Return the drift result by segments."""
    return detect_drift(replace(POLICY, segment_by="e", **changes), records(1500, 0), live, "mean_abs", HOUR)  # type: ignore[arg-type]


def test_change_in_one_segment_is_found(golden: Golden) -> None:
    """The segment has its own records, top changes and causes; other segments have none."""
    found = segmented(records(1000, 1, changed=3, factor=10.0))
    whole, segment = found.labels[0], found.segments[3]
    assert [each.level for each in found.segments if each is not segment] == [Level.NONE] * 4
    assert (segment.name, segment.rows_reference, segment.rows_live) == ("e: 3", 300, 200)
    assert segment.level.order > whole.level.order
    assert found.level == segment.level
    assert segment.labels[0].top_changes[0].name == "c"
    golden(segment.labels[0].changed.cause)


def test_p_values_are_corrected_for_segments() -> None:
    """With segments, p-values of the whole window are doubled."""
    live = records(1000, 1, changed=3)
    result, alone = segmented(live), detect_drift(POLICY, records(1500, 0), live, "mean_abs", HOUR)
    for with_segments, single in zip(result.labels[0].features, alone.labels[0].features, strict=True):
        assert with_segments.p == pytest.approx(min(1.0, 2 * single.p))
    assert result.minimum_detectable_change > alone.minimum_detectable_change
    assert alone.segments == ()


def test_small_segments_have_no_result(golden: Golden) -> None:
    """They do not contribute to the verdict; without any segment of sufficient size there are no segments."""
    found = segmented(records(104, 1), min_rows=21)
    assert [segment.name for segment in found.segments] == ["e: 0", "e: 1", "e: 2", "e: 3", "e: all others"]
    assert [segment.level for segment in found.segments] == [Level.NONE] * 4 + [Level.INSUFFICIENT_DATA]
    assert found.segments[4].labels == ()
    none = segmented(records(100, 1, changed=3), min_rows=30)
    assert none.segments == ()
    golden("\n".join(none.notes))


@pytest.mark.parametrize("canary", [None, SAME_MODEL, CHANGED_MODEL], ids=["no canary", "same model", "changed model"])
def test_canary_gives_the_cause_of_unchanged_values(canary: Canary | None, golden: Golden) -> None:
    """If the values of a feature are unchanged, the cause depends on whether the model has changed."""
    before, now = records(600, 0), records(300, 1)
    now.attributions.phi_NDL[:, 2] *= 9
    found = detect_drift(POLICY, before, now, "mean_abs", HOUR, canary)
    golden("\n".join([found.labels[0].top_changes[0].cause or "", *found.notes]))
    assert len(found.notes) == (canary is CHANGED_MODEL)


@pytest.mark.parametrize(
    ("past", "level"),
    [
        ([], Level.NONE),
        ([Level.NONE, Level.NONE], Level.NONE),
        ([Level.WARNING, Level.NONE], Level.WARNING),
        ([Level.VIOLATION, Level.WARNING], Level.VIOLATION),
        ([Level.VIOLATION, Level.NONE, Level.NONE], Level.NONE),
        ([Level.INSUFFICIENT_DATA, Level.INFO], Level.INFO),
    ],
)
def test_alert_needs_several_windows(past: list[Level], level: Level) -> None:
    """The alert level is reached by two of the last three windows."""
    rule = replace(POLICY, datapoints_to_alert=2, evaluation_period=3)
    live = records(300, 1)
    live.attributions.phi_NDL[:, 3] *= 8
    found = detect_drift(rule, records(600, 0), live, "mean_abs", HOUR, past=past)
    assert (found.level_alone, found.level) == (Level.VIOLATION, level)


def test_too_few_records_ignore_previous_windows() -> None:
    """The level is `insufficient_data`."""
    rule = replace(POLICY, datapoints_to_alert=2, evaluation_period=3)
    few = records(10, 1)
    found = detect_drift(rule, records(600, 0), few, "mean_abs", HOUR, past=[Level.VIOLATION] * 2)
    assert (found.level_alone, found.level) == (Level.INSUFFICIENT_DATA, Level.INSUFFICIENT_DATA)


def test_changed_correlation_is_detected_by_the_classifier() -> None:
    """Its level depends on the area under the ROC curve."""
    live = records(600, 1)
    live.attributions.phi_NDL[:, 1] = live.attributions.phi_NDL[:, 0] * SCALES[1] / SCALES[0]
    found = detect_drift(replace(POLICY, classifier=True), records(600, 0), live, "mean_abs", HOUR)
    assert found.labels[0].level == Level.NONE
    assert found.level == Level.WARNING
    assert found.separability is not None
    assert found.separability.value is not None
    assert found.separability.value > 0.6


COLUMNS: dict[str, Callable[[int], list[Any]]] = {
    "numbers": lambda n: np.random.default_rng(n).normal(size=n).tolist(),
    "constant": lambda n: [3.0] * n,
    "missing": lambda n: [None] * n,
    "huge": lambda n: (np.random.default_rng(n).normal(size=n) * 1e300).tolist(),
    "tiny": lambda n: (np.random.default_rng(n).random(n) * 1e-300).tolist(),
    "not finite": lambda n: [float("nan"), float("inf"), -float("inf"), 1.0] * (n // 4) + [0.5] * (n % 4),
    "booleans": lambda n: [i % 3 == 0 for i in range(n)],
    "strings": lambda n: [("a", " a", "B", "2,5")[i % 4] for i in range(n)],
    "identifiers": lambda n: [f"id{i * 7919}" for i in range(n)],
    "half": lambda n: [None if i % 2 else float(i) for i in range(n)],
    "one": lambda n: [float(i == 0) for i in range(n)],
}


@pytest.mark.parametrize("before", COLUMNS)
@pytest.mark.parametrize("now", COLUMNS)
def test_any_values_have_a_result(before: str, now: str) -> None:
    """P-values and sizes are finite, and a changed kind of values is significant."""
    sides = []
    for kind, rows in ((before, 200), (now, 61)):
        features = pl.DataFrame({"x": COLUMNS[kind](rows)}, strict=False)
        phi_NDL = np.zeros((rows, 1, 1))
        sides.append(Explained(features, Attributions(("x",), ("y",), phi_NDL, np.zeros(1), phi_NDL[:, 0], 0)))
    found = detect_drift(POLICY, sides[0], sides[1], "mean_abs", HOUR)
    (column,) = found.inputs
    assert np.isfinite([column.p, column.distance, column.size, column.unseen]).all()
    if {before, now} & {"missing", "constant", "strings"} and before != now and "not finite" not in {before, now}:
        assert column.p <= found.significance


def test_noise_is_a_warning_although_no_distribution_changed(golden: Golden) -> None:
    """The level follows from the deviation of the feature from its prediction by the others."""
    rng = np.random.default_rng(1)
    sides = []
    for rows, noise in ((1000, 0.0), (300, 0.5)):
        risk_N = rng.normal(size=rows)
        columns = {
            "score": (650 + 60 * risk_N + 60 * noise * rng.normal(size=rows)).round(),
            "rate": 0.09 - 0.02 * risk_N,
        }
        features = pl.DataFrame(columns).with_columns(pl.col("rate") + 0.005 * pl.Series(rng.normal(size=rows)))
        phi_NDL = rng.normal(size=(rows, 2, 1))
        sides.append(
            Explained(features, Attributions(("score", "rate"), ("y",), phi_NDL, np.zeros(1), phi_NDL[:, 0], 0))
        )
    found = detect_drift(replace(POLICY, classifier=True), sides[0], sides[1], "mean_abs", HOUR)
    assert found.changed_inputs == ()
    assert found.association is not None
    assert (found.level, found.association.level) == (Level.WARNING, Level.WARNING)
    assert {found.association.first, found.association.second} == {"score", "rate"}
    before, now = (mean_abs(side.attributions) for side in sides)
    golden(sentence(rank_labels(before, now, 0.9), found, before, now))


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (lambda v: v / 1.609344, Level.WARNING),
        (lambda v: v * 1.02, Level.INFO),
        (lambda v: v.cast(pl.String), Level.VIOLATION),
        (lambda v: v + 1, Level.INFO),
    ],
    ids=["miles", "2 % more", "strings", "population"],
)
def test_alteration_of_the_values_is_graded(change: Callable[[pl.Series], pl.Series], level: Level) -> None:
    """Values in another unit have another step; a population may be a little larger."""
    distances = [
        pl.Series(np.random.default_rng(i).exponential(14, rows).round(1)) for i, rows in ((0, 1000), (1, 300))
    ]
    sides = []
    for values in (distances[0], change(distances[1])):
        phi_NDL = np.zeros((len(values), 1, 1))
        attributions = Attributions(("x",), ("y",), phi_NDL, np.zeros(1), phi_NDL[:, 0], 0)
        sides.append(Explained(pl.DataFrame({"x": values}), attributions))
    assert detect_drift(POLICY, sides[0], sides[1], "mean_abs", HOUR).level == level
