"""Attribution shares, attribution shift, total attribution, permutations, canary records, and effects of families."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from runner.domain.attributions import Attributions
from runner.domain.drift import (
    CLEAR,
    CONFIDENCE,
    Association,
    Canary,
    DriftResult,
    Effect,
    FamilyEffect,
    InputResult,
    LabelResult,
    Level,
    OutputResult,
    Parity,
)
from runner.drift import effects
from runner.drift.effects import (
    attribution_shift,
    canary,
    canary_summary,
    families,
    observed_pair,
    p_value,
    permuted_pairs,
    share_change,
    total_log2_change,
)
from tests.drift.samples import POLICY, local_attributions
from tests.golden import Golden

VALUES = arrays(np.float64, 5, elements=st.floats(0.001, 1000))


@given(VALUES, VALUES, st.floats(0.01, 100))
def test_attribution_shift_is_a_distance_without_scale(before_D: np.ndarray, now_D: np.ndarray, factor: float) -> None:
    """It is in [0, 1], symmetric, 0 if all features grow alike, and the sum of all gained shares."""
    changed = attribution_shift(before_D, now_D)
    assert 0 <= changed <= 1
    assert changed == pytest.approx(attribution_shift(now_D, before_D))
    assert changed == pytest.approx(attribution_shift(before_D * factor, now_D))
    assert attribution_shift(before_D, before_D * factor) == pytest.approx(0, abs=1e-12)
    assert share_change(before_D, now_D).sum() == pytest.approx(0, abs=1e-12)
    assert share_change(before_D, now_D).clip(min=0).sum() == pytest.approx(changed)


def test_attribution_shift_of_two_features_equals_the_wasserstein_distance() -> None:
    """Total variation on two points equals scipy's Wasserstein distance."""
    before_D, now_D = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    truth = wasserstein_distance([0, 1], [0, 1], before_D, now_D)
    assert attribution_shift(before_D, now_D) == pytest.approx(truth)


@given(arrays(np.float64, (2, 4, 5), elements=st.sampled_from([0.0, 0.1, 0.3, 7.0])))
def test_several_rows_equal_single_rows(both_PD: np.ndarray) -> None:
    """Results are bit-identical, also for zeros; one row is broadcast to many."""
    before_PD, now_PD = both_PD
    for statistic in (attribution_shift, total_log2_change):
        single = [statistic(*row) for row in zip(before_PD, now_PD, strict=True)]
        np.testing.assert_array_equal(statistic(before_PD, now_PD), single)
        broadcast = [statistic(before_PD[0], now_D) for now_D in now_PD]
        np.testing.assert_array_equal(statistic(before_PD[0], now_PD), broadcast)


def test_zero_attributions_are_undefined() -> None:
    """Both statistics are NaN if one side is all zeros."""
    zeros_D, ones_D = np.zeros(3), np.ones(3)
    for before_D, now_D in ((zeros_D, ones_D), (ones_D, zeros_D), (zeros_D, zeros_D)):
        assert math.isnan(attribution_shift(before_D, now_D))
        assert math.isnan(total_log2_change(before_D, now_D))


def test_total_log2_change_of_a_doubled_total_is_1() -> None:
    """It does not depend on the shares."""
    assert total_log2_change(np.array([1.0, 3.0]), np.array([4.0, 4.0])) == 1


@pytest.mark.parametrize("agg_method", ["mean_abs", "mean_sq", "median"])
@pytest.mark.parametrize(("N", "M"), [(3, 5), (5, 3)])
def test_random_divisions_are_uniform(agg_method: str, N: int, M: int) -> None:
    """Values, mean and standard deviation match all divisions of eight records."""
    rng = np.random.default_rng(4)
    pooled_KD = rng.normal(size=(N + M, 2))
    all_divisions = []
    for chosen in combinations(range(N + M), N):
        mask = np.isin(np.arange(N + M), chosen)
        all_divisions.append([*observed_pair(pooled_KD[mask], pooled_KD[~mask], agg_method)])
    truth = np.array(all_divisions)
    reference_PD, live_PD = permuted_pairs(pooled_KD[:N], pooled_KD[N:], agg_method, 20_000, np.random.default_rng(5))
    drawn = np.stack([reference_PD, live_PD], axis=1)
    possible = {tuple(np.round(each.ravel(), 9)) for each in truth}
    assert {tuple(np.round(each.ravel(), 9)) for each in drawn[:2000]} <= possible
    assert drawn.mean(axis=0) == pytest.approx(truth.mean(axis=0), rel=0.03)
    assert drawn.std(axis=0) == pytest.approx(truth.std(axis=0), rel=0.05)


def test_same_seed_gives_the_same_divisions() -> None:
    """Results are bit-identical; the inputs are unchanged."""
    rng = np.random.default_rng(6)
    reference_ND, live_MD = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    copies = reference_ND.copy(), live_MD.copy()
    first, second = (permuted_pairs(*copies, "mean_abs", 50, np.random.default_rng(7)) for _ in range(2))
    assert first.live.tolist() == second.live.tolist()
    assert (reference_ND == copies[0]).all()
    assert (live_MD == copies[1]).all()


