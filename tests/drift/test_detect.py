"""The calibrated verdict: what it finds, how large it calls it, and how seldom it is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp

from runner.domain.attributions import Attributions
from runner.domain.drift import Level
from runner.drift.detect import Detector
from runner.drift.ks import holm
from runner.errors import FeatureMismatch
from tests.drift.samples import HOUR, POLICY, SCALES, local
from tests.golden import Golden

REFERENCE = local(600, 0)


def scaled(**times: float) -> Attributions:
    """Return other records, some features' attributions multiplied."""
    factors = np.array([times.get(name, 1.0) for name in "abcde"])
    return local(300, 1, SCALES * factors)


def test_nothing_is_nothing() -> None:
    """Records of the same kind: each effect lies within what chance does."""
    found = Detector(POLICY).find(REFERENCE, local(300, 1), "mean_abs", HOUR)
    (label,) = found.labels
    assert (found.level, found.rows_reference, found.rows_live) == (Level.NONE, 600, 300)
    assert label.attribution_shift.value is not None
    assert label.attribution_shift.noise is not None
    assert label.attribution_shift.value < label.attribution_shift.noise < 0.1
    assert label.p > 0.01


@pytest.mark.parametrize(
    ("times", "level", "mover"),
    [
        ({"e": 2.0}, Level.INFO, "e"),
        ({"c": 2.0}, Level.WARNING, "c"),
        ({"d": 8.0}, Level.VIOLATION, "d"),
        (dict.fromkeys("abcde", 2.5), Level.VIOLATION, None),
        (dict.fromkeys("abcde", 0.6), Level.WARNING, None),
    ],
)
def test_what_is_there_is_found_and_called_by_its_size(
    times: dict[str, float], level: Level, mover: str | None
) -> None:
    """Immaterial, material, severe; and what scales all features alike, which no ranking sees."""
    (label,) = Detector(POLICY).find(REFERENCE, scaled(**times), "mean_abs", HOUR).labels
    assert label.level == level
    assert mover is None or label.top_changes[0].name == mover


def test_a_sign_that_flips_is_detected_though_nothing_moves() -> None:
    """Global attributions stay as they are; the distribution of the local ones does not."""
    skewed = replace(REFERENCE, phi_NDL=abs(REFERENCE.phi_NDL))
    found = Detector(POLICY).find(skewed, replace(skewed, phi_NDL=-skewed.phi_NDL), "mean_abs", HOUR)
    assert found.level == Level.INFO
    assert found.labels[0].attribution_shift.value == pytest.approx(0, abs=1e-12)


def test_its_tests_are_scipys_corrected_over_features_and_labels() -> None:
    """Two labels are ten tests."""
    reference, live = local(200, 2, labels=("y", "z")), local(100, 3, SCALES * [1, 1, 1.3, 1, 1], ("y", "z"))
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    truth = [
        ks_2samp(reference.phi_NDL[:, d, i], live.phi_NDL[:, d, i], method="exact").pvalue
        for i in range(2)
        for d in range(5)
    ]
    told = [feature.p for label in found.labels for feature in label.features]
    assert told == pytest.approx(holm(np.array(truth)).tolist(), rel=1e-6)


def test_labels_and_features_are_matched_as_the_ranking_does() -> None:
    """Features by name in any order, labels by name or, one to one, by place."""
    live = local(300, 1)
    order = [3, 1, 4, 0, 2]
    shuffled = replace(live, names=tuple(live.names[d] for d in order), phi_NDL=live.phi_NDL[:, order], labels=("0.7",))
    one, two = (Detector(POLICY).find(REFERENCE, each, "mean_abs", HOUR).labels[0] for each in (live, shuffled))
    assert {each.name: each.p for each in one.features} == {each.name: each.p for each in two.features}
    assert (two.label, two.reference_label) == ("0.7", "y")
    with pytest.raises(FeatureMismatch):
        Detector(POLICY).find(REFERENCE, replace(live, names=tuple("vwxyz")), "mean_abs", HOUR)


@pytest.mark.parametrize(("rows", "kept"), [(29, 600), (300, 29)])
def test_too_few_records_support_no_finding(rows: int, kept: int, golden: Golden) -> None:
    """On either side; the note says how many there would have to be."""
    found = Detector(POLICY).find(
        local(kept, 0), scaled(a=9.0) if rows == 300 else local(rows, 1, SCALES * 9), "mean_abs", HOUR
    )
    assert (found.level, found.labels) == (Level.INSUFFICIENT_DATA, ())
    golden(found.notes[0])
    assert "drift.min_rows=30" in found.notes[0]


def test_attributions_that_are_all_zero_have_effects_without_a_value() -> None:
    """A model that ignores everything: detected, its shares undefined."""
    silent = replace(local(300, 1), phi_NDL=np.zeros((300, 5, 1)))
    (label,) = Detector(POLICY).find(REFERENCE, silent, "mean_abs", HOUR).labels
    assert (label.attribution_shift.value, label.total_log2_change.value) == (None, None)
    assert label.level == Level.INFO


@pytest.mark.parametrize("agg_method", ["mean_abs", "mean_sq", "median"])
def test_the_same_seed_finds_the_same(agg_method: str) -> None:
    """To the bit, whatever the order of the records in the window."""
    live = local(300, 1)
    one, two = (Detector(POLICY).find(REFERENCE, live, agg_method, HOUR) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("rows", [10, 30, 100])
def test_false_alarms_are_as_seldom_as_promised(rows: int) -> None:
    """Where everything that is detectable is told, five in a hundred windows are, and no more."""
    windows, level = 400, 0.05
    policy = replace(POLICY, false_alarms_per_year=8760 * level, min_rows=2, permutations=1)
    past = 0
    for window in range(windows):
        found = Detector(policy).find(local(100, 2 * window), local(rows, 2 * window + 1), "mean_abs", HOUR)
        past += found.labels[0].level != Level.NONE
    assert past <= binom.ppf(0.999, windows, level)
    assert past >= binom.ppf(0.001, windows, level * 0.5)


def test_a_longer_window_may_be_less_sure() -> None:
    """Fewer windows a year make fewer false alarms."""
    hourly, daily = (Detector(POLICY).find(REFERENCE, local(300, 1), "mean_abs", each) for each in (HOUR, 24 * HOUR))
    assert daily.significance == pytest.approx(24 * hourly.significance)
    assert daily.smallest < hourly.smallest
