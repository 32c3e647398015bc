"""Most severe effect of each family, and its position between chance and the limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
from runner.drift.families import families
from tests.drift.samples import POLICY

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