def test_blocks_have_the_distribution_of_single_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many records are permuted in blocks; means, deviations and the sum of both sides are those of single records."""
    rng = np.random.default_rng(8)
    reference_ND, live_MD = rng.exponential(size=(4_003, 2)), rng.exponential(size=(5_001, 2))
    drawn = []
    for most in (1_000, 10_000):
        monkeypatch.setattr(effects, "MOST_BLOCKS", most)
        drawn.append(permuted_pairs(reference_ND, live_MD, "mean_abs", 2_000, np.random.default_rng(9)))
    blocks, records = drawn
    for block_PD, record_PD in zip(blocks, records, strict=True):
        assert block_PD.mean(axis=0) == pytest.approx(record_PD.mean(axis=0), rel=2e-3)
        assert block_PD.std(axis=0) == pytest.approx(record_PD.std(axis=0), rel=0.1)
    total_D = reference_ND.sum(axis=0) + live_MD.sum(axis=0)
    assert (blocks.reference * 4_003 + blocks.live * 5_001)[0] == pytest.approx(total_D)


def test_p_value_is_never_zero() -> None:
    """The observed division counts as one of the divisions."""
    assert p_value(9.0, np.zeros(99)) == 0.01
    assert p_value(0.0, np.zeros(99)) == 1.0


REFERENCE = local_attributions(20, 0)


def scaled_scores(attributions: Attributions, factor: float) -> Attributions:
    """Return attributions of a model with multiplied scores, changed by its first feature alone."""
    phi_NDL = attributions.phi_NDL.copy()
    phi_NDL[:, 0] += (factor - 1) * attributions.scores_NL
    return replace(attributions, phi_NDL=phi_NDL, scores_NL=factor * attributions.scores_NL)


def test_same_model_is_unchanged(golden: Golden) -> None:
    """Rounded scores are the same scores."""
    found = canary(REFERENCE, scaled_scores(REFERENCE, 1 + 1e-9), "mean_abs", comparable=True)
    assert not found.changed
    assert found.attribution_shift == pytest.approx(0, abs=1e-6)
    golden(canary_summary(found))


def test_changed_model_is_reported(golden: Golden) -> None:
    """The scores decide if the model has changed; the attributions give the attribution shift."""
    found = canary(REFERENCE, scaled_scores(REFERENCE, 1.5), "mean_abs", comparable=True)
    before_D, now_D = (abs(each.phi_NDL[:, :, 0]).mean(axis=0) for each in (REFERENCE, scaled_scores(REFERENCE, 1.5)))
    assert found.changed
    assert found.difference == pytest.approx(abs(REFERENCE.scores_NL).max() / 2)
    assert found.attribution_shift == pytest.approx(abs(before_D / before_D.sum() - now_D / now_D.sum()).sum() / 2)
    golden(canary_summary(found))


def test_other_estimator_settings_have_no_attribution_shift() -> None:
    """Only the scores are compared."""
    same, other = (canary(REFERENCE, scaled_scores(REFERENCE, x), "mean_abs", comparable=False) for x in (1, 2))
    assert (same.changed, same.attribution_shift) == (False, None)
    assert (other.changed, other.attribution_shift) == (True, None)


def test_features_are_matched_by_name() -> None:
    """Another order of the features is no change."""
    order = [3, 1, 4, 0, 2]
    now = replace(REFERENCE, names=tuple(REFERENCE.names[d] for d in order), phi_NDL=REFERENCE.phi_NDL[:, order])
    assert canary(REFERENCE, now, "mean_abs", comparable=True).attribution_shift == pytest.approx(0, abs=1e-12)


def test_another_number_of_outputs_is_another_model() -> None:
    """The scores are not compared."""
    two = replace(
        REFERENCE,
        labels=("y", "z"),
        phi_NDL=np.repeat(REFERENCE.phi_NDL, 2, axis=2),
        scores_NL=np.repeat(REFERENCE.scores_NL, 2, axis=1),
        expected_L=np.zeros(2),
    )
    assert canary(REFERENCE, two, "mean_abs", comparable=True).changed


SHIFT, TOTAL = Effect(0.2, 0.05, 0.001), Effect(-1.5, 0.25, 0.001)
LABEL = LabelResult("y", "y", Level.VIOLATION, 1e-9, SHIFT, TOTAL, Effect(None, None, None), ())
SCORES = OutputResult("y", Level.WARNING, 1e-9, 0.3, 0.25, 0.5, 0.125, 0.375, 2.0)
MISSING = InputResult("a", Level.WARNING, 1e-9, 0.125, 0.0, 0.25, 0.0, 0.0, constant=False)
MOVED = InputResult("b", Level.WARNING, 1e-9, 0.375, 0.0, 0.0, 0.0, 0.0, constant=False)
QUIET = InputResult("c", Level.NONE, 1.0, 0.875, 0.0, 0.0, 0.0, 0.0, constant=False)
RESULT = DriftResult(
    Level.VIOLATION,
    Level.VIOLATION,
    600,
    300,
    1e-4,
    0.17,
    (LABEL,),
    inputs=(QUIET, MOVED, MISSING),
    outputs=(SCORES,),
    separability=Effect(0.8, 0.55, 1e-9),
)


def found(result: DriftResult = RESULT, **model: object) -> dict[str, FamilyEffect]:
    """Return the effects by family."""
    return {each.family: each for each in families(result, POLICY.limits, **model)}  # type: ignore[arg-type]


def test_each_family_has_its_most_severe_effect() -> None:
    """The highest level first, then the size relative to its limits: 25 % missing is worse than a distance of 0.375."""
    effects = found()
    assert list(effects) == ["inputs", "outputs", "attributions", "joint"]
    assert [(each.name, each.measure, each.value) for each in effects.values()] == [
        ("a", "input_invalid", 0.25),
        ("y", "mean_score", 0.125),
        ("y", "total_log2_change", -1.5),
        ("", "separability", 0.8),
    ]
    assert [each.level for each in effects.values()] == [
        Level.WARNING,
        Level.WARNING,
        Level.VIOLATION,
        Level.WARNING,
    ]


def test_of_effects_far_above_their_limits_the_largest_is_named() -> None:
    """The table names the same label and the same input as the sentence."""
    level = Level.VIOLATION
    outputs = tuple(replace(SCORES, label=label, mean_now=now, level=level) for label, now in (("x", 3.0), ("y", 9.0)))
    labels = tuple(
        replace(LABEL, label=label, attribution_shift=replace(SHIFT, value=size))
        for label, size in (("x", 0.8), ("y", 0.9))
    )
    effects = found(replace(RESULT, outputs=outputs, labels=labels))
    assert [(effects[name].name, effects[name].severity) for name in ("outputs", "attributions")] == [("y", 4.0)] * 2
    gone = [replace(MISSING, name=name, missing_now=1.0, p=p, level=level) for name, p in (("a", 1e-9), ("b", 1e-12))]
    assert found(replace(RESULT, inputs=(QUIET, *gone)))["inputs"].name == "b"


def test_ranges_of_chance_are_those_of_the_tests() -> None:
    """The smallest detectable distance, an interval of the mean score, and the noise of permutations."""
    effects = found()
    assert effects["inputs"].chance == 0.17
    assert effects["outputs"].chance == pytest.approx(CLEAR * 0.125 / CONFIDENCE / 2.0)
    assert effects["attributions"].chance == 0.25
    assert effects["joint"].chance == 0.55


def test_a_changed_correlation_may_be_the_joint_effect() -> None:
    """If it is significant."""
    changed = Association("a", "b", 0.95, -0.25, 1e-9, Level.VIOLATION)
    assert found(replace(RESULT, association=changed))["joint"].name == "a and b"
    assert found(replace(RESULT, association=replace(changed, p=0.5, level=Level.NONE)))["joint"].name == ""


def test_the_model_is_compared_with_the_reference_and_with_the_serving_one() -> None:
    """Differences within rounding have no level; an undefined range of chance is null."""
    same, other = Parity(0.0, 100), Parity(0.75, 100, 1e-4, 30)
    assert found(parity=same, canary=Canary(20, False, 0.0, 0.0))["model"].level is Level.NONE
    serving = found(parity=other, canary=Canary(20, False, 0.0, 0.0))["model"]
    assert (serving.name, serving.level, serving.value) == ("serving", Level.VIOLATION, 0.75)
    changed = found(parity=same, canary=Canary(20, True, 0.05, 0.0))["model"]
    assert (changed.name, changed.level, changed.chance) == ("reference", Level.WARNING, None)


def test_no_tests_have_no_effects() -> None:
    """As in a window with too few records."""
    assert found(DriftResult(Level.INSUFFICIENT_DATA, Level.INSUFFICIENT_DATA, 600, 3, 1e-4, 1.0, ())) == {}


@pytest.mark.parametrize(
    ("measure", "value", "position"),
    [
        ("attribution_shift", 0.05, 1.0),
        ("attribution_shift", -0.1, 2.0),
        ("attribution_shift", 0.25, 3.0),
        ("attribution_shift", 40.0, 4.0),
        ("attribution_shift", None, 0.0),
        ("separability", 0.5, 0.0),
        ("separability", 0.4, 0.0),
    ],
)
def test_severity_is_linear_between_the_limits(measure: str, value: float | None, position: float) -> None:
    """An AUC of 0.5 is no effect."""
    limits = (0.65, 0.95) if measure == "separability" else (0.1, 0.25)
    effect = FamilyEffect("f", Level.NONE, measure, "", value, None, *limits)
    assert effect.severity == pytest.approx(position)
    assert effect.chance_severity == 0.0
