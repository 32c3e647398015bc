"""Likely causes of a change, derived from the values of a feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions
from runner.drift.causes import MOST_FEATURES, SAME, likely_cause, with_causes
from runner.drift.detect import Detector
from tests.drift.samples import HOUR, POLICY, SCALES, local_attributions
from tests.golden import Golden

RNG = np.random.default_rng(8)
HOURS = RNG.integers(1, 80, 1000).astype(float)
SEX = (RNG.random(1000) < 0.7).astype(float)
BALANCE = RNG.normal(3, 4, 1000)


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (HOURS, lambda v: v / 10),
        (HOURS, lambda v: v * 60),
        (HOURS, lambda v: v * 12),
        (BALANCE, lambda v: v / 0.45359237),
        (BALANCE, lambda v: -v),
        (SEX, lambda v: 1 - v),
        (np.floor(HOURS / 30), lambda v: v + 1),
        (np.floor(HOURS / 30), lambda v: v - 1),
        (HOURS, lambda v: v * 0 + 40),
        (BALANCE, lambda v: v + 5),
        (np.floor(HOURS / 30), lambda v: np.where(v == 0, 2, v)),
        (np.floor(HOURS / 30), lambda v: np.where(v == 0, 7, v)),
        (HOURS, lambda v: v),
    ],
)
def test_cause_of_changed_numbers(
    values: np.ndarray, change: Callable[[np.ndarray], np.ndarray], golden: Golden
) -> None:
    """Each kind of change is recognized in other records than those of the reference."""
    golden(likely_cause(pl.Series(values[:600]), pl.Series(change(values[600:]))) or SAME)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["US"] * 9 + ["DE"], ["US"] * 5 + ["FR"] * 5),
        (["US"] * 9 + ["DE"], ["US"] * 4 + ["DE"] * 6),
        (["US"] * 9 + ["DE"], ["US"] * 9 + ["DE"]),
        ([1.0, 2.0] * 5, [1.0, None] * 5),
        ([None, None], [None, None]),
        ([True, False], [True, True]),
        ([1, 2, 3] * 9, ["1", "2", "x"] * 9),
        (["<b>"] * 9, ["'\n"] * 4 + ['"'] * 5),
    ],
)
def test_cause_of_other_changed_values(before: list[Any], now: list[Any], golden: Golden) -> None:
    """Strings, booleans, nulls and changed types are recognized."""
    golden(likely_cause(pl.Series(before), pl.Series(now)) or SAME)


def inputs_like(attributions: Attributions) -> pl.DataFrame:
    """Return feature values equal to the attributions of the first label."""
    return pl.DataFrame(attributions.phi_NDL[:, :, 0], schema=list(attributions.names))


def test_only_significant_changes_have_a_cause() -> None:
    """The number of features with a cause is limited."""
    scales = np.ones(10)
    reference, live = local_attributions(600, 0, scales), local_attributions(300, 1, scales * 9)
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    inputs = inputs_like(reference), inputs_like(live)
    causes = [feature.cause for feature in with_causes(found, *inputs).labels[0].features]
    assert sum(cause is not None for cause in causes) == min(MOST_FEATURES, 10)
    unchanged = Detector(POLICY).find(reference, local_attributions(300, 1, scales), "mean_abs", HOUR)
    assert with_causes(unchanged, *inputs) == unchanged


def test_feature_has_the_same_cause_for_all_labels() -> None:
    """The cause depends only on the values."""
    reference, live = local_attributions(600, 0, labels=("y", "z")), local_attributions(300, 1, SCALES * 3, ("y", "z"))
    inputs = inputs_like(reference), inputs_like(live)
    first, second = with_causes(Detector(POLICY).find(reference, live, "mean_abs", HOUR), *inputs).labels
    assert [feature.cause for feature in first.features] == [feature.cause for feature in second.features]


@pytest.mark.parametrize(
    "now",
    [
        {"years": HOURS[600:], "city": ["a"] * 300 + ["b"] * 100},
        {"years": HOURS[600:] * 12, "city": ["a"] * 300 + ["b"] * 100},
        {"years": HOURS[600:] + 2, "city": ["c"] * 400},
        {"years": [None] * 400, "city": ["b"] * 300 + ["a"] * 100},
        {"years": [None] * 4 + [1.0] * 396, "city": [None] * 120 + ["a"] * 280},
    ],
    ids=["unchanged", "years times 12", "new city", "no years", "constant years"],
)
def test_cause_of_a_group_is_that_of_its_most_changed_feature(now: dict[str, Any], golden: Golden) -> None:
    """A group has one attribution and one cause."""
    reference, live = local_attributions(600, 0), local_attributions(400, 1, SCALES * 9)
    name = reference.names[0]
    before = (
        inputs_like(reference)
        .rename({name: "years"})
        .with_columns(pl.Series("years", HOURS[:600]), pl.Series("city", ["a"] * 450 + ["b"] * 150))
    )
    after = inputs_like(live).drop(name).with_columns(pl.Series(key, value, strict=False) for key, value in now.items())
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    (label,) = with_causes(found, before, after, groups={name: ["years", "city"]}).labels
    (cause,) = [feature.cause for feature in label.features if feature.name == name]
    assert cause is not None
    golden(cause)
